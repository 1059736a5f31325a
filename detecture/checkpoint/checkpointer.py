"""Checkpoints that survive a kill, and that say so when they have not."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from detecture.checkpoint.atomic import sha256_file, write_atomic, write_text_atomic
from detecture.d2 import DetectionCheckpointer
from detecture.errors import CheckpointError

logger = logging.getLogger(__name__)

_MANIFEST = "checkpoints.json"
_POINTER = "last_checkpoint"


class Checkpointer(DetectionCheckpointer):
    """Writes checkpoints whole or not at all, verifies them by SHA-256, and loads strictly.

    One flipped bit loads silently from a torch file, so every file's hash is kept in
    `checkpoints.json` beside it. When the newest checkpoint is damaged, resuming falls back to the
    one before.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Save model, optimiser and all else that was registered, as `<name>.pth`.

        Args:
            name: file name without ending.
            kwargs: further plain values to keep, such as the iteration.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        state: dict[str, Any] = {"model": self.model.state_dict()}
        state.update((key, part.state_dict()) for key, part in self.checkpointables.items())
        state.update(kwargs)
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("saving checkpoint to %s", path)
        before = read_manifest(path.parent).get(path.name, [])[-1:]
        staged = path.with_name(f"{path.name}.staged")
        write_atomic(staged, lambda file: torch.save(state, file))
        # The manifest knows the new content before the name points to it, and the old one until
        # then: a kill in between leaves a file that is in the manifest either way.
        digest = sha256_file(staged)
        _record_hashes(path, [*before, digest])
        staged.replace(path)
        _record_hashes(path, [digest])
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Point to the newest checkpoint."""
        write_text_atomic(Path(self.save_dir) / _POINTER, last_filename_basename)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint after checking its hash; every weight must find its place.

        Args:
            path: file; empty keeps the model as it was built.
            checkpointables: which registered parts to load beside the model; None for all.

        Raises:
            CheckpointError: the file is missing or damaged, or its weights do not fit the model
                (all names that are missing, left over or of another shape are listed).
        """
        if not path:
            return super().load(path, checkpointables)
        verify_checkpoint(Path(path))
        try:
            return super().load(path, checkpointables)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError) as error:
            raise CheckpointError(
                f"{path}: cannot be read as a checkpoint ({error}); it may be cut short. Copy it "
                "again, or name another one"
            ) from error

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Refuse a checkpoint that does not fit; the base class would only log it."""
        problems = [f"missing: {key}" for key in incompatible.missing_keys]
        problems += [f"left over: {key}" for key in incompatible.unexpected_keys]
        problems += [
            f"shape of {key}: {tuple(found)} in the file, {tuple(due)} in the model"
            for key, found, due in incompatible.incorrect_shapes
        ]
        if problems:
            raise CheckpointError(
                "the checkpoint does not fit the model: " + "; ".join(problems) + ". Use the "
                "config that it was trained with"
            )

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continue from the newest sound checkpoint of `save_dir`, or load weights from `path`.

        Raises:
            CheckpointError: with `resume`, there are checkpoints but all are damaged.
        """
        if not resume or not self.has_checkpoint():
            return self.load(path, checkpointables=[])
        candidates = self._newest_first()
        for candidate in candidates:
            try:
                return self.load(str(candidate))
            except CheckpointError as error:
                logger.error("CHECKPOINT REFUSED: %s. Going back to the one before", error)
        raise CheckpointError(
            f"{self.save_dir}: none of the {len(candidates)} checkpoints can be used; start anew "
            "without --resume, in another OUTPUT_DIR"
        )

    def _newest_first(self) -> list[Path]:
        last = Path(self.get_checkpoint_file())
        others = sorted(
            (p for p in Path(self.save_dir).glob("model_*.pth") if p.name != last.name),
            key=lambda p: p.stat().st_mtime,
            reverse=True,
        )
        return [last, *others]


def verify_checkpoint(path: Path) -> None:
    """Compare a file with the manifest beside it; a file that no manifest lists passes.

    Raises:
        CheckpointError: no such file, or its content is not what was written.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; check MODEL.WEIGHTS or OUTPUT_DIR")
    known = read_manifest(path.parent).get(path.name)
    if known and sha256_file(path) not in known:
        raise CheckpointError(
            f"{path}: damaged, its SHA-256 is not the one that was written ({_MANIFEST} beside it)"
        )


def read_manifest(folder: Path) -> dict[str, list[str]]:
    """File name -> accepted SHA-256 hashes, of the checkpoints in a folder."""
    try:
        return json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(f"{folder / _MANIFEST}: not valid JSON; delete it") from error


def _record_hashes(path: Path, hashes: list[str]) -> None:
    manifest = read_manifest(path.parent)
    manifest[path.name] = hashes
    # Files that were deleted since need no hash.
    kept = {k: v for k, v in manifest.items() if k == path.name or (path.parent / k).exists()}
    write_text_atomic(path.parent / _MANIFEST, json.dumps(kept, indent=1) + "\n")

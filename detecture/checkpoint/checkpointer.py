"""Checkpoints that survive a kill, and that say so when they have not.

A checkpoint `NAME` is `NAME.safetensors`, what trains and a header, and `NAME.training.pth`, what
is needed to go on: optimiser, hooks, iteration, seed. How it is written:

1. both files under names of their own (`*.staged`), each flushed to the disk;
2. their SHA-256 into `checkpoints.json`, beside those of the files that they replace;
3. the weights renamed to their final name (from here on the checkpoint is the new one), then the
   training state, and the folder flushed;
4. the old hashes taken out of `checkpoints.json`;
5. `last_checkpoint` pointed to it;
6. older periodic checkpoints deleted.

The training state holds the hash of its weights, so that a kill inside step 3 leaves no pair that
does not belong together.
"""

import hashlib
import io
import logging
import pickle
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from detecture.checkpoint.atomic import flush_folder, write_atomic, write_text_atomic
from detecture.checkpoint.manifest import read_manifest, record_hashes, verify_checkpoint
from detecture.checkpoint.misfits import misfits
from detecture.checkpoint.protocol import KeepsHeader, KeepsState
from detecture.checkpoint.shipped import locate
from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.d2 import DetectionCheckpointer
from detecture.errors import CheckpointError

logger = logging.getLogger(__name__)

_POINTER = "last_checkpoint"
_WEIGHTS, _TRAINING, _STAGED, _OLD = ".safetensors", ".training.pth", ".staged", ".pth"
# What torch.save writes is a zip archive or, long ago, a pickle.
_TORCH_FILE = (b"PK", b"\x80")
# What torch.load raises for a file that is none, or is damaged.
_UNREADABLE = (
    *(RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError),
    struct.error,
)
_PERIODIC = re.compile(r"model_\d+\.safetensors")
_BEST = "model_best"
_LEFT_BY_A_KILL = re.compile(r"(model_.*|last_checkpoint|checkpoints\.json)\.(tmp-\d+|staged)")


class Checkpointer(DetectionCheckpointer):
    """Writes checkpoints whole or not at all, verifies them by SHA-256, and loads strictly.

    A model may say what of it is kept, and how it is taken back, see `detecture.checkpoint.
    protocol`; otherwise it is the whole state dict.

    Args:
        model: `DistributedDataParallel` is looked through.
        save_dir: folder of the checkpoints.
        save_to_disk: whether to write; None: in the main process only.
        config: of the training, as yaml text, for the header.
        keep: so many of the newest periodic checkpoints (`model_<number>`) are kept.
        checkpointables: what else has `state_dict()` and `load_state_dict()`.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        config: str = "",
        keep: int = 2,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self._config = config
        self._keep = max(keep, 2)

    # ---- saving --------------------------------------------------------------------------------

    def save(self, name: str, **kwargs: Any) -> None:
        """Save weights and training state, and point `last_checkpoint` to them.

        Args:
            name: without ending.
            kwargs: further plain values to keep, such as the iteration.

        Raises:
            CheckpointError: it cannot be written (no space, no permission); the checkpoints that
                were there are untouched.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        training = {key: part.state_dict() for key, part in self.checkpointables.items()}
        with _told_if_full(Path(self.save_dir) / name):
            self._write(name, training | kwargs, kwargs)
            self.tag_last_checkpoint(f"{name}{_WEIGHTS}")
            self._delete_old()

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Save weights alone, to be evaluated or shared; `last_checkpoint` stays as it is.

        Args:
            name: without ending.
            kwargs: plain values for the header.

        Raises:
            CheckpointError: as `save`.
        """
        if self.save_dir and self.save_to_disk:
            with _told_if_full(Path(self.save_dir) / name):
                self._write(name, None, kwargs)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Point to the newest checkpoint."""
        write_text_atomic(Path(self.save_dir) / _POINTER, last_filename_basename)

    def _write(self, name: str, training: dict[str, Any] | None, values: dict[str, Any]) -> None:
        folder = Path(self.save_dir)
        contents = {f"{name}{_WEIGHTS}": pack_weights(self._state(), self._header(values))}
        logger.info("saving checkpoint to %s", folder / f"{name}{_WEIGHTS}")
        if training is not None:
            digest = hashlib.sha256(contents[f"{name}{_WEIGHTS}"]).hexdigest()
            buffer = io.BytesIO()
            torch.save({**training, "weights_sha256": digest}, buffer)
            contents[f"{name}{_TRAINING}"] = buffer.getvalue()
        self._write_files(folder, contents)

    def _write_files(self, folder: Path, contents: dict[str, bytes]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _LEFT_BY_A_KILL.fullmatch(path.name) and not self._is_needed(path):
                path.unlink()
        staged = {name: folder / f"{name}{_STAGED}" for name in contents}
        try:
            for name, content in contents.items():
                write_atomic(staged[name], partial(_put_bytes, content))
            hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
            known = read_manifest(folder)
            record_hashes(folder, {n: [*known.get(n, [])[-1:], h] for n, h in hashes.items()})
        except OSError:
            for path in staged.values():
                path.unlink(missing_ok=True)
            raise
        # The weights come first: with their new name the new checkpoint counts.
        for name, path in staged.items():
            path.replace(folder / name)
            flush_folder(folder)
        record_hashes(folder, {name: [digest] for name, digest in hashes.items()})

    def _is_needed(self, staged: Path) -> bool:
        """Whether it is the training state of weights that are in place already."""
        if not staged.name.endswith(f"{_TRAINING}{_STAGED}"):
            return False
        weights = staged.with_name(staged.name.removesuffix(f"{_TRAINING}{_STAGED}") + _WEIGHTS)
        if not weights.exists():
            return False
        try:
            path, _ = _training_state(weights, verify_checkpoint(weights))
        except CheckpointError:
            return False
        if path == staged:
            staged.replace(staged.with_name(staged.name.removesuffix(_STAGED)))
        return path == staged

    def _delete_old(self) -> None:
        folder, last = Path(self.save_dir), Path(self.get_checkpoint_file()).name
        periodic = [name for name in read_manifest(folder) if _PERIODIC.fullmatch(name)]
        for name in periodic[: -self._keep]:
            if name != last:
                (folder / name).unlink(missing_ok=True)
                (folder / name.replace(_WEIGHTS, _TRAINING)).unlink(missing_ok=True)

    def _state(self) -> dict[str, torch.Tensor]:
        model: nn.Module = self.model
        return model.checkpoint_state() if isinstance(model, KeepsState) else model.state_dict()

    def _header(self, values: dict[str, Any]) -> dict[str, Any]:
        model: nn.Module = self.model
        own = model.checkpoint_header() if isinstance(model, KeepsHeader) else {}
        return make_header(self._config, own, **values)

    # ---- loading -------------------------------------------------------------------------------

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint after checking its hash; every weight must find its place.

        Args:
            path: a `.safetensors` (a shipped one: `detecture://NAME.safetensors`), a `.pth` that
                `torch.save` wrote, or a folder that holds one checkpoint (or a pointer to its last
                one); empty keeps the model as it was built.
            checkpointables: which registered parts to load beside the model; None for all.

        Returns:
            What else the file holds, such as `iteration`.

        Raises:
            CheckpointError: the file is missing or damaged, or its weights do not fit the model
                (all names that are missing, left over or of another shape are listed).
        """
        if not path:
            logger.info("No checkpoint is loaded: the model starts from the weights it was built")
            return {}
        file = _find(locate(path))
        if file.name.endswith(_TRAINING):
            weights = file.name.removesuffix(_TRAINING) + _WEIGHTS
            raise CheckpointError(
                f"{file}: holds the training state, not the weights; name {weights} beside it"
            )
        digest = verify_checkpoint(file)
        wanted = list(self.checkpointables) if checkpointables is None else checkpointables
        if file.suffix == _WEIGHTS:
            tensors, header = read_weights(file)
            rest = {"iteration": header["iteration"]} if "iteration" in header else {}
            found, state = _training_state(file, digest)
            if found is not None:
                rest = state
            elif wanted:
                raise CheckpointError(
                    f"{file}: no training state goes with it ({file.stem}{_TRAINING}); training "
                    "can start from it (MODEL.WEIGHTS), but not go on"
                )
        else:
            content, header = _read_torch(file), {}
            tensors = content.pop("model", content)
            rest = content if content is not tensors else {}
        # Everything is read and checked before anything is changed.
        self._put(tensors, header, file)
        logger.info(
            "Loaded %d tensors, %d parameters, from %s (SHA-256 %s)",
            len(tensors),
            sum(t.numel() for t in tensors.values()),
            file,
            digest,
        )
        for key in wanted:
            if key in rest:
                self.checkpointables[key].load_state_dict(rest.pop(key))
        return rest

    def _put(self, tensors: dict[str, Any], header: dict[str, Any], file: Path) -> None:
        model: nn.Module = self.model
        try:
            if header and isinstance(model, KeepsHeader):
                model.load_checkpoint_header(header["model"])
            if isinstance(model, KeepsState):
                model.load_checkpoint_state(tensors)
                return
        except CheckpointError as error:  # the model does not know which file it is
            raise CheckpointError(f"{file}: {error}") from error
        wrong = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
        if wrong:
            raise CheckpointError(f"{file}: holds no tensors under {', '.join(wrong[:10])}")
        if problems := misfits(model.state_dict(), tensors):
            raise CheckpointError(
                f"{file}: the checkpoint does not fit the model: {'; '.join(problems)}. Use the "
                "config that it was trained with"
            )
        model.load_state_dict(tensors)

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
        folder, last = Path(self.save_dir), Path(self.get_checkpoint_file())
        listed = [folder / n for n in read_manifest(folder) if n.endswith((_WEIGHTS, _OLD))]
        old = sorted(folder.glob(f"model_*{_OLD}"), key=lambda p: p.stat().st_mtime)
        names = dict.fromkeys(p for p in [*old, *listed] if _is_resumable(p) and p != last)
        return [*([last] if last != folder else []), *reversed(names)]


@contextmanager
def _told_if_full(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({error}). Those that were there before can "
            "be used; make room and start again with --resume"
        ) from error


def _put_bytes(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _is_resumable(path: Path) -> bool:
    return path.stem != _BEST and not path.name.endswith(_TRAINING)


def _find(path: Path) -> Path:
    """The file of a checkpoint; see `Checkpointer.load`."""
    if not path.is_dir():
        return path
    pointer = path / _POINTER
    if pointer.is_file() and (name := pointer.read_text(encoding="utf-8").strip()):
        return path / name
    found = sorted(path.glob(f"*{_WEIGHTS}"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise CheckpointError(
            f"{path}: a folder must hold one {_WEIGHTS} file, found {names}; name the file itself"
        )
    return found[0]


def _training_state(weights: Path, digest: str) -> tuple[Path | None, dict[str, Any]]:
    """The training state that belongs to these weights, and where it lies; (None, {}) if nowhere.

    Raises:
        CheckpointError: there are such files, but none is sound and belongs to the weights.
    """
    due = weights.with_name(f"{weights.stem}{_TRAINING}")
    candidates = [p for p in (due, due.with_name(f"{due.name}{_STAGED}")) if p.is_file()]
    problem: CheckpointError | None = None
    for path in candidates:
        try:
            verify_checkpoint(path)
            state = _read_torch(path)
        except CheckpointError as error:
            problem = error
            continue
        if state.pop("weights_sha256", None) == digest:
            return path, state
    if problem is not None:
        raise problem
    if candidates:
        raise CheckpointError(f"{due}: belongs to other weights than those of {weights.name}")
    return None, {}


def _read_torch(path: Path) -> dict[str, Any]:
    """A file that `torch.save` wrote, with no more than tensors and plain values."""
    try:
        with path.open("rb") as opened:
            begins = opened.read(2)
        # What torch makes of any other file depends on its first letters: errors that say nothing.
        if not begins.startswith(_TORCH_FILE):
            raise CheckpointError(
                f"{path}: is no checkpoint: it is empty, or torch.save did not write it; name "
                "another file"
            )
        # weights_only: a pickle can otherwise run any program, and checkpoints travel.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL \S+", str(error))  # the rest is advice to trust the file
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint: it is no torch file, or holds more than "
            f"tensors and plain values, which could run code ({found[0] if found else 'pickle'}); "
            "name another one"
        ) from error
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({reason}); it may be cut short. Copy it "
            "again, or name another one"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no table of tensors")
    return content

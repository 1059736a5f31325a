"""Checkpoints that survive a kill, and that report it when they did not.

A checkpoint `NAME` is `NAME.safetensors`, the trained weights and a header, and
`NAME.training.pth`, what is needed to resume: optimiser, hooks, iteration, seed. How it is written:

1. both files under temporary names (`*.staged`), each flushed to the disk;
2. their SHA-256 into `checkpoints.json`, beside those of the files that they replace;
3. the weights renamed to their final name (from here on the checkpoint is the new one), then the
   training state, and the folder flushed;
4. the old hashes taken out of `checkpoints.json`;
5. `last_checkpoint` pointed to it;
6. older periodic checkpoints deleted.

The training state holds the hash of its weights, so that a kill during step 3 cannot leave a
mismatched pair.
"""

import hashlib
import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from detecture.checkpoint.atomic import flush_folder, write_atomic, write_text_atomic
from detecture.checkpoint.json_files import set_aside
from detecture.checkpoint.manifest import read_manifest, record_hashes, verify_checkpoint
from detecture.checkpoint.misfits import misfits
from detecture.checkpoint.protocol import KeepsHeader, KeepsState
from detecture.checkpoint.search import (
    POINTER,
    STAGED,
    TRAINING,
    WEIGHTS,
    can_be_resumed,
    checkpoints_of,
    find_checkpoint,
    is_listed,
    list_checkpoints,
    mend_manifest,
    read_pointer,
    training_state_of,
)
from detecture.checkpoint.shipped import locate
from detecture.checkpoint.torch_file import read_torch_file, verify_checksums
from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.d2 import DetectionCheckpointer
from detecture.errors import CheckpointError, brief

logger = logging.getLogger(__name__)

_PERIODIC = re.compile(r"model_\d+\.safetensors")
_LEFT_BY_A_KILL = re.compile(r"(model_.*|last_checkpoint|checkpoints\.json)\.(tmp-\d+|staged)")


class Checkpointer(DetectionCheckpointer):
    """Writes checkpoints whole or not at all, verifies them by SHA-256, and loads strictly.

    A model may define which part of it is saved and how that is restored, see
    `detecture.checkpoint.protocol`; otherwise the whole state dict is saved.

    Args:
        model: `DistributedDataParallel` is looked through.
        save_dir: folder of the checkpoints.
        save_to_disk: whether to write; None: in the main process only.
        config: of the training, as yaml text, for the header.
        keep: how many of the newest periodic checkpoints (`model_<number>`) to keep.
        checkpointables: further objects with `state_dict()` and `load_state_dict()`.
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
        self._resumed: Path | None = None
        self.resumed_config = ""
        """The config in the resumed checkpoint, as yaml; empty if it has none."""

    # ---- saving --------------------------------------------------------------------------------

    def save(self, name: str, **kwargs: Any) -> None:
        """Save weights and training state, and point `last_checkpoint` to them.

        Args:
            name: without ending.
            kwargs: further plain values to keep, such as the iteration.

        Raises:
            CheckpointError: it cannot be written (no space, no permission); the existing
                checkpoints are untouched.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        training = {key: part.state_dict() for key, part in self.checkpointables.items()}
        with _told_if_full(Path(self.save_dir) / name):
            self._write(name, training | kwargs, kwargs)
            self.tag_last_checkpoint(f"{name}{WEIGHTS}")
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
        write_text_atomic(Path(self.save_dir) / POINTER, last_filename_basename)

    def _write(self, name: str, training: dict[str, Any] | None, values: dict[str, Any]) -> None:
        folder = Path(self.save_dir)
        contents = {f"{name}{WEIGHTS}": pack_weights(self._state(), self._header(values))}
        logger.info("saving checkpoint to %s", folder / f"{name}{WEIGHTS}")
        if training is not None:
            digest = hashlib.sha256(contents[f"{name}{WEIGHTS}"]).hexdigest()
            buffer = io.BytesIO()
            torch.save({**training, "weights_sha256": digest}, buffer)
            contents[f"{name}{TRAINING}"] = buffer.getvalue()
        self._write_files(folder, contents)

    def _write_files(self, folder: Path, contents: dict[str, bytes]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _LEFT_BY_A_KILL.fullmatch(path.name) and not self._is_needed(path):
                path.unlink()
        staged = {name: folder / f"{name}{STAGED}" for name in contents}
        try:
            for name, content in contents.items():
                write_atomic(staged[name], partial(_put_bytes, content))
            hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
            mend_manifest(folder)
            known = read_manifest(folder)
            record_hashes(folder, {n: [*known.get(n, [])[-1:], h] for n, h in hashes.items()})
        except OSError:
            for path in staged.values():
                path.unlink(missing_ok=True)
            raise
        # The weights come first: once they have their new name, the new checkpoint counts.
        for name, path in staged.items():
            path.replace(folder / name)
            flush_folder(folder)
        record_hashes(folder, {name: [digest] for name, digest in hashes.items()})

    def _is_needed(self, staged: Path) -> bool:
        """Whether it is the training state of weights that are already in place."""
        if not staged.name.endswith(f"{TRAINING}{STAGED}"):
            return False
        weights = staged.with_name(staged.name.removesuffix(f"{TRAINING}{STAGED}") + WEIGHTS)
        if not weights.exists():
            return False
        try:
            path, _ = training_state_of(weights, verify_checkpoint(weights))
        except CheckpointError:
            return False
        if path == staged:
            staged.replace(staged.with_name(staged.name.removesuffix(STAGED)))
        return path == staged

    def _delete_old(self) -> None:
        folder, last = Path(self.save_dir), Path(self.get_checkpoint_file()).name
        periodic = [name for name in read_manifest(folder) if _PERIODIC.fullmatch(name)]
        for name in periodic[: -self._keep]:
            if name != last:
                (folder / name).unlink(missing_ok=True)
                (folder / name.replace(WEIGHTS, TRAINING)).unlink(missing_ok=True)

    def _state(self) -> dict[str, torch.Tensor]:
        """What is saved of the model, by name: tensors of any shapes."""
        model: nn.Module = self.model
        return model.checkpoint_state() if isinstance(model, KeepsState) else model.state_dict()

    def _header(self, values: dict[str, Any]) -> dict[str, Any]:
        model: nn.Module = self.model
        own = model.checkpoint_header() if isinstance(model, KeepsHeader) else {}
        return make_header(self._config, own, **values)

    # ---- loading -------------------------------------------------------------------------------

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint after checking its hash; every weight must fit the model.

        Args:
            path: a `.safetensors` (a shipped one: `detecture://NAME.safetensors`), a `.pth` that
                `torch.save` wrote, or a folder that holds one checkpoint (or a pointer to its last
                one); empty keeps the model as it was built.
            checkpointables: which registered parts to load besides the model; None for all.

        Returns:
            What else the file holds, such as `iteration`.

        Raises:
            CheckpointError: the file is missing or damaged, or its weights do not fit the model
                (lists all names that are missing, left over or of another shape).
        """
        if not path:
            logger.info("No checkpoint is loaded: the model has the weights that it was built with")
            return {}
        wanted = list(self.checkpointables) if checkpointables is None else checkpointables
        return self._load(find_checkpoint(locate(path)), wanted, resumes=False)

    def _load(self, file: Path, wanted: list[str], *, resumes: bool) -> dict[str, Any]:
        """See `load`; a checkpoint to resume from must be verified and hold everything needed."""
        if file.name.endswith(TRAINING):
            weights = file.name.removesuffix(TRAINING) + WEIGHTS
            raise CheckpointError(
                f"{file}: holds the training state, not the weights; name {weights} beside it"
            )
        digest = verify_checkpoint(file)
        if file.suffix == WEIGHTS:
            tensors, header = read_weights(file)
            is_known = bool(header)
            rest = {"iteration": header["iteration"]} if "iteration" in header else {}
            found, state = training_state_of(file, digest)
            if found is not None:
                rest = state
            elif wanted:
                raise CheckpointError(
                    f"{file}: no training state goes with it ({file.stem}{TRAINING}); training "
                    "can start from it (MODEL.WEIGHTS), but not go on"
                )
        else:
            is_known = is_listed(file) or verify_checksums(file)
            content, header = read_torch_file(file), {}
            tensors = content.pop("model", content)
            if not isinstance(tensors, dict):
                raise CheckpointError(
                    f"{file}: holds no table of tensors under model, but {brief(tensors)}"
                )
            rest = content if content is not tensors else {}
        if resumes and not (is_known or is_listed(file)):
            raise CheckpointError(
                f"{file}: cannot be verified, it holds no digest and no manifest lists it; "
                "training can start from it (MODEL.WEIGHTS), but not go on"
            )
        if resumes and (lacking := [key for key in wanted if key not in rest]):
            raise CheckpointError(f"{file}: holds no state of {', '.join(lacking)} to go on from")
        self.resumed_config = str(header.get("config", "")) if resumes else ""
        # Read and check everything before changing anything.
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
                with _told_if_it_does_not_fit(file):
                    self.checkpointables[key].load_state_dict(rest.pop(key))
        return rest

    def _put(self, tensors: dict[str, Any], header: dict[str, Any], file: Path) -> None:
        model: nn.Module = self.model
        wrong = [name for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
        if wrong:
            raise CheckpointError(f"{file}: holds no tensors under {brief(wrong[:10])}")
        try:
            if header and isinstance(model, KeepsHeader):
                model.load_checkpoint_header(header["model"])
            if isinstance(model, KeepsState):
                model.load_checkpoint_state(tensors)
                return
        except CheckpointError as error:  # the model does not know which file it is
            raise CheckpointError(f"{file}: {error}") from error
        if problems := misfits(model.state_dict(), tensors):
            raise CheckpointError(
                f"{file}: the checkpoint does not fit the model: {'; '.join(problems)}. Use the "
                "config that it was trained with"
            )
        model.load_state_dict(tensors)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Continue from the newest intact checkpoint of `save_dir`, or load weights from `path`.

        Raises:
            CheckpointError: `resume` is set, and there are checkpoints but all are damaged.
        """
        if not resume or not self.has_checkpoint():
            return self.load(path, checkpointables=[])
        candidates = checkpoints_of(Path(self.save_dir), resumable=True)
        for candidate in candidates:
            try:
                rest = self._load(candidate, list(self.checkpointables), resumes=True)
            except CheckpointError as error:
                logger.error("CHECKPOINT REFUSED: %s. Going back to the one before", error)
            else:
                self._resumed = candidate
                return rest
        raise CheckpointError(
            f"{self.save_dir}: none of the {len(candidates)} checkpoints can be used; start anew "
            "without --resume, in another OUTPUT_DIR"
        )

    def has_checkpoint(self) -> bool:
        """Whether `save_dir` has anything to resume from, intact or not."""
        folder = Path(self.save_dir)
        return bool(self.save_dir) and (
            (folder / POINTER).exists() or any(map(can_be_resumed, list_checkpoints(folder)))
        )

    def get_checkpoint_file(self) -> str:
        """Path of the checkpoint that `last_checkpoint` names; empty if it names none."""
        target, _ = read_pointer(Path(self.save_dir))
        return str(target or "")

    def repair(self) -> None:
        """Set a damaged manifest or pointer aside and rewrite it from the intact files.

        Only for a training that has reserved the folder. Other processes do nothing.

        Raises:
            CheckpointError: as `save`.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        pointer = Path(self.save_dir) / POINTER
        with _told_if_full(pointer):
            mend_manifest(pointer.parent)
            if problem := read_pointer(pointer.parent)[1]:
                aside = set_aside(pointer) if pointer.exists() else pointer
                logger.error("CHECKPOINT POINTER DAMAGED: %s: %s", aside, problem)
            if self._resumed is not None and not pointer.exists():
                self.tag_last_checkpoint(self._resumed.name)


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


@contextmanager
def _told_if_it_does_not_fit(file: Path) -> Iterator[None]:
    try:
        yield
    # What optimisers and hooks raise for a state that is not theirs.
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{file}: its training state does not fit this training ({type(error).__name__}: "
            f"{error!s:.200}); use the config that it was trained with"
        ) from error

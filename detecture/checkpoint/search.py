"""The checkpoints of a folder, even if the files that point to them are lost or damaged."""

import logging
import re
from pathlib import Path
from typing import Any

from detecture.checkpoint.json_files import set_aside
from detecture.checkpoint.manifest import (
    MANIFEST,
    read_manifest,
    verify_checkpoint,
    write_manifest,
)
from detecture.checkpoint.torch_file import read_torch_file, verify_checksums
from detecture.checkpoint.weights_file import read_header, read_weights
from detecture.errors import CheckpointError
from detecture.untrusted import named_path, open_file

logger = logging.getLogger(__name__)

POINTER = "last_checkpoint"
"""Name of the file that holds the name of the newest checkpoint."""

WEIGHTS, TRAINING, STAGED, OLD = ".safetensors", ".training.pth", ".staged", ".pth"
"""Endings: of weights; of what belongs to them; of a file before it counts; of Detectron2's."""

BEST = "model_best"
"""Name of the checkpoint of the best evaluation, from which no training goes on."""

_LONGEST_NAME = 255


def read_pointer(folder: Path) -> tuple[Path | None, str]:
    """The checkpoint that `last_checkpoint` names, and what is wrong with that file.

    Returns:
        (file, "") if it is intact; (None, reason) if not; (None, "") if there is none.
    """
    try:
        with open_file(folder / POINTER) as file:
            content = file.read(2 * _LONGEST_NAME)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror or error})"
    try:
        name = content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None, "it is no text"
    if not name:
        return None, "it is empty"
    if name != Path(name).name or name == ".." or not name.isprintable() or "\\" in name:
        return None, f"it names no file of its folder ({name!r:.80})"
    if not name.endswith((WEIGHTS, OLD)) or name.endswith(TRAINING):
        return None, f"it names no checkpoint ({name!r:.80})"
    try:
        is_there = (folder / name).is_file()
    except OSError:  # a name that is too long
        is_there = False
    return (folder / name, "") if is_there else (None, f"it names {name!r:.80}, which is not there")


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a training except the best, newest first; their content is unchecked."""
    try:
        known = list(read_manifest(folder))
    except CheckpointError:
        known = []
    names = dict.fromkeys([*known, *sorted(path.name for path in folder.glob("model_*"))])
    found = [
        folder / name
        for name in names
        if name.endswith((WEIGHTS, OLD))
        and not name.endswith(TRAINING)
        and Path(name).stem != BEST
        and (folder / name).is_file()
    ]

    def age(path: Path) -> tuple[bool, float, int, int]:
        order = known.index(path.name) if path.name in known else -1
        return path.suffix == WEIGHTS, _iteration(path), order, path.stat().st_mtime_ns

    return sorted(found, key=age, reverse=True)


def can_be_resumed(path: Path) -> bool:
    """Whether there is a training state to resume from; Detectron2 keeps it in the same file."""
    state = path.with_name(f"{path.stem}{TRAINING}")
    staged = state.with_name(f"{state.name}{STAGED}")
    return path.suffix != WEIGHTS or state.is_file() or staged.is_file()


def checkpoints_of(folder: Path, *, resumable: bool = False) -> list[Path]:
    """The checkpoints of `list_checkpoints`, with the one that `last_checkpoint` names first.

    Logs an error if that file is damaged, and a warning if it does not name the newest.

    Args:
        folder: of the checkpoints.
        resumable: only those with a training state, plus whatever `last_checkpoint` names.
    """
    target, problem = read_pointer(folder)
    found = [one for one in list_checkpoints(folder) if not resumable or can_be_resumed(one)]
    if target is None:
        if found:
            logger.error(
                "CHECKPOINT REFUSED: %s: %s. The newest sound checkpoint beside it is taken",
                *(folder / POINTER, problem or "it is not there"),
            )
        return found
    if found and target != found[0] and _iteration(target) < _iteration(found[0]):
        logger.warning(
            "%s names %s, though %s is newer; it is done as it says",
            *(folder / POINTER, target.name, found[0].name),
        )
    return [target, *(path for path in found if path != target)]


def newest_sound(folder: Path) -> Path | None:
    """The weights of the newest intact checkpoint; None if there are no checkpoints.

    Raises:
        CheckpointError: there are some, but none is intact.
    """
    found = checkpoints_of(folder)
    for path in found:
        try:
            verify_content(path)
        except CheckpointError as error:
            logger.error("CHECKPOINT REFUSED: %s. Going back to the one before", error)
        else:
            return path
    if found:
        raise CheckpointError(
            f"{folder}: none of the {len(found)} checkpoints is sound; name another one with "
            "MODEL.WEIGHTS"
        )
    return None


def verify_content(path: Path) -> str:
    """Check by all available evidence that a weights or training-state file is as written.

    Returns:
        Its SHA-256.

    Raises:
        CheckpointError: it is not, or there is no evidence.
    """
    digest = verify_checkpoint(path)
    if path.suffix == WEIGHTS:
        _, header = read_weights(path)
        is_known = bool(header)
    else:
        is_known = verify_checksums(path)
    if not is_known and not is_listed(path):
        raise CheckpointError(
            f"{path}: cannot be verified, it holds no digest and no manifest lists it; name it "
            "with MODEL.WEIGHTS to start from it as it is"
        )
    return digest


def is_listed(path: Path) -> bool:
    """Whether an intact manifest next to a file lists it."""
    try:
        return path.name in read_manifest(path.parent)
    except CheckpointError:
        return False


def mend_manifest(folder: Path) -> None:
    """Set a damaged manifest aside, and write a new one of the files whose content is intact.

    Raises:
        OSError: as from the disk.
    """
    try:
        read_manifest(folder)
        return
    except CheckpointError as error:
        aside = set_aside(folder / MANIFEST)
        logger.error(
            "CHECKPOINT MANIFEST DAMAGED: %s. It is %s now, and is written anew", error, aside.name
        )
    hashes = {}
    files = [path for path in reversed(list_checkpoints(folder)) if path.suffix == WEIGHTS]
    best = folder / f"{BEST}{WEIGHTS}"
    for path in [*([best] if best.is_file() else []), *files]:
        training = path.with_name(f"{path.stem}{TRAINING}")
        for file in (path, training):
            if file.is_file():
                try:
                    hashes[file.name] = [verify_content(file)]
                except CheckpointError as error:
                    logger.error("%s is not taken into the manifest: %s", file.name, error)
    write_manifest(folder, hashes)


def find_checkpoint(path: Path) -> Path:
    """The file of a checkpoint, given the file, its folder, or its pointer.

    Raises:
        CheckpointError: the folder holds no intact one, or several with no way to choose.
    """
    if path.name == POINTER and path.is_file():
        path = path.parent
    if not named_path(path, "MODEL.WEIGHTS", CheckpointError).is_dir():
        return path
    target, problem = read_pointer(path)
    if target is None and problem:
        target = newest_sound(path)
    if target is not None:
        return target
    found = sorted(path.glob(f"*{WEIGHTS}"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise CheckpointError(
            f"{path}: a folder must hold one {WEIGHTS} file, found {names}; name the file itself"
        )
    return found[0]


def training_state_of(weights: Path, digest: str) -> tuple[Path | None, dict[str, Any]]:
    """The training state that belongs to these weights, and where it is; (None, {}) if missing.

    Raises:
        CheckpointError: there are such files, but none is both intact and of these weights.
    """
    due = weights.with_name(f"{weights.stem}{TRAINING}")
    candidates = [p for p in (due, due.with_name(f"{due.name}{STAGED}")) if p.is_file()]
    problem: CheckpointError | None = None
    for path in candidates:
        try:
            verify_checkpoint(path)
            if not is_listed(path):
                verify_checksums(path)
            state = read_torch_file(path)
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


def _iteration(path: Path) -> float:
    """The iteration after which a checkpoint was written, by its header or else its name."""
    if path.suffix == WEIGHTS:
        try:
            iteration = read_header(path).get("iteration")
        except CheckpointError:
            iteration = None
        if isinstance(iteration, int):
            return iteration
    found = re.search(r"\d+", path.stem)
    return int(found[0]) if found else float("inf")

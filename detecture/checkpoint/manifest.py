"""`checkpoints.json`: the SHA-256 of every checkpoint file of a folder, oldest first."""

import json
from pathlib import Path

from detecture.checkpoint.atomic import sha256_file, write_text_atomic
from detecture.errors import CheckpointError

MANIFEST = "checkpoints.json"
"""Name of the file, beside the checkpoints."""


def read_manifest(folder: Path) -> dict[str, list[str]]:
    """File name -> accepted SHA-256 hashes, of the checkpoint files in a folder, oldest first.

    A file that is being replaced has two accepted hashes, the old and the new one.

    Raises:
        CheckpointError: the manifest is damaged.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CheckpointError(f"{folder / MANIFEST}: not valid JSON; delete it") from error
    if not isinstance(content, dict) or not all(map(_are_hashes, content.values())):
        raise CheckpointError(
            f"{folder / MANIFEST}: holds no table of hashes; delete it, or use another folder"
        )
    return content


def _are_hashes(accepted: object) -> bool:
    return isinstance(accepted, list) and all(isinstance(one, str) for one in accepted)


def record_hashes(folder: Path, hashes: dict[str, list[str]]) -> None:
    """Set the accepted hashes of some files, which become the newest ones.

    Files that were deleted since are left out.
    """
    kept = {k: v for k, v in read_manifest(folder).items() if (folder / k).exists()}
    for name, accepted in hashes.items():
        kept.pop(name, None)
        kept[name] = accepted
    write_text_atomic(folder / MANIFEST, json.dumps(kept, indent=1) + "\n")


def verify_checkpoint(path: Path) -> str:
    """Compare a file with the manifest beside it; a file that no manifest lists passes.

    Returns:
        Its SHA-256.

    Raises:
        CheckpointError: no such file, or its content is not what was written.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; check MODEL.WEIGHTS or OUTPUT_DIR")
    known = read_manifest(path.parent).get(path.name)
    digest = sha256_file(path)
    if known and digest not in known:
        raise CheckpointError(
            f"{path}: damaged, its SHA-256 is not the one that was written ({MANIFEST} beside it)"
        )
    return digest

"""`checkpoints.json`: the SHA-256 of every checkpoint file of a folder, oldest first.

It holds a digest of itself (key `digest`), which older manifests lack.
"""

import json
import logging
from pathlib import Path

from detecture.checkpoint.atomic import sha256_file, write_text_atomic
from detecture.checkpoint.json_files import DIGEST, seal, unseal
from detecture.errors import CheckpointError
from detecture.untrusted import named_path, read_own_json

logger = logging.getLogger(__name__)

MANIFEST = "checkpoints.json"
"""Name of the file, beside the checkpoints."""


def read_manifest(folder: Path) -> dict[str, list[str]]:
    """File name -> accepted SHA-256 hashes, of the checkpoint files in a folder, oldest first.

    A file that is being replaced has two accepted hashes, the old and the new one.

    Raises:
        CheckpointError: the manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        content = read_own_json(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no table of hashes")
        if DIGEST in content:
            content = unseal(content)
        for name, hashes in content.items():
            if name != Path(name).name or not isinstance(hashes, list):
                raise ValueError("it holds something else than hashes of files")
            if not hashes or not all(isinstance(digest, str) for digest in hashes):
                raise ValueError("it holds something else than hashes")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: damaged ({error}); delete it, or use another folder"
        ) from error
    return content


def write_manifest(folder: Path, hashes: dict[str, list[str]]) -> None:
    """Write the complete manifest of a folder."""
    write_text_atomic(folder / MANIFEST, json.dumps(seal(hashes), indent=1) + "\n")


def record_hashes(folder: Path, hashes: dict[str, list[str]]) -> None:
    """Set the accepted hashes of some files, which then count as the newest.

    Files deleted since then are left out.
    """
    kept = {k: v for k, v in read_manifest(folder).items() if (folder / k).exists()}
    for name, accepted in hashes.items():
        kept.pop(name, None)
        kept[name] = accepted
    write_manifest(folder, kept)


def accepted_hashes(path: Path) -> list[str] | None:
    """The hashes that a checkpoint file may have; None: none are recorded.

    A damaged manifest is ignored as a whole, and an error is logged.
    """
    try:
        return read_manifest(path.parent).get(path.name)
    except CheckpointError as error:
        logger.error("CHECKPOINT MANIFEST DAMAGED: %s. %s is judged by its content", error, path)
        return None


def verify_checkpoint(path: Path, key: str = "MODEL.WEIGHTS or OUTPUT_DIR") -> str:
    """Compare a file with the manifest beside it; a file that no manifest lists passes.

    Args:
        path: of the file.
        key: what named the file, for the error.

    Returns:
        Its SHA-256.

    Raises:
        CheckpointError: there is no such file, or its content is not what was written.
    """
    if not named_path(path, key, CheckpointError).is_file():
        raise CheckpointError(f"{path}: no such checkpoint; check {key}")
    known = accepted_hashes(path)
    digest = sha256_file(path)
    if known and digest not in known:
        raise CheckpointError(
            f"{path}: damaged, its SHA-256 is not the one that was written ({MANIFEST} beside it)"
        )
    return digest

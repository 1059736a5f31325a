"""What an evaluation depends on, as hashes: when all are unchanged, finished samples stay valid."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import detecture
from detecture.checkpoint.atomic import sha256_file
from detecture.d2 import CfgNode

# Keys of the TEST section that cannot change a sample's record.
_WITHOUT_EFFECT = (
    "EXPECTED_RESULTS",
    "EVAL_PERIOD",
    "BOOTSTRAP_SAMPLES",
    "SAVE_LABEL_MAPS",
    "MAX_FAILURES_IN_A_ROW",
    "MAX_SCORE_PIXELS",
)


def evaluation_fingerprint(cfg: CfgNode, dataset: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Hashes of the config, weights, data and code behind an evaluation.

    Args:
        cfg: of the run. Only the sections MODEL, INPUT and TEST matter, without what cannot change
            a record (expected results, bootstrap samples ..).
        dataset: dataset dicts; the contents of their picture and mask files are hashed.
    """
    return {
        "config": _hash_config(cfg),
        "weights": hash_weights(cfg.MODEL.WEIGHTS),
        "data": _hash_dataset(dataset),
        "code": _hash_code(),
    }


def hash_weights(weights: str) -> str:
    """Hash of a weights file or folder; a name that is neither stands for itself."""
    if not weights:
        return ""
    path = Path(weights).expanduser()
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return _hash_text("".join(f"{p.relative_to(path)} {sha256_file(p)}\n" for p in files))
    return weights


def _hash_config(cfg: CfgNode) -> str:
    sections = {name: dict(cfg[name]) for name in ("MODEL", "INPUT", "TEST")}
    sections["TEST"] = {k: v for k, v in sections["TEST"].items() if k not in _WITHOUT_EFFECT}
    return _hash_text(json.dumps(sections, sort_keys=True, default=str))


def _hash_dataset(dataset: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for record in dataset:
        textures = record.get("textures", [])
        digest.update(json.dumps(record, sort_keys=True, default=str).encode())
        for name in (record.get("file_name"), *(t["mask_file"] for t in textures)):
            path = Path(name) if name else None
            digest.update(_content(path).encode())
    return digest.hexdigest()


def _content(path: Path | None) -> str:
    """Hash of a file; a bad one is no reason to stop here: its sample gets a status."""
    try:
        return sha256_file(path) if path and path.is_file() else "absent"
    except OSError:
        return "unreadable"


def _hash_code() -> str:
    """Hash of the package's own source."""
    root = Path(detecture.__file__).parent
    files = sorted(root.rglob("*.py"))
    return _hash_text("".join(f"{p.relative_to(root)} {sha256_file(p)}\n" for p in files))


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

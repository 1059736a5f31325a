"""What an evaluation depends on, as hashes: when all are unchanged, finished samples stay valid."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import detecture
from detecture.checkpoint.atomic import sha256_file
from detecture.checkpoint.shipped import locate
from detecture.d2 import CfgNode, get_cfg
from detecture.data.ground_truth import truth_files
from detecture.errors import ConfigError
from detecture.untrusted import named_path

_SECTIONS = ("MODEL", "INPUT", "TEST")
# Keys of these sections that cannot change a sample's record.
_WITHOUT_EFFECT = (
    "TEST.EXPECTED_RESULTS",
    "TEST.EVAL_PERIOD",
    "TEST.BOOTSTRAP_SAMPLES",
    "TEST.SAVE_LABEL_MAPS",
    "TEST.MAX_FAILURES_IN_A_ROW",
    "TEST.MAX_SCORE_PIXELS",
)


# Beyond this a file's size and time stand for its content: base models have tens of gigabytes.
_HASHED_BYTES = 100_000_000


def evaluation_fingerprint(cfg: CfgNode, dataset: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Hashes of the config, weights, base models, data and code behind an evaluation.

    Args:
        cfg: of the run. Only the sections MODEL, INPUT and TEST matter, without what cannot change
            a record (expected results, bootstrap samples ..). Files that values of MODEL name are
            hashed; of a base model that is a folder, sizes and times count.
        dataset: dataset dicts; the contents of their image and mask files are hashed.
    """
    return fingerprint_of(cfg, hash_dataset(dataset), hash_code())


def fingerprint_of(cfg: CfgNode, data_hash: str, code_hash: str) -> dict[str, str]:
    """As `evaluation_fingerprint`, where `hash_dataset` and `hash_code` are known."""
    return {
        "config": _hash_config(cfg),
        "weights": hash_weights(cfg.MODEL.WEIGHTS),
        "files of the config": _hash_named_files(cfg.MODEL),
        "data": data_hash,
        "code": code_hash,
    }


def hash_weights(weights: str) -> str:
    """Hash of a weights file or folder; any other name is used as it is."""
    if not weights:
        return ""
    path = locate(weights)
    if path.is_file():
        return sha256_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return _hash_text("".join(f"{p.relative_to(path)} {sha256_file(p)}\n" for p in files))
    return weights


def _hash_config(cfg: CfgNode) -> str:
    """Hash of our keys, and of Detectron2's that differ from its defaults.

    Which other keys Detectron2 has depends on its version, and changes no record.
    """
    defaults = dict(_leaves(get_cfg(), ""))
    values = {
        key: value
        for key, value in _leaves(cfg, "")
        if key.split(".")[0] in _SECTIONS
        and key not in _WITHOUT_EFFECT
        # The default device differs from machine to machine.
        and (key == "MODEL.DEVICE" or defaults.get(key) != value)
    }
    return _hash_text(json.dumps(values, sort_keys=True))


def _leaves(section: CfgNode, prefix: str) -> Iterator[tuple[str, str]]:
    """Full name of every key, and its value as text, in which lists and tuples look the same."""
    for name, value in section.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, default=str)


def _hash_named_files(section: CfgNode) -> str:
    """Hash of the files that a section's values name: a structure, prompts, a base model."""
    return _hash_text(json.dumps(sorted(_named_files(section, ""))))


def _named_files(section: CfgNode, prefix: str) -> Iterator[tuple[str, str]]:
    """Each key that names a file or folder, and what stands for the content of that."""
    for name, value in section.items():
        if isinstance(value, CfgNode):
            yield from _named_files(value, f"{prefix}{name}.")
        elif isinstance(value, str) and value and f"{prefix}{name}" != "WEIGHTS":  # hashed apart
            try:
                path = named_path(value, name, ConfigError)
            except ConfigError:  # a text that can name no file, such as a long list of classes
                continue
            if path.is_file():
                yield f"{prefix}{name}", _stamp(path, hashed=True)
            # These keys alone: "tiny", say, may also be the name of the run's own folder.
            elif name in ("BASE", "TOKENIZER") and path.is_dir():
                files = sorted(p for p in path.rglob("*") if p.is_file())
                stamps = (f"{p.relative_to(path)} {_stamp(p, hashed=False)}\n" for p in files)
                yield f"{prefix}{name}", "".join(stamps)


def _stamp(path: Path, *, hashed: bool) -> str:
    """Size and modification time of a file or, where it is `hashed` and small, its hash."""
    status = path.stat()
    if hashed and status.st_size <= _HASHED_BYTES:
        return _content(path)
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def hash_dataset(dataset: Iterable[dict[str, Any]]) -> str:
    """Hash of dataset dicts and of the contents of the files that they name."""
    digest = hashlib.sha256()
    for record in dataset:
        digest.update(json.dumps(record, sort_keys=True, default=str).encode())
        for name in (record.get("file_name"), *truth_files(record)):
            path = Path(name) if name else None
            digest.update(_content(path).encode())
    return digest.hexdigest()


def _content(path: Path | None) -> str:
    """Hash of a file; a bad file does not stop the run here, since its sample gets a status."""
    try:
        return sha256_file(path) if path and path.is_file() else "absent"
    except OSError:
        return "unreadable"


def hash_code() -> str:
    """Hash of the package's own source, with the structures and wordings that ship with it."""
    root = Path(detecture.__file__).parent
    files = sorted(p for p in root.rglob("*") if p.suffix in (".py", ".json", ".yaml"))
    return _hash_text("".join(f"{p.relative_to(root)} {sha256_file(p)}\n" for p in files))


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

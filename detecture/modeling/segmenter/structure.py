"""The structure of a SAM 3, from a shipped or own json file."""

import json
from pathlib import Path
from typing import Any

from detecture.errors import ConfigError

_FOLDER = Path(__file__).parent / "configs"


def shipped_structures() -> list[str]:
    """Names of the json files that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def read_structure(name: str) -> dict[str, Any]:
    """The dict of a transformers' `Sam3Config`.

    Args:
        name: a shipped one (`sam3`, `tiny`, `tiny_fine`, `proportional`), or a json file.

    Raises:
        ConfigError: there is no such file, or it holds no json mapping.
    """
    path = _FOLDER / f"{name}.json" if name in shipped_structures() else Path(name)
    known = ", ".join(shipped_structures())
    try:
        structure = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"MODEL.SEGMENTER.CONFIG: {name!r} is neither a shipped structure ({known}) nor a json "
            f"file that can be read ({error.strerror})"
        ) from error
    except ValueError as error:
        raise ConfigError(f"MODEL.SEGMENTER.CONFIG: {path} is no json file: {error}") from error
    if not isinstance(structure, dict):
        raise ConfigError(f"MODEL.SEGMENTER.CONFIG: {path} must hold a json mapping")
    return structure

"""The structure of a model with random weights, from a shipped or own json file."""

from pathlib import Path
from typing import Any

from detecture.errors import ConfigError, brief
from detecture.untrusted import named_path, read_json


def shipped_structures(folder: Path) -> list[str]:
    """Names of the json files that ship with the package, in one of its folders."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read_structure(name: str, *, key: str, folder: Path) -> dict[str, Any]:
    """The dict of a transformers' config, such as `Sam3Config`.

    Args:
        name: a shipped one, such as `tiny`, or a json file.
        key: the config key that `name` is the value of, for errors.
        folder: where the shipped ones are.

    Raises:
        ConfigError: there is no such file, or it holds no json mapping.
    """
    shipped = name in shipped_structures(folder)
    path = folder / f"{name}.json" if shipped else named_path(name, key, ConfigError)
    known = ", ".join(shipped_structures(folder))
    if not path.is_file():
        raise ConfigError(
            f"{key}: {brief(name)} is neither a shipped structure ({known}) nor a json file"
        )
    try:
        structure = read_json(path, ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error
    if not isinstance(structure, dict):
        raise ConfigError(f"{key}: {path} must hold a json mapping")
    return structure

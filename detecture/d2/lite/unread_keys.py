"""Keys of Detectron2 that its config files may set but that nothing here reads."""

import ast
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from detecture.errors import ConfigError
from detecture.untrusted import read_yaml

from . import comm

logger = logging.getLogger(__name__)

_FILE = Path(__file__).with_suffix(".yaml")


def unread_defaults() -> dict[str, Any]:
    """The keys and their defaults: sections are dicts."""
    content = read_yaml(_FILE, ConfigError)
    defaults: dict[str, Any] = _decoded(content)
    return defaults


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _decoded(part) for name, part in value.items()}
    if isinstance(value, str) and value.startswith("("):
        return ast.literal_eval(value)
    return value


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full name and value of every key below a section; sections are dicts."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


UNREAD_KEYS: dict[str, Any] = dict(leaves(unread_defaults()))
"""Full names and defaults."""


def warn_of_unread_keys(values: Mapping[str, Any], source: str) -> None:
    """Log once which keys were given a value other than the default but have no effect.

    Args:
        values: by full names of keys, as they stand in the config now.
        source: what set them, such as the path of a file.
    """
    found = [
        key
        for key, value in values.items()
        if key in UNREAD_KEYS and _plain(value) != _plain(UNREAD_KEYS[key])
    ]
    if found and comm.is_main_process():
        logger.warning(
            "%s sets keys of Detectron2 that nothing in detecture reads, so they have no effect "
            "(unless a model of your own reads them): %s",
            source,
            ", ".join(found),
        )


def _plain(value: Any) -> Any:
    """A value with all sequences as lists: yaml files know no tuples."""
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value

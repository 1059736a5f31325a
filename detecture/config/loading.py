"""Strict, safe loading of yaml files and overrides.

Works on the config object of whichever Detectron2 API is active (`detecture.d2`): Detectron2's own
loader may run code from a yaml file, and says little about a misspelt key.
"""

import ast
import difflib
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from detecture.config.checks import add_detecture_config, all_keys, check_values, get_key
from detecture.d2 import CfgNode, get_cfg
from detecture.d2.unread_keys import warn_of_unread_keys
from detecture.device import resolve_device
from detecture.errors import ConfigError, brief
from detecture.untrusted import named_path, read_yaml

logger = logging.getLogger(__name__)

_BASE_KEY = "_BASE_"
_MOST_FILES = 100
_MOST_BITS = 64  # of a whole number; each key also has its own bounds
_RENAMED = {
    "MODEL.DESCRIBER.REGIONS_PER_PICTURE": "MODEL.DESCRIBER.REGIONS_PER_IMAGE",
    "TEST.VALIDATION_PICTURES": "TEST.VALIDATION_IMAGES",
}
# Keys that take a word or a whole number; they are stored as text.
_TEXT_OR_INTEGER = {"TEST.COUNT"}


def make_config(config_file: str | Path | None, overrides: Sequence[str] = ()) -> CfgNode:
    """Defaults, then a yaml file, then overrides; the device resolved; frozen.

    Args:
        config_file: yaml file, or None for the defaults.
        overrides: alternating keys and values, as given on a command line.

    Raises:
        ConfigError: names the file, the key and the remedy.
    """
    cfg = get_cfg()
    add_detecture_config(cfg)
    if config_file is not None:
        merge_yaml_file(cfg, config_file)
    merge_overrides(cfg, overrides)
    check_values(cfg)
    named_path(cfg.OUTPUT_DIR, "OUTPUT_DIR", ConfigError)
    cfg.MODEL.DEVICE = str(resolve_device(cfg.MODEL.DEVICE))
    cfg.freeze()
    return cfg


def merge_yaml_file(cfg: CfgNode, config_file: str | Path) -> None:
    """Merge a yaml file, and the files that it names under `_BASE_`, into `cfg` (in place).

    Raises:
        ConfigError: no such file, invalid yaml, yaml that would run code, bases that form a circle,
            an unknown key or a value of a wrong type; then nothing is merged.
    """
    path = named_path(config_file, "config file", ConfigError)
    chain = list(islice(_read_yaml_chain(path, ()), _MOST_FILES + 1))
    if len(chain) > _MOST_FILES:  # lists of bases that name each other would expand for ever
        raise ConfigError(f"{path}: {_BASE_KEY} leads to more than {_MOST_FILES} files")
    accepted = {
        key: _coerce(key, value, get_key(cfg, key, ""), f"{source}: ")
        for source, values in chain
        for key, value in _leaves(cfg, values, "", source)
    }
    for key, value in accepted.items():
        _set(cfg, key, value)
    warn_of_unread_keys(accepted, str(path))


def merge_overrides(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Merge alternating keys and values into `cfg` (in place).

    A value is read as a Python literal if it is one (`3`, `1e-4`, `'("rwtd",)'`), else as text.

    Raises:
        ConfigError: an odd number of words, an unknown key or a value of a wrong type.
    """
    if len(overrides) % 2:
        raise ConfigError(
            f"overrides are pairs of KEY VALUE, got {len(overrides)} words: "
            f"{' '.join(overrides)[:300]}"
        )
    accepted = {}
    for name, text in zip(overrides[::2], overrides[1::2], strict=True):
        key = _today(name, "command line: ")
        default = get_key(cfg, key, "command line: ")
        value: Any = _literal(text)
        if isinstance(default, str) and not isinstance(value, str):
            value = text  # text is expected: `OUTPUT_DIR 2024` is a folder's name
        accepted[key] = _coerce(key, value, default, "command line: ")
        _set(cfg, key, accepted[key])
    warn_of_unread_keys(accepted, "command line")


def _today(key: str, source: str) -> str:
    """A key's current name; warns if an old name was given."""
    if key not in _RENAMED:
        return key
    logger.warning("%s%s is %s now", source, key, _RENAMED[key])
    return _RENAMED[key]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _read_yaml_chain(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The contents of `path`, preceded by those of its bases."""
    if path.resolve() in above:
        chain = " -> ".join(str(p) for p in (*above, path.resolve()))
        raise ConfigError(f"{path}: {_BASE_KEY} goes in a circle: {chain}")
    values = _read_yaml(path, f", named as {_BASE_KEY} of {above[-1]}" if above else "")
    bases = values.pop(_BASE_KEY, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(
            f"{path}: {_BASE_KEY} must name a file or a list of files, got {brief(bases)}"
        )
    for base in bases:
        where = f"{path}: {_BASE_KEY}"
        # Joined, then checked again: a name that is short enough by itself may be too long there.
        named = path.parent / named_path(base, where, ConfigError)
        yield from _read_yaml_chain(named_path(named, where, ConfigError), (*above, path.resolve()))
    yield path, values


def _read_yaml(path: Path, named: str) -> dict[str, Any]:
    if not path.exists():
        # The folder and the ending, which all have in common, make no name near.
        siblings = {p.stem: p for p in sorted(path.parent.glob("*.yaml"))}
        near = difflib.get_close_matches(path.stem[:200], siblings, n=1)
        hint = "; the shipped ones are under configs/"
        hint = f"; did you mean {siblings[near[0]]}?" if near else hint
        raise ConfigError(f"{str(path)[:300]}: no such config file{named}{hint}")
    values = read_yaml(path, ConfigError)
    if values is None:
        logger.warning("%s: is empty, so that it sets no key; is it the right file?", path)
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold keys and values, holds a {type(values).__name__}")
    return values


def _leaves(
    cfg: CfgNode, values: dict[str, Any], prefix: str, source: Path
) -> Iterator[tuple[str, Any]]:
    """Full key and value of every leaf; checks that sections remain sections."""
    for name, value in values.items():
        key = _today(f"{prefix}{name}", f"{source}: ")
        default = get_key(cfg, key, f"{source}: ")
        if isinstance(default, CfgNode):
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{source}: {key} is a section with the keys {', '.join(sorted(default))}; "
                    f"it cannot be set to {brief(value)}"
                )
            yield from _leaves(cfg, value, f"{key}.", source)
        else:
            yield key, value


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    section, _, name = key.rpartition(".")
    setattr(get_key(cfg, section, "") if section else cfg, name, value)


def _coerce(key: str, value: Any, default: Any, source: str) -> Any:
    """`value` converted to the type of `default`, if nothing is lost.

    Integers are accepted as floats, numbers written as text (yaml reads `1e-4` as text) as numbers,
    and lists and tuples as each other. A default of None accepts anything.
    """
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ConfigError(f"{source}{key} is {brief(value)}; no number here may be that large")
    if default is None or type(value) is type(default):
        if default is not None and isinstance(value, (tuple, list)):
            return _coerce_items(key, value, default, source)
        return value
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(default, (tuple, list)) and isinstance(value, (tuple, list)):
        return _coerce_items(key, value, default, source)
    # Detectron2's own yaml files write tuples as text: TEST: ("rwtd",)
    if isinstance(default, (tuple, list)) and isinstance(_literal(str(value)), (tuple, list)):
        return _coerce_items(key, _literal(str(value)), default, source)
    if key in _TEXT_OR_INTEGER and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(default, CfgNode):
        raise ConfigError(f"{source}{key} is a section; set one of {', '.join(all_keys(default))}")
    example = f"; write it as {brief((value,))}" if isinstance(default, tuple) else ""
    raise ConfigError(
        f"{source}{key} must be of type {type(default).__name__}, got the "
        f"{type(value).__name__} {brief(value)}{example}"
    )


def _coerce_items(key: str, value: Any, default: Any, source: str) -> Any:
    """A sequence in the type of `default`; its items too, if the default's share one type."""
    kinds = {type(item) for item in default}
    if len(kinds) == 1 and kinds <= {int, float, str, list, tuple}:
        value = [_coerce(f"{key}[{i}]", v, default[0], source) for i, v in enumerate(value)]
    return type(default)(value)

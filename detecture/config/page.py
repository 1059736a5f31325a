"""The page of all config keys, `docs/config.md`, made from their declarations."""

from collections.abc import Iterable, Iterator
from typing import Any

from detecture.config.sections.declaring import SECTIONS, Declaration
from detecture.config.sections.detectron2 import DETECTRON2_KEYS

Row = tuple[str, str, Declaration]

_HEAD = """# Config keys

Every key of this project: default, what it may be, what it means. The page is made from the
declarations in `detecture/config/sections/` by `python tools/list_config.py --markdown`; a test
holds the two together. A key is set in a yaml file, or behind a command as `KEY VALUE`. A misspelt
key, a wrong type and a value out of its range are errors that name the key; one that the
model, the data sets or the schedule do not read is named in a warning.
"""

_FOREIGN = """Keys of Detectron2 that are read here; their defaults are Detectron2's."""


def rows_of(prefix: str = "") -> list[Row]:
    """Key, default as text, and declaration, of all keys that begin with `prefix`."""
    rows = [(name, _default(value), declared) for name, value, declared in _all_keys()]
    return [row for row in rows if row[0].startswith(prefix)]


def config_page() -> str:
    """The page, as markdown."""
    parts = [_HEAD]
    for path, kind in sorted(SECTIONS.items()):
        rows = [(f"{path}.{n}", _default(v), d) for n, v, d in kind.declarations()]
        parts.append(f"## {path}\n\n{kind.MEANING}\n\n{_table(rows)}")
    foreign = [(name, "", declared) for name, declared in DETECTRON2_KEYS.items()]
    parts.append(f"## Detectron2\n\n{_FOREIGN}\n\n{_table(foreign)}")
    return "\n".join(parts)


def _all_keys() -> Iterator[tuple[str, Any, Declaration]]:
    for path, kind in sorted(SECTIONS.items()):
        for name, default, declared in kind.declarations():
            yield f"{path}.{name}", default, declared
    for name, declared in DETECTRON2_KEYS.items():
        yield name, None, declared


def _default(value: Any) -> str:
    if isinstance(value, tuple) and any(isinstance(item, float) for item in value):
        return f"({', '.join(f'{item:.6g}' for item in value)})"
    return "" if value is None else repr(value)


def _table(rows: Iterable[Row]) -> str:
    lines = ["| key | default | may be | meaning |", "|---|---|---|---|"]
    for name, default, declared in rows:
        shown = f"`{default}`" if default else ""
        meaning = declared.meaning.replace("|", "\\|")
        lines.append(f"| `{name}` | {shown} | {declared.bounds()} | {meaning} |")
    return "\n".join(lines) + "\n"

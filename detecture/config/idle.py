"""Keys that were set but that nothing in this run reads."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from detecture.config.checks import add_detecture_config
from detecture.d2 import CfgNode, comm, get_cfg

logger = logging.getLogger(__name__)


def changed_keys(cfg: CfgNode) -> list[str]:
    """Full names of the keys whose value differs from the default."""
    defaults = get_cfg()
    add_detecture_config(defaults)
    before = dict(leaves(defaults))
    return [key for key, value in leaves(cfg) if key in before and value != before[key]]


def switched_off(cfg: CfgNode, sections: Iterable[str]) -> list[str]:
    """Keys of these sections that are set although the section's ENABLED is False."""
    found = []
    for key in changed_keys(cfg):
        section, _, name = key.rpartition(".")
        if name != "ENABLED" and is_of(key, sections) and get(cfg, f"{section}.ENABLED") is False:
            found.append(key)
    return found


def get(cfg: CfgNode, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    node: Any = cfg
    for name in key.split("."):
        if not isinstance(node, CfgNode) or name not in node:
            return None
        node = node[name]
    return node


def is_of(key: str, sections: Iterable[str]) -> bool:
    """Whether a key is one of these, or is in a section that is."""
    return any(key == name or key.startswith(f"{name}.") for name in sections)


def warn_of_idle_keys(keys: Collection[str], why: str) -> None:
    """Log in one line, in the main process, which keys were set but have no effect.

    Args:
        keys: their full names; if there are none, nothing is logged.
        why: what does not read them, such as `CATSeg does not read them`.
    """
    if keys and comm.is_main_process():
        logger.warning("%s: set without effect, since %s", ", ".join(keys), why)


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full name and value of every key below a section, of a config or of parsed yaml."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            # Yaml has no tuples.
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value

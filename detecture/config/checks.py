"""Names and values of config keys, looked up and checked."""

from collections.abc import Iterator
from typing import Any

from detecture.config.sections.declaring import SECTIONS, add_sections, did_you_mean
from detecture.config.sections.detectron2 import check_detectron2_keys
from detecture.d2 import CfgNode
from detecture.device import available_device_type
from detecture.errors import ConfigError


def add_detecture_config(cfg: CfgNode) -> None:
    """Add every key of this project, with its default, to a Detectron2 config (in place).

    Detectron2's own `build_model` and `DefaultPredictor` then build our models and call them with
    the images that they expect.
    """
    add_sections(cfg)
    # This machine's best device, by its torch name; our own loading also accepts "auto".
    cfg.MODEL.DEVICE = available_device_type()
    # All models take RGB images at their own size and do the resizing themselves.
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TEST = 0


def check_values(cfg: CfgNode) -> None:
    """Refuse values that no part of the program can work with.

    Raises:
        ConfigError: names the key.
    """
    for kind in SECTIONS.values():
        kind.from_config(cfg)
    check_detectron2_keys(cfg)


def get_key(cfg: CfgNode, key: str, source: str) -> Any:
    """The value or section at a dotted key; the error for a missing key starts with `source`."""
    node: Any = cfg
    for name in key.split("."):
        if not isinstance(node, CfgNode) or name not in node:
            hint = did_you_mean(key, list(all_keys(cfg)))
            raise ConfigError(f"{source}unknown key {key[:200]}{hint}")
        node = node[name]
    return node


def all_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys and sections."""
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, CfgNode):
            yield from all_keys(value, f"{prefix}{name}.")

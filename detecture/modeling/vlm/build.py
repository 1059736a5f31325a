"""The registry of vision-language models."""

from collections.abc import Callable
from typing import Any

from torch import nn

from detecture.d2 import CfgNode, Registry
from detecture.errors import ConfigError

VLM_REGISTRY = Registry("VLM")
VLM_REGISTRY.__doc__ = """
Registry of vision-language models, which write one line per region.

The registered object is called as `obj(cfg)` and returns a module with the interface of
`detecture.modeling.vlm.qwen3vl.Qwen3VL`: `prefix`, `teacher_forced`, `generate`.
"""


def build_vlm(cfg: CfgNode) -> Any:
    """The VLM of MODEL.VLM.NAME.

    Raises:
        ConfigError: none of this name is registered.
    """
    return build_registered(VLM_REGISTRY, cfg.MODEL.VLM.NAME, "MODEL.VLM.NAME", cfg)


def build_registered(registry: Registry, name: str, key: str, *args: Any) -> Any:
    """Call what is registered under `name`; `key` names the config key in the error."""
    try:
        builder: Callable[..., nn.Module] = registry.get(name)
    except KeyError as error:
        known = ", ".join(sorted(known for known, _ in registry))
        raise ConfigError(f"{key} {name!r} is not registered; use one of {known}") from error
    return builder(*args)

"""The registry of vision-language models."""

from typing import Any

from detecture.d2 import CfgNode, Registry
from detecture.modeling.registry import build_registered

VLM_REGISTRY = Registry("VLM")
VLM_REGISTRY.__doc__ = """
Registry of vision-language models, which write one line per region.

The registered object is called as `obj(cfg)` and returns a module with the interface of
`detecture.modeling.vlm.qwen3vl.Qwen3VL`: `prefix`, `teacher_forced`, `generate`. Keyword arguments
beside `cfg` go to its constructor, in place of what the config says.
"""


def build_vlm(cfg: CfgNode, **options: Any) -> Any:
    """The VLM of MODEL.VLM.NAME.

    Args:
        cfg: the config.
        options: arguments of its constructor that take precedence over the config.

    Raises:
        ConfigError: none of this name is registered.
    """
    return build_registered(VLM_REGISTRY, cfg.MODEL.VLM.NAME, "MODEL.VLM.NAME", cfg, **options)

"""The registry of vision-language models."""

from typing import Any

from detecture.d2 import CfgNode, Registry
from detecture.modeling.registry import build_registered

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

"""The vision-language model that writes one line per region, behind one interface."""

from detecture.modeling.vlm.build import VLM_REGISTRY, build_vlm
from detecture.modeling.vlm.qwen3vl import Qwen3VL

__all__ = ["VLM_REGISTRY", "Qwen3VL", "build_vlm"]

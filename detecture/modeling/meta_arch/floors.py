"""Floors: answers that look at nothing. Every table carries them, so that a score has a scale."""

from typing import Any

import numpy as np
from torch import nn

from detecture.config.sections.evaluation import EvaluationSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.meta_arch.output import output_from_labels


@META_ARCH_REGISTRY.register()
class OneRegion(nn.Module):
    """Calls the whole image one texture; the other textures it was told of are empty."""

    @configurable
    def __init__(self, *, dustbin_logit: float = EvaluationSettings.dustbin_logit) -> None:
        super().__init__()
        self.dustbin_logit = dustbin_logit

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {"dustbin_logit": cfg.TEST.DUSTBIN_LOGIT}

    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs; K is 1 or hinted."""
        outputs = []
        for sample in batched_inputs:
            labels = np.zeros((sample["height"], sample["width"]), dtype=np.int64)
            num_textures = sample["k_hint"].k or 1
            outputs.append(output_from_labels(labels, num_textures, self.dustbin_logit))
        return outputs


@META_ARCH_REGISTRY.register()
class HalfSplit(nn.Module):
    """Cuts the image into K upright strips of equal width: left and right half for K = 2."""

    @configurable
    def __init__(self, *, dustbin_logit: float = EvaluationSettings.dustbin_logit) -> None:
        super().__init__()
        self.dustbin_logit = dustbin_logit

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {"dustbin_logit": cfg.TEST.DUSTBIN_LOGIT}

    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs; K is 2 or hinted."""
        outputs = []
        for sample in batched_inputs:
            height, width = sample["height"], sample["width"]
            num_textures = sample["k_hint"].k or 2
            strip_W = np.arange(width) * num_textures // width
            labels = np.broadcast_to(strip_W, (height, width))
            outputs.append(output_from_labels(labels, num_textures, self.dustbin_logit))
        return outputs

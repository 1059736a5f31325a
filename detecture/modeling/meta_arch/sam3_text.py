"""SAM 3 alone, prompted with fixed phrases: what a segmenter knows of textures without a VLM.

Benchmark spec, sections 1.2, 3.2, 3.3 and 4.1. The image is encoded once for all phrases.

Legend: R regions found, K regions asked for, Q queries of the detector, h, w size of SAM 3's masks,
H, W size asked for.
"""

from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.baselines import Sam3TextSettings
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.model import ModelSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.data.k_hint import KHint
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.region_channels import (
    logits_of_probabilities,
    output_from_regions,
    resize_scores,
    smallest_first,
    without_duplicates,
)
from detecture.modeling.segmenter import ImageFeatures, Segmenter, build_segmenter
from detecture.modeling.weights.dtypes import DTYPES
from detecture.modeling.weights.random_weights import seeded


@META_ARCH_REGISTRY.register()
class Sam3Text(nn.Module):
    """SAM 3 under one phrase for each region, under one and its inverse, or its single objects."""

    @configurable
    def __init__(
        self,
        *,
        segmenter: Segmenter,
        settings: Sam3TextSettings | None = None,
        max_regions: int = ModelSettings.max_regions,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
    ) -> None:
        """Freeze the segmenter and keep the settings.

        Args:
            segmenter: with its text encoder and a tokenizer, for `proposals` with its detector too.
            settings: the variant: `semantic` (the semantic head under a phrase for each channel; K
                unknown: every phrase once), `inverse` (the logits m of the first phrase, and -m; K
                must be 2) or `proposals` (the detector's objects under the first phrase, best
                first); the phrases, of which `semantic` takes the first K, and the last one again
                where there are fewer; and what of proposals counts.
            max_regions: most proposals where K is unknown.
            dustbin_logit: score of the dustbin.

        Raises:
            ConfigError: an unknown variant, no phrase or an empty one, or a value out of range.
            DetectureError: the segmenter lacks a part that the variant needs.
        """
        super().__init__()
        settings = settings or Sam3TextSettings()
        segmenter.require_text()
        if settings.variant == "proposals":
            segmenter.require_detector()
        # It has dropout, and nothing here trains.
        self.segmenter = segmenter.requires_grad_(False).eval()
        self.settings = settings
        self.max_regions = max_regions
        self.dustbin_logit = dustbin_logit

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            CheckpointError: the weights, MODEL.SEGMENTER.BASE, or the tokenizer cannot be had.
        """
        settings = Sam3TextSettings.from_config(cfg)
        # Random weights are in no checkpoint: the seed alone must give them again.
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            segmenter = build_segmenter(
                cfg, with_text=True, with_detector=settings.variant == "proposals"
            )
        return {
            "segmenter": segmenter.to(DTYPES[cfg.MODEL.DTYPE]),
            "settings": settings,
            "max_regions": cfg.MODEL.MAX_REGIONS,
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    def train(self, mode: bool = True) -> "Sam3Text":
        """As torch's; the segmenter stays in evaluation mode."""
        super().train(mode)
        self.segmenter.eval()
        return self

    @torch.no_grad()
    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts to standard outputs, with the phrases as descriptions.

        Args:
            batched_inputs: `image` (uint8 (3,H,W)), `height`, `width`, `k_hint`; `encoding`, what
                `encode_image` gave, instead of encoding the image anew.

        Raises:
            ConfigError: the variant `inverse` is asked for another number of regions than 2.
        """
        return [self._answer(sample) for sample in batched_inputs]

    @torch.no_grad()
    def encode_image(self, sample: dict[str, Any]) -> ImageFeatures:
        """What does not depend on phrases and K, of a mapped dict's `image`."""
        return self.segmenter.encode_image(self.segmenter.preprocess([sample["image"]]))

    def _answer(self, sample: dict[str, Any]) -> dict[str, Any]:
        features = sample.get("encoding")
        if features is None:
            features = self.encode_image(sample)
        find = {
            "semantic": self._by_phrase,
            "inverse": self._with_inverse,
            "proposals": self._objects,
        }[self.settings.variant]
        hint, size = sample["k_hint"], (sample["height"], sample["width"])
        logits_RHW, descriptions = find(features, hint, size)
        return output_from_regions(logits_RHW, descriptions, hint, self.dustbin_logit)

    def _by_phrase(
        self, features: ImageFeatures, hint: KHint, size: tuple[int, int]
    ) -> tuple[Tensor, list[str]]:
        """Logits (K,H,W), one plane for each phrase, and the phrases."""
        count = len(self.settings.phrases) if hint.k is None else hint.k
        asked = list(self.settings.phrases[:count])
        logits_Rhw = self._semantic_logits(features, asked)
        again = count - len(asked)
        logits_Khw = torch.cat([logits_Rhw, logits_Rhw[-1:].expand(again, -1, -1)])
        return resize_scores(logits_Khw, size), asked + asked[-1:] * again

    def _with_inverse(
        self, features: ImageFeatures, hint: KHint, size: tuple[int, int]
    ) -> tuple[Tensor, list[str]]:
        """Logits (2,H,W), those of the first phrase and their negative, and the texts.

        Raises:
            ConfigError: another number of regions than 2 is asked for.
        """
        if hint.k != 2:
            told = "unknown" if hint.k is None else f"{hint.k}"
            raise ConfigError(
                f"MODEL.SAM3_TEXT.VARIANT inverse always gives 2 regions, and here their number is "
                f"{told} (K hint {hint.kind!r}); use the variant semantic or proposals, or set "
                "TEST.COUNT 2"
            )
        phrase = self.settings.phrases[0]
        logits_1HW = resize_scores(self._semantic_logits(features, [phrase]), size)
        return torch.cat([logits_1HW, -logits_1HW]), [phrase, ""]

    def _objects(
        self, features: ImageFeatures, hint: KHint, size: tuple[int, int]
    ) -> tuple[Tensor, list[str]]:
        """Scores (R,H,W) of objects under the first phrase, best first; above 0 inside of them."""
        phrase = self.settings.phrases[0]
        prompt_1TD, mask_1T = self.segmenter.text_features([phrase])
        found = self.segmenter.proposals(features, _first_image(1), prompt_1TD, mask_1T)
        scores_Q, logits_Qhw = found.scores[0].float(), found.mask_logits[0].float()
        order = torch.argsort(scores_Q, descending=True, stable=True)
        order = order[scores_Q[order] > self.settings.score_threshold]
        if self.settings.duplicate_iou < 1.0:
            order = order[without_duplicates(logits_Qhw[order] >= 0, self.settings.duplicate_iou)]
        order = order[: self.max_regions if hint.k is None else hint.k]
        logits_RHW = resize_scores(logits_Qhw[order], size)
        if self.settings.smallest_on_top:
            # Hard masks: of two that claim a pixel alike, the first channel gets it.
            masks_RHW = (logits_RHW >= 0)[smallest_first(logits_RHW)]
            return logits_of_probabilities(masks_RHW), [phrase] * len(masks_RHW)
        return logits_of_probabilities(logits_RHW.sigmoid()), [phrase] * len(logits_RHW)

    def _semantic_logits(self, features: ImageFeatures, phrases: list[str]) -> Tensor:
        """Logits (R,h,w) of R phrases."""
        prompt_RTD, mask_RT = self.segmenter.text_features(phrases)
        index_R = _first_image(len(phrases))
        return self.segmenter.semantic_logits(features, index_R, prompt_RTD, mask_RT)[:, 0]


def _first_image(count: int) -> Tensor:
    """The index of the one image, for `count` prompts: int64 (R,)."""
    return torch.zeros(count, dtype=torch.int64)

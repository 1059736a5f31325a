"""Grounded SAM 3: Grounding DINO finds boxes of a phrase, SAM 3 makes a mask of each.

Three variants (benchmark spec, sections 3.2, 3.3, 4.2 and 7.1). `exemplar`, as published: each box
alone is an example of a concept, its logits one channel. `inverse`, as published for two regions:
the logits m of the best box, and -m. `box`: SAM 3 segments what lies inside each box, which is what
grounding and segmenting usually means, and overlapping masks leave the smaller one on top.

Legend: R boxes, H, W size asked for, h, w size of SAM 3's masks.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.baselines import GroundedSam3Settings
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.model import ModelSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.data.k_hint import KHint
from detecture.errors import ConfigError
from detecture.modeling.box_detector import Detections, GroundingDino, normalize_phrase
from detecture.modeling.box_segmenter import BoxExemplar, BoxPrompt, BoxSegmenter
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.region_channels import (
    logits_of_probabilities,
    output_from_regions,
    resize_scores,
    smallest_first,
)
from detecture.modeling.segmenter import build_segmenter
from detecture.modeling.weights.dtypes import DTYPES
from detecture.modeling.weights.random_weights import seeded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroundedImage:
    """What does not depend on the number of regions.

    Attributes:
        found: boxes of the phrase.
        encoding: the image, as the box segmenter encodes it; None where no box was found.
    """

    found: Detections
    encoding: Any


@META_ARCH_REGISTRY.register()
class GroundedSam3(nn.Module):
    """Grounding DINO and SAM 3, both frozen."""

    @configurable
    def __init__(
        self,
        *,
        detector: GroundingDino,
        segmenter: BoxSegmenter,
        settings: GroundedSam3Settings | None = None,
        max_regions: int = ModelSettings.max_regions,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
    ) -> None:
        """Join the parts.

        Args:
            detector: phrase to boxes.
            segmenter: boxes to masks; a `BoxPrompt` under `box`, otherwise a `BoxExemplar`.
            settings: the phrase, see `normalize_phrase`; the variant, see the top of this file; and
                how its masks meet: `hard` (decided, the smaller one is on top) or `soft` (scores
                5 * (2p - 1); a pixel goes to the surest).
            max_regions: greatest number of regions where the number is unknown.
            dustbin_logit: score of the dustbin.

        Raises:
            ConfigError: an unknown word, or an empty phrase.
        """
        super().__init__()
        settings = settings or GroundedSam3Settings()
        self.phrase = normalize_phrase(settings.phrase)
        self.detector = detector
        self.segmenter = segmenter
        self.variant = settings.variant
        self.max_regions = max_regions
        self.box_masks = settings.box_masks
        self.dustbin_logit = dustbin_logit

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        settings = GroundedSam3Settings.from_config(cfg)
        normalize_phrase(settings.phrase)  # before anything large is built
        # Each part by the seed alone, whatever was built before it.
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            detector = GroundingDino(cfg)
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            if settings.variant == "box":
                segmenter: BoxSegmenter = BoxPrompt(cfg)
                key, base = "MODEL.GROUNDED_SAM3.BOX_BASE", settings.box_base
            else:
                segmenter = BoxExemplar(build_segmenter(cfg, with_detector=True))
                segmenter.to(DTYPES[cfg.MODEL.DTYPE])
                key, base = "MODEL.SEGMENTER.BASE", cfg.MODEL.SEGMENTER.BASE
        bases = {"MODEL.GROUNDED_SAM3.DETECTOR_BASE": settings.detector_base, key: base}
        for name in [name for name, value in bases.items() if not value]:
            logger.warning("%s is empty: random weights, whose answers mean nothing", name)
        return {
            "detector": detector,
            "segmenter": segmenter,
            "settings": settings,
            "max_regions": cfg.MODEL.MAX_REGIONS,
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    @torch.no_grad()
    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs.

        Raises:
            ConfigError: the variant `inverse`, and a number of regions that is not 2.
        """
        return [self._answer(sample) for sample in batched_inputs]

    @torch.no_grad()
    def encode_image(self, sample: dict[str, Any]) -> GroundedImage:
        """What does not depend on K, of a mapped dict's `image`; it is encoded once for all K."""
        found = self.detector.detect(sample["image"], self.phrase)
        return GroundedImage(
            found, self.segmenter.encode_image(sample["image"]) if len(found) else None
        )

    def _answer(self, sample: dict[str, Any]) -> dict[str, Any]:
        hint: KHint = sample["k_hint"]
        if self.variant == "inverse" and hint.k != 2:
            raise ConfigError(
                "MODEL.GROUNDED_SAM3.VARIANT inverse has always two regions, and "
                f"{hint.k or 'nothing'} was told of their number; set TEST.COUNT 2, or use the "
                "variant exemplar or box"
            )
        image = sample.get("encoding")
        if image is None:
            image = self.encode_image(sample)
        count = self.max_regions if hint.k is None else hint.k
        found = image.found.best(1 if self.variant == "inverse" else count)
        size = (sample["height"], sample["width"])
        if len(found) == 0:
            nothing_0HW = found.boxes_R4.new_zeros((0, *size))
            return output_from_regions(nothing_0HW, [], hint, self.dustbin_logit)
        logits_Rhw = self.segmenter.logits(image.encoding, found.shares())
        logits_RHW, labels = self._channels(resize_scores(logits_Rhw, size), found.labels)
        return output_from_regions(logits_RHW, labels, hint, self.dustbin_logit)

    def _channels(self, logits_RHW: Tensor, labels: list[str]) -> tuple[Tensor, list[str]]:
        """Channels of the variant, best first: (R,H,W), `inverse` (2*R,H,W); and their texts."""
        if self.variant == "inverse":
            return torch.cat([logits_RHW, -logits_RHW]), [*labels, ""]
        if self.variant == "exemplar":
            return logits_RHW, labels
        order = smallest_first(logits_RHW)
        soft_RHW = logits_RHW >= 0 if self.box_masks == "hard" else logits_RHW.sigmoid()
        return logits_of_probabilities(soft_RHW)[order], [labels[index] for index in order]

"""TextureSAM: automatic masks of a SAM 2.1 that was trained on textures.

The parameters are the published ones of TextureSAM's evaluation; what a benchmark needs and the
publication lacks, one label map of K regions, is made as benchmark spec, section 4.7, has it.
With SAM 2.1's own weights it is the row SAM 2*, with Meta's default parameters the row SAM 2.

Legend: R regions, H, W image size.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detecture.config.sections.baselines import TextureSamSettings
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.model import ModelSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.region_channels import (
    logits_of_probabilities,
    output_from_regions,
    resize_scores,
    smallest_first,
    without_duplicates,
)
from detecture.modeling.sam2 import (
    AutomaticMasks,
    build_processor,
    build_sam2,
    generate_masks,
)

if TYPE_CHECKING:
    from transformers import Sam2Model


@META_ARCH_REGISTRY.register()
class TextureSam(nn.Module):
    """The best of SAM 2's automatic masks, without near duplicates."""

    @configurable
    def __init__(
        self,
        *,
        model: "Sam2Model",
        settings: TextureSamSettings | None = None,
        max_regions: int = ModelSettings.max_regions,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
    ) -> None:
        """Keep the model and the settings.

        Args:
            model: SAM 2 of transformers, frozen and in evaluation mode.
            settings: of the masks, and of how they become regions.
            max_regions: greatest number of regions where K is unknown.
            dustbin_logit: score of the dustbin.

        Raises:
            ConfigError: a value is out of range.
        """
        super().__init__()
        if max_regions < 1:
            raise ConfigError(f"MODEL.MAX_REGIONS: {max_regions} is not positive")
        settings = settings or TextureSamSettings()
        self.sam2 = model
        self.sam2.mask_decoder.dynamic_multimask_via_stability = settings.dynamic_multimask
        self.settings = settings
        self.max_regions = max_regions
        self.dustbin_logit = dustbin_logit
        self.processor = build_processor(model)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        settings = TextureSamSettings.from_config(cfg)
        seed = cfg.MODEL.RANDOM_WEIGHTS_SEED
        return {
            "model": build_sam2(settings.base, settings.config, seed),
            "settings": settings,
            "max_regions": cfg.MODEL.MAX_REGIONS,
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs.

        Returns:
            For each the standard output, with `all_masks` besides: COCO RLE of every automatic
            mask, at the image's own size, best first.
        """
        outputs = []
        for sample in batched_inputs:
            found = sample.get("encoding")
            if found is None:
                found = self.encode_image(sample)
            outputs.append(self.answer(found, sample))
        return outputs

    def encode_image(self, sample: dict[str, Any]) -> AutomaticMasks:
        """What does not depend on K: all masks of a mapped dict's `image`."""
        return generate_masks(self.sam2, self.processor, sample["image"], self.settings)

    def answer(self, found: AutomaticMasks, sample: dict[str, Any]) -> dict[str, Any]:
        """Standard output from the masks of an image, for what a mapped dict asks.

        Args:
            found: the masks.
            sample: `k_hint`, and the size that is asked for: `height`, `width`.
        """
        hint = sample["k_hint"]
        masks_RHW = self.best_masks(found, self.max_regions if hint.k is None else hint.k)
        size = (sample["height"], sample["width"])
        logits_RHW = resize_scores(logits_of_probabilities(masks_RHW), size)
        if self.settings.smallest_on_top:
            logits_RHW = logits_RHW[smallest_first(logits_RHW)]
        texts = [""] * len(logits_RHW)
        output = output_from_regions(logits_RHW, texts, hint, self.dustbin_logit)
        return output | {"all_masks": found.rles}

    def best_masks(self, found: AutomaticMasks, count: int) -> Tensor:
        """The best masks that are unlike each other, best first: bool (R,H,W), R at most `count`.

        One mask is unpacked at a time: all of them would not fit.
        """
        masks_RHW = torch.zeros((0, *found.size), dtype=torch.bool)
        for index in range(len(found.rles)):
            if len(masks_RHW) == count:
                break
            tried = torch.cat([masks_RHW, found.mask(index)[None]])
            masks_RHW = tried[without_duplicates(tried, self.settings.duplicate_iou)]
        return masks_RHW

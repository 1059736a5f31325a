"""Trains the describer's look at textures by itself: what the texture of each true region is.

A describer starts from it by MODEL.DESCRIBER.TEXTURE_WEIGHTS. Trained with the sentences instead,
the trunk forgets what it knew: a linear probe for 44 families fell from .49 to .12 in 1,000 steps.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.config.sections.describer import DescriberSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.data.synthetic import RegionAttributes
from detecture.errors import ConfigError
from detecture.modeling.describer.describer import checked_widths
from detecture.modeling.describer.draw import draw_regions
from detecture.modeling.describer.texture import CLASSES, TextureOdds, by_attribute
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.weights.random_weights import seeded


@META_ARCH_REGISTRY.register()
class TextureClassifier(nn.Module):
    """A vector of each region, read as log odds of what its texture is."""

    @configurable
    def __init__(self, *, texture: TextureOdds, settings: DescriberSettings | None = None) -> None:
        """Wrap what looks at regions.

        Args:
            texture: gives log odds of `CLASSES` for each region.
            settings: how regions are drawn from training images.
        """
        super().__init__()
        self.texture = texture
        self.settings = settings or DescriberSettings()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            CheckpointError: MODEL.DESCRIBER.TEXTURE_WEIGHTS cannot be read or does not fit.
        """
        settings = DescriberSettings.from_config(cfg)
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            texture = TextureOdds(checked_widths(settings.texture_widths))
        if settings.texture_weights:
            texture.start_from(settings.texture_weights)
        return {
            "texture": texture,
            "settings": settings,
        }

    def loss_normalizers(self, batched_inputs: list[dict[str, Any]]) -> dict[str, float]:
        """What the sums of the losses are to be divided by: the number of drawn regions."""
        most = self.settings.regions_per_image
        return {"regions": float(sum(min(most, len(_attributes(s))) for s in batched_inputs))}

    @takes_plain_inputs
    def forward(
        self, batched_inputs: list[dict[str, Any]], normalizers: dict[str, float] | None = None
    ) -> dict[str, Tensor]:
        """Losses of mapped dicts.

        Args:
            batched_inputs: with `image` (3,S,S), all of one size, `sem_seg`, `descriptions` and
                `attributes`, the `RegionAttributes` of the regions.
            normalizers: sums of `loss_normalizers` over the whole effective batch; None: those of
                these images.

        Returns:
            `loss_family`, `loss_orientation` and so on, scalars: mean cross-entropy in nats of a
            region.

        Raises:
            ConfigError: it is asked for an evaluation, or the images have no attributes.
        """
        if not self.training:
            raise ConfigError(
                "TextureClassifier only trains a part of the describer: leave DATASETS.TEST empty"
            )
        images, masks, regions = [], [], []
        for sample in batched_inputs:
            of_all = _attributes(sample)
            drawn = draw_regions(sample, self.settings.regions_per_image, self.settings.mask_noise)
            images.append(sample["image"])
            masks.append(drawn.masks_RSS)
            regions += [of_all[number] for number in drawn.numbers]
        if normalizers is None:
            normalizers = self.loss_normalizers(batched_inputs)
        losses = {}
        for name, odds_Nc in by_attribute(self.texture(torch.stack(images), masks)).items():
            classes = [CLASSES[name].index(getattr(region, name)) for region in regions]
            target_N = torch.tensor(classes)
            total = functional.cross_entropy(odds_Nc, target_N.to(odds_Nc.device), reduction="sum")
            losses[f"loss_{name}"] = total / normalizers["regions"]
        return losses


def _attributes(sample: dict[str, Any]) -> list[RegionAttributes]:
    """Of the regions of a mapped image; a data set that does not have them is a ConfigError."""
    if "attributes" not in sample:
        raise ConfigError(
            f"image {sample['image_id']!r} comes without attributes of its regions: "
            "TextureClassifier learns from DATASETS.TRAIN synthetic_swatches alone"
        )
    found: list[RegionAttributes] = sample["attributes"]
    return found

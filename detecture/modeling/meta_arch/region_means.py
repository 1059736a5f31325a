"""Scores of classes over the regions of the grouping nets: a region has the mean of its pixels.

A small model knows roughly where a name fits; which pixels belong together the grouping nets know
better. Those are frozen, and in no checkpoint of the model that they serve.

Legend: H, W image size; h, w working size; V views, T names, g side of the logits, K regions.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from detecture.checkpoint.manifest import verify_checkpoint
from detecture.checkpoint.shipped import locate
from detecture.checkpoint.weights_file import read_weights
from detecture.config.sections.semantic import RegionMeansSettings
from detecture.d2 import CfgNode
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping

_KEY = "MODEL.REGION_MEANS.WEIGHTS"
_NOT_THERE = -30.0  # a logit of what has no score; infinity would make borders of regions NaN


class RegionMeans:
    """Divides an image and averages logits in each part."""

    def __init__(self, grouping: TextureGrouping, settings: RegionMeansSettings, most: int) -> None:
        """Keep the parts.

        Args:
            grouping: finds regions, without a describer; frozen here.
            settings: how many there are.
            most: regions of an image.
        """
        self.grouping = grouping.eval().requires_grad_(False)
        self.settings, self.most = settings, most

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "RegionMeans | None":
        """As MODEL.REGION_MEANS says; None where it is off.

        Raises:
            ConfigError: it is on together with windows.
            CheckpointError: the weights cannot be read or do not fit MODEL.GROUPING.
        """
        settings = RegionMeansSettings.from_config(cfg)
        if not settings.weights:
            return None
        if cfg.TEST.SLIDING.ENABLED:
            raise ConfigError(
                "MODEL.REGION_MEANS divides whole images: set TEST.SLIDING.ENABLED False, or "
                "MODEL.REGION_MEANS.WEIGHTS ''"
            )
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.GROUPING.DESCRIBE = False
        grouping = TextureGrouping(cfg)
        file = locate(settings.weights)
        verify_checkpoint(file, _KEY)
        try:
            grouping.load_checkpoint_state(read_weights(file)[0])
        except CheckpointError as error:
            raise CheckpointError(f"{_KEY} {file}: {error}, in MODEL.GROUPING") from error
        return cls(grouping, settings, cfg.MODEL.MAX_REGIONS)

    @torch.no_grad()
    def __call__(self, image_3HW: Tensor, logits_VTgg: Tensor) -> Tensor:
        """Logits at working size, (V,T,h,w), in each region the mean of `logits_VTgg`.

        Args:
            image_3HW: uint8.
            logits_VTgg: of the whole image, as it is.
        """
        finder = self.grouping.finder
        features = finder.encode(image_3HW.permute(1, 2, 0).cpu().numpy())
        points = finder.points(features)
        if self.settings.count == "chosen":
            count = self.grouping.choose_count(features, points)
        elif self.settings.count == "most":
            count = self.most
        else:
            count = min(max(logits_VTgg.shape[1], 2), self.most)
        scores_Khw = finder.scores(features, finder.divide(points, count))
        size = scores_Khw.shape[-2:]
        larger_VThw = functional.interpolate(logits_VTgg.float(), size, mode="bilinear")
        label_hw = scores_Khw.argmax(dim=0).to(larger_VThw.device)
        member_KN = functional.one_hot(label_hw.flatten(), count).T.to(larger_VThw.dtype)
        sums_VTK = larger_VThw.flatten(2) @ member_KN.T
        means_VTK = sums_VTK / member_KN.sum(dim=1).clamp(min=1.0)
        if self.settings.every_name:
            means_VTK = _paired(means_VTK)
        return means_VTK[:, :, label_hw]


def _paired(logits_VTK: Tensor) -> Tensor:
    """Logits (V,T,K) whose best name in a region that has a partner is that one."""
    mean_TK = logits_VTK.mean(dim=0)
    names, regions = linear_sum_assignment(-mean_TK.cpu().numpy())
    others_TK = torch.zeros_like(mean_TK, dtype=torch.bool)
    others_TK[:, regions] = True
    others_TK[names, regions] = False
    return logits_VTK.masked_fill(others_TK, _NOT_THERE)

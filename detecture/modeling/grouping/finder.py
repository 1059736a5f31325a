"""Finds the regions of an image: features of every grid cell, mixtures over them, their consensus.

Legend: H, W image size; h, w working size; g, v grid of cells (h/4, w/4, rounded up); N = g*v
cells; C embedding channels of all nets, c of one; F classical features, p principal components,
K regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn import functional

from detecture.config.sections.grouping import GroupingSettings, TextureClustersSettings
from detecture.modeling.grouping.classical import ClassicalFeatures, is_flat, resize_longer
from detecture.modeling.grouping.guided_filter import guided_filter
from detecture.modeling.grouping.mixtures import consensus, fit_mixtures, principal_components
from detecture.modeling.grouping.net import STRIDE, GroupingNet

# Those of TextureClusters, but for the position, which is no part of them here.
_FAMILY_WEIGHTS = (
    TextureClustersSettings.color_weight,
    TextureClustersSettings.deviation_weight,
    TextureClustersSettings.gabor_weight,
    0.0,
)


@dataclass(frozen=True)
class GridFeatures:
    """What regions are found by, without their number.

    Attributes:
        embedding_NC: of the nets side by side, of unit length, averaged over views.
        classical_NF: weighted and scaled to a total variance of 1; F = 0 where they are not used.
        position_N2: row and column, -0.5..0.5 along the longer side.
        grid: g and v.
        guide_1hw: the grey image at working size, 0..1.
    """

    embedding_NC: np.ndarray
    classical_NF: np.ndarray
    position_N2: np.ndarray
    grid: tuple[int, int]
    guide_1hw: Tensor


@dataclass(frozen=True)
class Division:
    """An answer for one number of regions.

    Attributes:
        posterior_NK: mean over the mixtures.
        agreement: of the mixtures, 0..1, see `consensus`.
    """

    posterior_NK: np.ndarray
    agreement: float


class RegionFinder:
    """Divides images into a given number of regions."""

    def __init__(
        self,
        nets: Sequence[GroupingNet],
        classical: ClassicalFeatures,
        settings: GroupingSettings | None = None,
    ) -> None:
        """Keep the parts; there is one mixture for each classical weight and number of components.

        Args:
            nets: embed pixels; of one form, each trained by itself.
            classical: its `working_size` is that of all.
            settings: of views, features, mixtures and filter. SCALES are dealt out to the nets in
                turn, so that several nets take no longer than one.
        """
        self.nets = tuple(nets)
        self.classical = classical
        self.settings = settings or GroupingSettings()

    @torch.no_grad()
    def encode(self, image: np.ndarray) -> GridFeatures:
        """Features of an image, uint8 (H,W,3).

        Where it `is_flat` they are 0: its cells are one point, so that every division has one
        region that is not empty. The nets and the position would tell its borders from its middle.
        """
        small = resize_longer(image, self.classical.working_size)
        height, width = small.shape[:2]
        grid = (-(-height // STRIDE), -(-width // STRIDE))
        pixels_13hw = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255.0
        embedding_NC = self._embed(pixels_13hw, grid).numpy().astype(np.float64)
        with _thread_pools().limit(limits=1):
            classical_NF = self._classical(small, grid)
        rows, columns = np.indices(grid)
        position_N2 = np.stack([rows.ravel(), columns.ravel()], axis=1) / max(grid)
        position_N2 = position_N2 - position_N2.mean(axis=0)
        if is_flat(small):
            embedding_NC, position_N2 = np.zeros_like(embedding_NC), np.zeros_like(position_N2)
        return GridFeatures(
            embedding_NC,
            classical_NF,
            position_N2,
            grid,
            pixels_13hw[0].mean(dim=0, keepdim=True),
        )

    def _embed(self, pixels_13hw: Tensor, grid: tuple[int, int]) -> Tensor:
        """Embeddings (N,C) of the cells, on the CPU, of pixels in 0..1; 0 without the nets."""
        device = self.nets[0].out.weight.device
        totals = [torch.zeros(1, net.channels, *grid) for net in self.nets]
        if not self.settings.use_net:
            return torch.cat(totals, dim=1)[0].flatten(1).T
        for number, scale in enumerate(self.settings.scales):
            net, total_1cgv = self.nets[number % len(totals)], totals[number % len(totals)]
            size = [max(16, round(side * scale)) for side in pixels_13hw.shape[2:]]
            view = pixels_13hw
            if size != list(pixels_13hw.shape[2:]):
                view = functional.interpolate(view, size, mode="bilinear", antialias=True)
            view = view.to(device).contiguous(memory_format=torch.channels_last)
            embedded = [net(view)]
            if self.settings.flip:
                embedded.append(net(view.flip(3)).flip(3))
            for one in embedded:
                total_1cgv += functional.interpolate(one, grid, mode="bilinear").cpu()
        unit = [functional.normalize(total, dim=1) for total in totals]
        return (torch.cat(unit, dim=1) / len(unit) ** 0.5)[0].flatten(1).T

    def _classical(self, image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        """Features (N,F) of an image at working size, uint8 (h,w,3); of a total variance of 1."""
        if not any(self.settings.classical_weights):
            return np.zeros((grid[0] * grid[1], 0))
        features_hwF = self.classical(image).stack(*_FAMILY_WEIGHTS)
        # They are smooth: one pixel stands for its cell.
        rows = np.minimum(np.arange(grid[0]) * STRIDE + STRIDE // 2, image.shape[0] - 1)
        columns = np.minimum(np.arange(grid[1]) * STRIDE + STRIDE // 2, image.shape[1] - 1)
        features_NF = features_hwF[rows][:, columns].reshape(len(rows) * len(columns), -1)
        return features_NF / np.sqrt(max(features_NF.var(axis=0).sum(), 1e-12))

    def points(self, features: GridFeatures) -> list[np.ndarray]:
        """What each mixture divides: arrays (N,p), each with a p of its own."""
        found = []
        for weight in self.settings.classical_weights:
            joined = np.concatenate(
                [
                    features.embedding_NC,
                    weight * features.classical_NF,
                    self.settings.position_weight * features.position_N2,
                ],
                axis=1,
            )
            found += [principal_components(joined, count) for count in self.settings.components]
        return found

    def divide(self, points: list[np.ndarray], count: int) -> Division:
        """Divide an image's cells into `count` regions.

        Args:
            points: arrays (N,p), see `points`.
            count: K.
        """
        with _thread_pools().limit(limits=1):
            return Division(*consensus(fit_mixtures(points, count, self.settings.starts)))

    def scores(self, features: GridFeatures, division: Division) -> Tensor:
        """Scores (K,h,w) of the regions at working size, filtered along the image's edges."""
        posterior_KN = torch.from_numpy(division.posterior_NK.T.copy()).float()
        coarse_1Kgv = posterior_KN.reshape(1, -1, *features.grid)
        size = features.guide_1hw.shape[1:]
        scores_Khw = functional.interpolate(coarse_1Kgv, size, mode="bilinear")[0]
        if self.settings.filter_radius < 1:
            return scores_Khw
        return guided_filter(
            features.guide_1hw,
            scores_Khw,
            self.settings.filter_radius,
            self.settings.filter_epsilon,
        )


@cache
def _thread_pools() -> ThreadpoolController:
    """Those of the libraries that are loaded; to look for them takes 5 ms."""
    return ThreadpoolController()

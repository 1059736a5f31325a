"""K-means on classical colour and texture features: the method that needs no training at all.

Every table carries its row (benchmark spec, section 10). Lab colour and its local deviation,
energy of a bank of Gabor filters (3 wavelengths x 4 orientations) and position, each smoothed and
standardised over the image, weighted by family, clustered by scikit-learn's K-means.

An unknown K is chosen by the mean silhouette (Rousseeuw 1987) over a range of K, 2 to 6 by default,
on a coarse grid of pixels; so it never answers 1, but for an image of one colour.

Legend: H, W image size; h, w working size; F features; N grid pixels.
"""

from typing import Any

import numpy as np
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits
from torch import nn

from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.grouping import TextureClustersSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.modeling.grouping.classical import ClassicalFeatures
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.meta_arch.output import output_from_labels

# Smoothed features hardly change between neighbours: K-means is fitted on every 4th pixel in each
# direction and applied to all; the silhouette, quadratic in its pixels, is taken on every 8th.
_FIT_STRIDE = 4
_SILHOUETTE_STRIDE = 8


@META_ARCH_REGISTRY.register()
class TextureClusters(nn.Module):
    """K-means on Lab colour, local deviation, Gabor energy and position."""

    @configurable
    def __init__(
        self,
        *,
        settings: TextureClustersSettings | None = None,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
    ) -> None:
        """Keep the settings and make the filters.

        Args:
            settings: of features, weights and K-means.
            dustbin_logit: score of the dustbin; no pixel goes to it.
        """
        super().__init__()
        self.settings = settings = settings or TextureClustersSettings()
        self.dustbin_logit = dustbin_logit
        self.classical = ClassicalFeatures(
            settings.working_size,
            settings.gabor_wavelengths,
            settings.gabor_orientations,
            settings.smoothing,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        return {
            "settings": TextureClustersSettings.from_config(cfg),
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs."""
        outputs = []
        for sample in batched_inputs:
            features_hwF = sample.get("encoding")
            if features_hwF is None:
                features_hwF = self.encode_image(sample)
            labels, num_textures = self.cluster(features_hwF, sample["k_hint"].k)
            if sample["k_hint"].k is None:  # an image of one pixel has no two regions
                labels = _resize_labels(labels, sample["height"], sample["width"])
                present, labels = np.unique(labels, return_inverse=True)
                labels = labels.reshape(sample["height"], sample["width"])
                num_textures = len(present)
            labels = _resize_labels(labels, sample["height"], sample["width"])
            outputs.append(output_from_labels(labels, num_textures, self.dustbin_logit))
        return outputs

    def encode_image(self, sample: dict[str, Any]) -> np.ndarray:
        """What does not depend on K: the features (h,w,F) of a mapped dict's `image`."""
        with threadpool_limits(limits=1):
            return self.features(sample["image"].permute(1, 2, 0).cpu().numpy())

    def cluster(self, features_hwF: np.ndarray, k: int | None) -> tuple[np.ndarray, int]:
        """Cluster the features of one image.

        Args:
            features_hwF: see `features`.
            k: number of clusters; None chooses it by silhouette.

        Returns:
            (h,w) labels 0..K-1, and K.
        """
        # One thread: sums over threads differ in the last bit, and several processes share a CPU.
        with threadpool_limits(limits=1):
            fit_NF = features_hwF[::_FIT_STRIDE, ::_FIT_STRIDE].reshape(-1, features_hwF.shape[-1])
            if k is None:
                k, kmeans = self._choose_k(features_hwF, fit_NF)
            else:
                kmeans = self._fit(fit_NF, k)
            labels = kmeans.predict(features_hwF.reshape(-1, features_hwF.shape[-1]))
        return labels.reshape(features_hwF.shape[:2]), k

    def features(self, image: np.ndarray) -> np.ndarray:
        """Standardised and weighted features: uint8 (H,W,3) to float64 (h,w,F)."""
        families = self.classical(image)
        return families.stack(
            self.settings.color_weight,
            self.settings.deviation_weight,
            self.settings.gabor_weight,
            self.settings.position_weight,
        )

    def _fit(self, fit_NF: np.ndarray, k: int) -> KMeans:
        # No more clusters than different points: what is asked for beyond that stays empty.
        k = min(k, len(np.unique(fit_NF, axis=0)))
        return KMeans(k, n_init=self.settings.restarts, random_state=self.settings.seed).fit(fit_NF)

    def _choose_k(self, features_hwF: np.ndarray, fit_NF: np.ndarray) -> tuple[int, KMeans]:
        grid = features_hwF[::_SILHOUETTE_STRIDE, ::_SILHOUETTE_STRIDE]
        grid_NF = grid.reshape(-1, features_hwF.shape[-1])
        best_score, best_k, best = -np.inf, 0, None
        for k in range(self.settings.k_range[0], self.settings.k_range[1] + 1):
            kmeans = self._fit(fit_NF, k)
            grid_labels = kmeans.predict(grid_NF)
            # The silhouette is defined for 2 to N-1 clusters that are really there.
            present = len(np.unique(grid_labels))
            score = silhouette_score(grid_NF, grid_labels) if 1 < present < len(grid_NF) else -1.0
            if score > best_score:
                best_score, best_k, best = score, k, kmeans
        return best_k, best


def _resize_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Labels (h,w) at another size by the nearest pixel: int32 (H,W)."""
    resized = Image.fromarray(labels.astype(np.int32)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    return np.asarray(resized)

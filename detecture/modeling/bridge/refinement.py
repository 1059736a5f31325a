"""Masks refined on the pixel embeddings: the queries say what is where, the clusters up to where.

The masks of an image's queries are where a mixture with one shared covariance starts; a few steps
of it move their borders to where the embeddings change.

Legend: B images, N active slots of all images, K textures of one image, Q = K + 1 of its
slots (the dustbin first), E channels, h, w size of logits and embeddings, M = h*w, P pixels that
are no dustbin, F components.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from detecture.config.sections.detecture import RefinementSettings
from detecture.modeling.grouping.mixtures import refine

_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Refinement:
    """Moves the borders of masks; see the top of this file.

    Attributes:
        settings: see the MODEL.REFINEMENT keys.
    """

    settings: RefinementSettings

    def acts(self, training: bool) -> bool:
        """Whether anything is refined in this mode."""
        return self.settings.steps > 0 and (self.settings.in_training or not training)

    def __call__(self, logits_Nhw: Tensor, count_B: Tensor, embedding_BEhw: Tensor) -> Tensor:
        """Refine the masks of a batch, each image by itself.

        A pixel that is dustbin stays so, and no other becomes it: the mixture runs over the
        textures alone, on the pixels that have one, and a pixel's highest score stays what it was.

        Args:
            logits_Nhw: of the active slots, image after image, the dustbin first.
            count_B: int64, textures of each image, 0..; below two there is nothing to move.
            embedding_BEhw: of the images.

        Returns:
            Logits (N,h,w), float32 at least.
        """
        wide = torch.promote_types(logits_Nhw.dtype, torch.float32)
        images = logits_Nhw.to(wide).split([count + 1 for count in count_B.tolist()])
        with torch.autocast(logits_Nhw.device.type, enabled=False):
            refined = [
                self._image(logits, embedding) if len(logits) > 2 else logits
                for logits, embedding in zip(images, embedding_BEhw.to(wide), strict=True)
            ]
        return torch.cat(refined)

    def _image(self, logits_Qhw: Tensor, embedding_Ehw: Tensor) -> Tensor:
        """Refined logits (Q,h,w) of one image; those given where hardly a pixel has a texture."""
        logits_MQ = logits_Qhw.flatten(1).T
        is_texture_M = logits_MQ.argmax(dim=1) > 0
        if int(is_texture_M.sum()) < 2:
            return logits_Qhw
        textures_PK = logits_MQ[is_texture_M, 1:]
        before_PK = textures_PK.log_softmax(dim=1)
        points_PF = _components(embedding_Ehw.flatten(1).T[is_texture_M], self.settings.dimensions)
        after_PK = (
            refine(points_PF, before_PK.exp(), self.settings.steps).clamp(min=_LEAST_SHARE).log()
        )
        mixed_PK = torch.lerp(before_PK, after_PK, self.settings.weight)
        # The highest score stays, so that what is dustbin does not change.
        shift_P1 = textures_PK.amax(dim=1, keepdim=True) - mixed_PK.amax(dim=1, keepdim=True)
        refined_MK = logits_MQ[:, 1:].masked_scatter(is_texture_M[:, None], mixed_PK + shift_P1)
        return torch.cat([logits_MQ[:, :1], refined_MK], dim=1).T.reshape(logits_Qhw.shape)


def _components(points_PE: Tensor, count: int) -> Tensor:
    """Unit-length points in their first F = min(`count`, E) principal components: (P,F)."""
    points_PE = torch.nn.functional.normalize(points_PE, dim=1)
    if count >= points_PE.shape[1]:
        return points_PE
    with torch.no_grad():  # directions of equal variance have no gradient
        centred_PE = points_PE - points_PE.mean(dim=0)
        _, vectors_EE = torch.linalg.eigh(centred_PE.T @ centred_PE)
    return points_PE @ vectors_EE[:, -count:]

"""The grouping loss on the pixel embeddings that masks are read from.

Naming a mask is learnt slowly: a query and the pixels must come to agree. That pixels of one region
are alike can be learnt without any query, from far fewer images; then a query only has to point.

Legend: B images, E channels, h, w size of the embeddings, M = h*w, P pixels drawn of an image,
H, W size of the ground truth.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from detecture.config.sections.losses import GroupingLossSettings
from detecture.modeling.grouping.loss import grouping_loss, sample_pixels


@dataclass(frozen=True)
class GroupingTerm:
    """The grouping loss with its weight.

    Attributes:
        weight: of the term; 0: there is none.
        settings: of the loss.
    """

    weight: float
    settings: GroupingLossSettings

    def sum(self, embedding_BEhw: Tensor, labels_BHW: Tensor, image_ids: Sequence[str]) -> Tensor:
        """The weighted loss, summed over the images; computed in float32 at least.

        Args:
            embedding_BEhw: float, of any length over E.
            labels_BHW: int64; 0 dustbin, which is left out: it is no group.
            image_ids: which pixels are drawn follows from these, the same in every batch.

        Returns:
            Scalar; 0 where no image has a region.
        """
        size = embedding_BEhw.shape[-2:]
        nearest_B1hw = functional.interpolate(labels_BHW[:, None].float(), size, mode="nearest")
        labels_BM = nearest_B1hw.flatten(1).long() - 1
        found = [bool(found) for found in (labels_BM >= 0).any(dim=1).cpu()]
        if not any(found):
            return embedding_BEhw.new_zeros(())
        kept_B = torch.tensor(found, device=labels_BM.device)
        labels_BM, embedding_BEM = labels_BM[kept_B], embedding_BEhw[kept_B].flatten(2)
        names = [name for name, there in zip(image_ids, found, strict=True) if there]
        wide = torch.promote_types(embedding_BEM.dtype, torch.float32)
        with torch.autocast(embedding_BEM.device.type, enabled=False):
            mean = grouping_loss(
                functional.normalize(embedding_BEM.to(wide), dim=1),
                labels_BM,
                self._drawn(labels_BM.cpu(), names).to(labels_BM.device),
                temperature=self.settings.temperature,
                contrast_weight=self.settings.contrast_weight,
            )
        return self.weight * len(names) * mean

    def _drawn(self, labels_BM: Tensor, names: Sequence[str]) -> Tensor:
        """Pixels that the loss is taken over: int64 (B,P)."""
        # Each image by its own name: its draw must not depend on its neighbours in the batch.
        drawn = []
        for labels_M, name in zip(labels_BM, names, strict=True):
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            drawn.append(sample_pixels(labels_M[None], self.settings.pixels, generator))
        return torch.cat(drawn)

"""AFR: patches are gated by channel, by place and by how certain they are.

Published: f + s (gate f - f) with s = sigmoid of a parameter from 0 on, gate the product of a
squeeze-and-excitation, a spatial gate and 1 / (1 + softplus(uncertainty)).
Published code: built for CLIP's visual width and fed the common one, it ends in an error; s starts
at 0.5, where all features shrink; the weight of its loss has no loss.
Here: the scale starts at
zero, so that nothing changes; the same patches go to the cost and to the guidance, in training and
in inference; the certainty is taught by `loss_rectify`: a patch is certain as far as its pixels are
of one class.

Legend: B images, E width of the features, G grid, H, W size of the labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.modeling.ahs.patch_labels import patch_purity


class Rectification(nn.Module):
    """The three gates."""

    def __init__(self, width: int) -> None:
        """Make the layers; width E."""
        super().__init__()
        squeezed = max(width // 16, 1)
        self.channels = nn.Sequential(
            nn.Linear(width, squeezed), nn.GELU(), nn.Linear(squeezed, width)
        )
        self.places = nn.Conv2d(width, 1, 1)
        self.uncertainty = nn.Sequential(
            nn.Conv2d(width, max(width // 4, 1), 1),
            nn.GELU(),
            nn.Conv2d(max(width // 4, 1), 1, 1),
        )
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens_BEGG: Tensor) -> Tensor:
        """Rectified patches (B,E,G,G), of (B,E,G,G)."""
        channels_BE = self.channels(tokens_BEGG.mean(dim=(2, 3))).sigmoid()
        gate = channels_BE[:, :, None, None] * self.places(tokens_BEGG).sigmoid()
        return tokens_BEGG + self.scale * (gate * self.certainty(tokens_BEGG) - 1) * tokens_BEGG

    def certainty(self, tokens_BEGG: Tensor) -> Tensor:
        """How certain patches (B,E,G,G) are: (B,1,G,G) in 0..1."""
        return 1 / (1 + functional.softplus(self.uncertainty(tokens_BEGG)))

    def loss(self, tokens_BEGG: Tensor, labels_BHW: Tensor, ignore_value: int) -> Tensor:
        """Binary cross-entropy of the certainty and the purity of each patch, a scalar.

        Args:
            tokens_BEGG: patches, before they are rectified.
            labels_BHW: int64 class numbers, and `ignore_value`.
            ignore_value: of pixels without a label; such patches do not count.
        """
        certainty_BGG = self.certainty(tokens_BEGG)[:, 0].float()
        purity_BGG, known_BGG = patch_purity(labels_BHW, tokens_BEGG.shape[-1], ignore_value)
        if not bool(known_BGG.any()):
            return 0.0 * certainty_BGG.sum()
        found = certainty_BGG[known_BGG].clamp(1e-6, 1 - 1e-6)
        return functional.binary_cross_entropy(found, purity_BGG[known_BGG])

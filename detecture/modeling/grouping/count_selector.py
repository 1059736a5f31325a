"""Chooses the number of regions of a picture from what speaks for each.

Legend: B pictures, K numbers of regions to choose from (1 to K), E figures, see `evidence`.
"""

import torch
from torch import Tensor, nn

from detecture.modeling.grouping.evidence import EVIDENCE

TARGET_TEMPERATURE = 0.04
"""Panoptic IoU that a number of regions may lack to be worth 1/e of the best one."""


class CountSelector(nn.Module):
    """A perceptron that scores every number of regions by itself, with its place in the list."""

    def __init__(self, most: int = 6, width: int = 48) -> None:
        """Make the layers; a new selector knows nothing and must be fitted.

        Args:
            most: greatest number of regions.
            width: of the hidden layers.
        """
        super().__init__()
        self.most = most
        # Parameters, so that checkpoints have them; they are set by `standardise`, not trained.
        self.center = nn.Parameter(torch.zeros(EVIDENCE), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(EVIDENCE), requires_grad=False)
        self.layers = nn.Sequential(
            nn.Linear(EVIDENCE + most, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 1),
        )

    def standardise(self, evidence_BKE: Tensor) -> None:
        """Take centre and scale of the figures from the pictures that it is fitted to."""
        flat = evidence_BKE.flatten(0, 1)
        with torch.no_grad():
            self.center.copy_(flat.mean(dim=0))
            self.scale.copy_(flat.std(dim=0).clamp(min=1e-4))

    def forward(self, evidence_BKE: Tensor) -> Tensor:
        """Log odds (B,K) of the numbers 1 to K."""
        places_BKK = torch.eye(self.most, device=evidence_BKE.device).expand(
            len(evidence_BKE), -1, -1
        )
        # Pictures unlike all that it was fitted to must not run away.
        figures = ((evidence_BKE - self.center) / self.scale).clamp(-4.0, 4.0)
        odds_BK: Tensor = self.layers(torch.cat([figures, places_BKK], dim=2))[..., 0]
        return odds_BK


def selection_loss(odds_BK: Tensor, quality_BK: Tensor) -> Tensor:
    """Cross-entropy to what each number of regions is worth.

    Args:
        odds_BK: see `CountSelector`.
        quality_BK: panoptic IoU of the division into so many regions, 0..1.
    """
    target_BK = torch.softmax(quality_BK / TARGET_TEMPERATURE, dim=1)
    return -(target_BK * torch.log_softmax(odds_BK, dim=1)).sum(dim=1).mean()

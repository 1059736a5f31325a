"""Chooses the number of regions of an image from what speaks for each.

Legend: B images, K numbers of regions to choose from (1 to K), E figures, see `evidence`; M
members.
"""

import torch
from torch import Tensor, nn

from detecture.modeling.grouping.evidence import EVIDENCE

TARGET_TEMPERATURE = 0.1
"""Panoptic IoU that a number of regions may lack to be worth 1/e of the best one."""


class CountSelector(nn.Module):
    """Perceptrons that score every number of regions by itself, with its place in the list.

    Several of them, fitted to the same images from different starts, are averaged: one alone is
    sure where it should not be.
    """

    def __init__(
        self, most: int = 6, width: int = 48, members: int = 5, disturbance: float = 0.3
    ) -> None:
        """Make the layers; a new selector knows nothing and must be fitted.

        Args:
            most: greatest number of regions.
            width: of the hidden layers.
            members: perceptrons.
            disturbance: in fitting, the deviation of the noise on the standardised figures, and the
                share of the hidden values that is left out.
        """
        super().__init__()
        self.most = most
        self.disturbance = disturbance
        # Parameters, so that checkpoints have them; they are set by `standardise`, not trained.
        self.center = nn.Parameter(torch.zeros(EVIDENCE), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(EVIDENCE), requires_grad=False)
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(EVIDENCE + most, width),
                nn.ReLU(),
                nn.Dropout(disturbance),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, 1),
            )
            for _ in range(members)
        )

    def standardise(self, evidence_BKE: Tensor) -> None:
        """Take centre and scale of the figures from the images that it is fitted to."""
        flat = evidence_BKE.flatten(0, 1)
        with torch.no_grad():
            self.center.copy_(flat.mean(dim=0))
            self.scale.copy_(flat.std(dim=0).clamp(min=1e-4))

    def forward(self, evidence_BKE: Tensor) -> Tensor:
        """Log probabilities (B,K) of the numbers 1 to K, averaged over the members."""
        return self.by_member(evidence_BKE).mean(dim=0).log_softmax(dim=1)

    def by_member(self, evidence_BKE: Tensor) -> Tensor:
        """Log probabilities (M,B,K); in training mode disturbed, each member in its way."""
        places_BKK = torch.eye(self.most, device=evidence_BKE.device).expand(
            len(evidence_BKE), -1, -1
        )
        # Images unlike all that it was fitted to must not run away.
        figures = ((evidence_BKE - self.center) / self.scale).clamp(-4.0, 4.0)
        answers = []
        for member in self.members:
            seen = figures
            if self.training:
                seen = figures + self.disturbance * torch.randn_like(figures)
            answers.append(member(torch.cat([seen, places_BKK], dim=2))[..., 0].log_softmax(dim=1))
        return torch.stack(answers)


def selection_loss(odds_MBK: Tensor, quality_BK: Tensor) -> Tensor:
    """Cross-entropy to what each number of regions is worth, the mean over members and images.

    Args:
        odds_MBK: see `CountSelector.by_member`.
        quality_BK: panoptic IoU of the division into so many regions, 0..1.

    Returns:
        Scalar.
    """
    target_BK = torch.softmax(quality_BK / TARGET_TEMPERATURE, dim=1)
    return -(target_BK * odds_MBK).sum(dim=2).mean()

"""HPA: patches are drawn to the prototype of their class, a running mean on the sphere.

Published: cross-entropy of f . P over a learnt temperature of each class, 0.07 at first and within
0.01 to 1; prototypes are running means.
Published code: labels of 384 pixels pick from features of 24 patches, which ends in an error;
prototypes start at random; each process has prototypes of its own.
Here: they start at the names, labels are those of the patches, and means are taken over all
processes.

Legend: B images, T classes of the training, P templates, E width of the features, G grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.errors import ConfigError
from detecture.modeling.ahs.patch_labels import class_means

_FIRST_TEMPERATURE, _LEAST, _GREATEST = 0.07, 0.01, 1.0


class Prototypes(nn.Module):
    """One point on the sphere for each class of the training."""

    points_TE: Tensor
    is_set: Tensor

    def __init__(self, classes: int, width: int, momentum: float = 0.99) -> None:
        """Make them; T classes, width E."""
        super().__init__()
        self.momentum = momentum
        self.temperature = nn.Parameter(torch.full((classes,), _FIRST_TEMPERATURE))
        self.register_buffer("points_TE", torch.zeros(classes, width))
        self.register_buffer("is_set", torch.zeros((), dtype=torch.bool))

    def loss(
        self, tokens_BEGG: Tensor, text_TPE: Tensor, labels_BGG: Tensor, ignore_value: int
    ) -> Tensor:
        """Cross-entropy of patches to the prototypes, a scalar; moves the prototypes.

        Args:
            tokens_BEGG: patches.
            text_TPE: names, of P templates, which the prototypes start at.
            labels_BGG: int64 class of each patch, and `ignore_value`.
            ignore_value: patches that do not count.

        Raises:
            ConfigError: the prototypes are those of another number of classes.
        """
        if len(text_TPE) != len(self.points_TE):
            raise ConfigError(
                f"{len(text_TPE)} classes are trained, and MODEL.PROTOTYPES were made for "
                f"{len(self.points_TE)}: set MODEL.VOCABULARY.TRAIN to the class list of the "
                "training"
            )
        tokens_BEGG = functional.normalize(tokens_BEGG.float(), dim=1)
        if not bool(self.is_set):
            self.points_TE.copy_(functional.normalize(text_TPE.detach().mean(dim=1), dim=-1))
            self.is_set.fill_(True)
        known = labels_BGG != ignore_value
        temperature_T = self.temperature.clamp(_LEAST, _GREATEST)
        cosines_MT = tokens_BEGG.movedim(1, -1)[known] @ self.points_TE.clone().T
        if len(cosines_MT):
            loss = functional.cross_entropy(cosines_MT / temperature_T, labels_BGG[known])
        else:
            loss = 0.0 * (tokens_BEGG.sum() + temperature_T.sum())
        self._move(tokens_BEGG.detach(), labels_BGG, ignore_value)
        return loss

    @torch.no_grad()
    def _move(self, tokens_BEGG: Tensor, labels_BGG: Tensor, ignore_value: int) -> None:
        """Towards the means of (B,E,G,G) by labels (B,G,G), over all processes."""
        classes = len(self.points_TE)
        means_TE, count_T = class_means(tokens_BEGG, labels_BGG, classes, ignore_value)
        sums = torch.cat([means_TE * count_T[:, None], count_T[:, None]], dim=1)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        count_T = sums[:, -1]
        means_TE = sums[:, :-1] / count_T.clamp(min=1)[:, None]
        moved_TE = self.momentum * self.points_TE + (1 - self.momentum) * means_TE
        seen = (count_T > 0)[:, None]
        self.points_TE.copy_(
            torch.where(seen, functional.normalize(moved_TE, dim=-1), self.points_TE)
        )

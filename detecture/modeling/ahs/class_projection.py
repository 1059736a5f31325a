"""DC-HSP: names are projected by how complex their class is, and compared with patches once more.

Published: complexity c_t = sigmoid(MLP(text_t)); text'_t = P_t text_t + 0.1 c_t B A text_t, of a
low rank; image' = P_i image; a contrast of the mean of each class's patches with the names, over a
temperature of 0.1.
Published code: built for CLIP's visual width and fed the common one, it ends in
an error; were it run, nothing of it would reach the prediction; three further networks are never
used, the radii cancel, pixels without a label count as class 0; a hierarchy loss is always 0, since
no relations are supplied (nor do class lists carry any: it is left out here).
Here: the cosine of
text' and image' is a further channel of the cost, beside CLIP's own, so that it acts on names that
were never trained, too; the first layer that reads it starts at zero.

Legend: B images, T names, P templates, E width of the common space, R rank, G grid, H, W size of
the labels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.modeling.ahs.patch_labels import class_means, patch_labels

_TEMPERATURE = 0.1
_SCALE = 0.1


class ClassProjection(nn.Module):
    """Projections of names and patches into one more space, both of length one."""

    def __init__(self, width: int, rank: int = 64) -> None:
        """Make the layers; width E, rank R."""
        super().__init__()
        hidden = max(width // 2, 1)
        self.complexity = nn.Sequential(
            nn.Linear(width, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Linear(hidden, max(hidden // 2, 1)),
            nn.GELU(),
            nn.Linear(max(hidden // 2, 1), 1),
        )
        self.text = nn.Linear(width, width, bias=False)
        self.image = nn.Conv2d(width, width, 1, bias=False)
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        with torch.no_grad():
            # CLIP's own cosine, to begin with.
            self.text.weight.copy_(torch.eye(width))
            self.image.weight.copy_(torch.eye(width)[:, :, None, None])
            self.up.weight.zero_()

    def names(self, text_TPE: Tensor) -> Tensor:
        """Projected names (T,E)."""
        text_TE = functional.normalize(text_TPE.mean(dim=1), dim=-1)
        complexity_T1 = self.complexity(text_TE).sigmoid()
        added_TE = self.up(self.down(text_TE))
        return functional.normalize(self.text(text_TE) + _SCALE * complexity_T1 * added_TE, dim=-1)

    def patches(self, tokens_BEGG: Tensor) -> Tensor:
        """Projected patches (B,E,G,G), of (B,E,G,G)."""
        return functional.normalize(self.image(functional.normalize(tokens_BEGG, dim=1)), dim=1)

    def forward(self, tokens_BEGG: Tensor, text_TPE: Tensor) -> Tensor:
        """The further cost channel: cosines (B,1,T,G,G)."""
        patches_BEGG, names_TE = self.patches(tokens_BEGG), self.names(text_TPE)
        return torch.einsum("behw,te->bthw", patches_BEGG, names_TE)[:, None]

    def contrast(
        self, tokens_BEGG: Tensor, text_TPE: Tensor, labels_BHW: Tensor, ignore_value: int
    ) -> Tensor:
        """How badly the mean patch of each class finds its name among those present, a scalar.

        0, with gradients of 0, where fewer than two classes are present.

        Args:
            tokens_BEGG: patches.
            text_TPE: names.
            labels_BHW: int64 numbers of the names, and `ignore_value`.
            ignore_value: of pixels without a label.
        """
        patches_BEGG, names_TE = self.patches(tokens_BEGG), self.names(text_TPE)
        labels_BGG = patch_labels(labels_BHW, tokens_BEGG.shape[-1])
        means_TE, count_T = class_means(patches_BEGG, labels_BGG, len(names_TE), ignore_value)
        present_T = count_T > 0
        if int(present_T.sum()) < 2:
            return 0.0 * (patches_BEGG.sum() + names_TE.sum())
        means = functional.normalize(means_TE[present_T], dim=-1)
        logits = means @ names_TE[present_T].T / _TEMPERATURE
        return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))

"""CLIP as it was before it was trained, for distillation.

Legend: B images, S side of what CLIP sees, E width of the common space, G grid.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from detecture.modeling.clip.encoder import ClipEncoder
from detecture.modeling.clip.orthogonal import OrthogonalAdapter


class Teacher(nn.Module):
    """The image encoder with its first weights; where only turning trains, without turning."""

    def __init__(self, clip: ClipEncoder, adapter: OrthogonalAdapter | None = None) -> None:
        """Keep the visual weights that train; no checkpoint holds them.

        Args:
            clip: as it is now.
            adapter: that turns it.
        """
        super().__init__()
        # In a tuple, as they are no parts of this: each has a place of its own.
        self._parts = (clip, adapter)
        self._names = []
        for name, parameter in clip.named_parameters():
            if parameter.requires_grad and name.startswith(("model.vision_", "model.visual_")):
                self._names.append(name)
                kept = parameter.detach().clone()
                self.register_buffer(name.replace(".", "/"), kept, persistent=False)

    @torch.no_grad()
    def tokens(self, pixels_B3SS: Tensor) -> Tensor:
        """Patch tokens (B,E,G,G) of normalised pixels."""
        clip, adapter = self._parts
        first = {name: self.get_buffer(name.replace(".", "/")) for name in self._names}
        with adapter.resting() if adapter else nullcontext():
            features = functional_call(clip, first, (pixels_B3SS,))
        tokens_BEGG: Tensor = features.tokens_BEGG
        return tokens_BEGG

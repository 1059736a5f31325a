"""A convolutional stem for a small image encoder, in place of CLIP's patch embedding.

A transformer that has seen a few thousand images has no eye for texture; the trunk of a net that
was trained on textures has. Each patch is read as means and deviations of its colours and of the
trunk's features. A trunk that comes from such a net stays as it is and is in no checkpoint.

Legend: B images, S side of the input in pixels, W visual width, G grid, c channels of a map,
h, w its size.
"""

import hashlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.checkpoint.manifest import verify_checkpoint
from detecture.checkpoint.misfits import misfits
from detecture.checkpoint.shipped import locate
from detecture.checkpoint.weights_file import read_weights
from detecture.errors import CheckpointError
from detecture.modeling.clip.encoder import PIXEL_DEVIATION, PIXEL_MEAN
from detecture.modeling.grouping.net import ConvTrunk

STEM_WIDTHS = "stem_widths"
"""Key of a structure's `vision_config`: channels of the trunk's four stages."""

_LEAST_VARIANCE = 1e-5  # the root's slope at 0 is infinite
_TRUNKS = ("describer.texture.odds.trunk.", "texture.trunk.", "net.")
"""Where checkpoints have a trunk: with a describer, of TextureClassifier, of a grouping net."""


class ConvStem(nn.Module):
    """Pixels to patches."""

    mean_311: Tensor
    deviation_311: Tensor

    def __init__(self, widths: tuple[int, int, int, int], width: int, patch_size: int) -> None:
        """Make the layers.

        Args:
            widths: channels of the trunk's stages.
            width: W.
            patch_size: in pixels.
        """
        super().__init__()
        self.patch_size = patch_size
        self.is_given = False
        self.trunk = ConvTrunk(widths)
        size = 2 * sum(widths[1:3]) + widths[3]
        self.norm = nn.LayerNorm(size)
        self.project = nn.Linear(size, width)
        # By themselves: among hundreds of features, six that are small would hardly be seen.
        self.color = nn.Linear(2 * 3, width)
        mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_DEVIATION))
        self.register_buffer("mean_311", mean / 255.0, persistent=False)
        self.register_buffer("deviation_311", deviation / 255.0, persistent=False)

    def forward(self, pixels_B3SS: Tensor) -> Tensor:
        """Normalised pixels to patches (B,W,G,G)."""
        grid = pixels_B3SS.shape[-1] // self.patch_size
        images = pixels_B3SS * self.deviation_311 + self.mean_311
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_given):
            at_4, at_8, at_16 = self.trunk.bottom_up(images)
        colors = torch.cat(_moments(2.0 * images - 1.0, grid), dim=1).movedim(1, -1)
        parts = [*_moments(at_4, grid), *_moments(at_8, grid)]
        parts.append(functional.interpolate(at_16.float(), (grid, grid), mode="bilinear"))
        textures = self.norm(torch.cat(parts, dim=1).movedim(1, -1))
        patches_BWGG: Tensor = (self.project(textures) + self.color(colors)).movedim(-1, 1)
        return patches_BWGG

    def take_trunk(self, path: str) -> str:
        """Take over a trunk that was trained for something else; it does not train on.

        Args:
            path: a checkpoint; a shipped one: `detecture://NAME.safetensors`.

        Returns:
            What it is, for checkpoints: 12 hexadecimal digits of its weights.

        Raises:
            CheckpointError: it cannot be read, or holds no such trunk.
        """
        file = locate(path)
        verify_checkpoint(file, "MODEL.CLIP.STEM_WEIGHTS")
        found, _ = read_weights(file)
        own = self.trunk.state_dict()
        prefix = next((p for p in _TRUNKS if f"{p}stem.weight" in found), "")
        given = {name: found[f"{prefix}{name}"] for name in own if f"{prefix}{name}" in found}
        if problems := misfits(own, given):
            raise CheckpointError(
                f"{file}: no trunk for MODEL.CLIP.STEM_WEIGHTS: {'; '.join(problems)}. Give a "
                "checkpoint of TextureGrouping or TextureClassifier whose widths are the stem's"
            )
        given = {name: tensor.float() for name, tensor in given.items()}
        self.trunk.load_state_dict(
            given, assign=True
        )  # also where the model has no memory, on `meta`
        self.is_given = True
        digest = hashlib.sha256()
        for name, tensor in sorted(given.items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:12]


def _moments(map_Bchw: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B,c,G,G) of a map (B,c,h,w) in each patch."""
    map_Bchw = map_Bchw.float()
    mean = functional.adaptive_avg_pool2d(map_Bchw, grid)
    square = functional.adaptive_avg_pool2d(map_Bchw.square(), grid)
    return mean, (square - mean.square()).clamp_min(_LEAST_VARIANCE).sqrt()

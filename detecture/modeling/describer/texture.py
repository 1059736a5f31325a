"""A convolutional look at the texture of regions, for a VLM whose own vision is weak.

Legend: B images, R regions of an image, N regions of all images, S side of the images,
c channels of a map, p cells of its grid, C = NUM_CLASSES, D hidden size of the VLM.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.checkpoint.manifest import verify_checkpoint
from detecture.checkpoint.misfits import misfits
from detecture.checkpoint.shipped import locate
from detecture.checkpoint.weights_file import read_weights
from detecture.data.synthetic import FAMILIES
from detecture.errors import CheckpointError
from detecture.modeling.grouping.net import DEEPEST, ConvTrunk

_STRIDES = (4, 8, 16)
_INNER = 256
_LEAST_VARIANCE = 1e-5  # the root's slope at 0 is infinite
_OF_THE_NET, _OF_THE_CLASSIFIER = "net.", "texture."
_READOUT = "readout."

CLASSES: dict[str, tuple[str, ...]] = {
    "family": tuple(FAMILIES),
    "orientation": ("none", "horizontal", "vertical", "diagonal"),
    "scale": ("none", "fine", "medium", "coarse"),
    "regularity": ("none", "regular", "irregular"),
    "contrast": ("low", "medium", "high"),
}
"""Values of the attributes of `RegionAttributes` that are told apart."""
NUM_CLASSES = sum(len(values) for values in CLASSES.values())


def by_attribute(values_NC: Tensor) -> dict[str, Tensor]:
    """Values of all classes as a tensor (N,V) for each attribute of `CLASSES`, of its V values."""
    parts = values_NC.split([len(values) for values in CLASSES.values()], dim=1)
    return dict(zip(CLASSES, parts, strict=True))


def is_readout(name: str) -> bool:
    """Whether a parameter of a `TextureHint` belongs to the layer by which the VLM reads it."""
    return name.startswith(_READOUT)


class TextureOdds(nn.Module):
    """Log odds of `CLASSES` of each region, from means and deviations of convolutional features."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        """Make the layers; a fresh one finds all classes equally likely.

        Args:
            widths: channels of the trunk's stages.
        """
        super().__init__()
        self.trunk = ConvTrunk(widths).to(memory_format=torch.channels_last)
        size = 2 * sum(widths[1:])
        last = nn.Linear(_INNER, NUM_CLASSES)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, _INNER), nn.GELU(), last)

    def forward(self, images_B3SS: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Look at images once, and at every region of them.

        Args:
            images_B3SS: sRGB, uint8 or float, in 0..255; nothing painted over.
            masks: for each image its regions (R,S,S), bool; they may overlap.

        Returns:
            (N,C) float32, in the order of the masks.
        """
        device = self.trunk.stem.weight.device
        images = images_B3SS.to(device, torch.float32) / 255.0
        maps = self.trunk.bottom_up(images.contiguous(memory_format=torch.channels_last))
        cells = [features.float().flatten(2).transpose(1, 2) for features in maps]
        statistics = []
        for index, masks_RSS in enumerate(masks):
            shares = _shares(masks_RSS.to(device))
            levels = [
                _moments(level_Bpc[index], share_Rp)
                for level_Bpc, share_Rp in zip(cells, shares, strict=True)
            ]
            statistics.append(torch.cat(levels, dim=1))
        odds_NC: Tensor = self.head(torch.cat(statistics))
        return odds_NC

    def start_from(self, path: str) -> None:
        """Take over what was trained for something else (in place).

        Args:
            path: a checkpoint of TextureClassifier, which gives all layers, or one with a grouping
                net (`net.*`), which gives the trunk; a shipped one: `detecture://NAME.safetensors`.

        Raises:
            CheckpointError: it cannot be read, or lacks a layer or has it in another shape.
        """
        file = locate(path)
        verify_checkpoint(file, "MODEL.DESCRIBER.TEXTURE_WEIGHTS")
        found, _ = read_weights(file)
        part: nn.Module = self.trunk
        prefix = _OF_THE_NET
        if any(name.startswith(_OF_THE_CLASSIFIER) for name in found):
            part, prefix = self, _OF_THE_CLASSIFIER
        own = {f"{prefix}{name}": value for name, value in part.state_dict().items()}
        given = {name: found[name] for name in own if name in found}
        if problems := misfits(own, given):
            raise CheckpointError(
                f"{file}: no texture for MODEL.DESCRIBER.TEXTURE_WIDTHS: {'; '.join(problems)}. "
                "Give MODEL.DESCRIBER.TEXTURE_WEIGHTS a checkpoint of TextureClassifier with the "
                "same ones, or of TextureGrouping with MODEL.GROUPING.WIDTHS as TEXTURE_WIDTHS"
            )
        part.load_state_dict({name.removeprefix(prefix): t for name, t in given.items()})


class TextureHint(nn.Module):
    """What the texture of a region is, as probabilities of `CLASSES`, read by a VLM.

    Probabilities and not features, so that all the VLM has to learn is a name for each class.
    """

    def __init__(self, widths: tuple[int, int, int, int], hidden_size: int) -> None:
        """Make the layers; the last one gives 0, so that a fresh one changes nothing.

        Args:
            widths: channels of the trunk's stages.
            hidden_size: D.
        """
        super().__init__()
        self.odds = TextureOdds(widths)
        self.readout = nn.Linear(NUM_CLASSES, hidden_size)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(self, images_B3SS: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """One vector (N,D) for each region (R,S,S) of each image, see `TextureOdds.forward`."""
        odds = by_attribute(self.odds(images_B3SS, masks)).values()
        hint_ND: Tensor = self.readout(torch.cat([one.softmax(dim=1) for one in odds], dim=1))
        return hint_ND

    def start_from(self, path: str) -> None:
        """See `TextureOdds.start_from`."""
        self.odds.start_from(path)


def _shares(masks_RSS: Tensor) -> list[Tensor]:
    """What share of each cell belongs to a region: (R,p) for each stride."""
    size = masks_RSS.shape[-1]
    # Padded as the trunk pads images, but outside of every region.
    padded = functional.pad(masks_RSS.float(), (0, -size % DEEPEST, 0, -size % DEEPEST))
    return [functional.avg_pool2d(padded[:, None], stride).flatten(1) for stride in _STRIDES]


def _moments(cells_pc: Tensor, share_Rp: Tensor) -> Tensor:
    """Mean and deviation (R,2*c) of the cells of each region."""
    # A mask without any pixel gets zeros, and no NaN.
    weight_Rp = share_Rp / share_Rp.sum(dim=1, keepdim=True).clamp_min(1e-6)
    mean_Rc = weight_Rp @ cells_pc
    variance_Rc = weight_Rp @ cells_pc.square() - mean_Rc.square()
    return torch.cat([mean_Rc, variance_Rc.clamp_min(_LEAST_VARIANCE).sqrt()], dim=1)

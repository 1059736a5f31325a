"""Images composed of textures of a bank, for training what groups pixels; they have no words.

Other than `render_scene`, which knows what is true of every region, this only knows which pixels
belong together. It is three times as fast, and may therefore vary inside a region whatever a
camera would: distance, focus, light, colour.

Legend: K regions, S side of the image, N textures of the bank, T side of each.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from detecture.data.synthetic.camera import expose
from detecture.data.synthetic.cuttings import as_tensor, crop, random_crop
from detecture.data.synthetic.editions import LATEST_EDITION
from detecture.data.synthetic.fields import octave_noise, smoothstep, value_noise
from detecture.data.synthetic.layouts import divide
from detecture.data.synthetic.streams import stream
from detecture.data.synthetic.unruly import disturb

MOST_REGIONS = 6

_TWO_REGIONS = 0.5
_EQUAL_MEAN, _SAME_TEXTURE = 0.3, 0.1
_MOOD = 0.35
_RECEDES = 0.3
_DRIFTS = 0.5
_SPARSE = 0.12
_COMPOUND = 0.3
_PLAN, _LAYOUT, _LOOK, _EFFECTS, _BLEND, _WILD = range(6)


def compose_mosaic(
    bank: np.ndarray,
    seed: int,
    index: int,
    size: int,
    num_regions: int | None = None,
    *,
    unruly: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Compose the image of an address: the same arguments always give the same bytes.

    Args:
        bank: uint8 (N,T,T,3), see `open_bank`.
        seed: of the data set, from 0.
        index: of the image in it, from 0.
        size: S.
        num_regions: K, 1 to 6; by default 2 in half of the images, 3 to 6 in the others.
        unruly: share of the regions that also vary as `unruly.disturb` says, 0..1.

    Returns:
        The image, uint8 (S,S,3), and its regions, int64 (S,S), 0..K-1.
    """
    return compose_numbered(bank, seed, index, size, num_regions, unruly=unruly)[:2]


def compose_numbered(
    bank: np.ndarray,
    seed: int,
    index: int,
    size: int,
    num_regions: int | None = None,
    *,
    unruly: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """As `compose_mosaic`, from a bank (N,T,T,3), with the textures that the regions are made of.

    Returns:
        The image, uint8 (S,S,3), its regions, int64 (S,S), and the places in the bank of the K
        textures.
    """
    rng = stream(seed, index, _PLAN)
    count = 2 if rng.random() < _TWO_REGIONS else int(rng.integers(3, MOST_REGIONS + 1))
    count = count if num_regions is None else num_regions
    division = divide(stream(seed, index, _LAYOUT), (size, size), count, edition=LATEST_EDITION)
    labels = division.labels
    numbers = rng.integers(0, len(bank), count)
    draw = rng.random()
    if count > 1 and draw < _SAME_TEXTURE:
        numbers[1] = numbers[0]
    sources_K3TT = torch.from_numpy(bank[numbers]).permute(0, 3, 1, 2).float()
    grids_KSS2 = torch.from_numpy(
        np.stack([_window(rng, size, sources_K3TT.shape[-1]) for _ in range(count)])
    )
    textures_K3SS = functional.grid_sample(
        sources_K3TT, grids_KSS2, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    areas = np.bincount(labels.ravel(), minlength=count)
    blend = stream(seed, index, _BLEND)
    for number in range(count):
        if blend.random() < _COMPOUND:
            textures_K3SS[number] = _compound(blend, textures_K3SS[number], bank, size)
    look, wild = stream(seed, index, _LOOK), stream(seed, index, _WILD)
    textures_K3SS = _recolor(look, textures_K3SS)
    if count > 1 and draw < _EQUAL_MEAN:
        _match(look, textures_K3SS)
    for number in range(count):
        share = areas[number] / labels.size
        # The larger a region, the more of the world it shows.
        if look.random() < _DRIFTS + 0.4 * share:
            textures_K3SS[number] = _drift(look, textures_K3SS[number], size)
        if look.random() < _SPARSE:
            other_3SS = crop(bank[look.integers(len(bank))], (0, 0), size)
            textures_K3SS[number] = _scatter(look, textures_K3SS[number], other_3SS, size)
        if wild.random() < unruly:
            textures_K3SS[number] = disturb(wild, textures_K3SS[number], labels == number, bank)
    where_1SS = torch.from_numpy(labels)[None, None].expand(1, 3, -1, -1)
    canvas_3SS = textures_K3SS.gather(0, where_1SS)[0]
    canvas = canvas_3SS.permute(1, 2, 0).double().numpy()
    image = expose(stream(seed, index, _EFFECTS), np.ascontiguousarray(canvas), labels)
    return image, labels, [int(number) for number in numbers]


def _window(rng: np.random.Generator, size: int, side: int) -> np.ndarray:
    """Where a region looks into its texture: float32 (S,S,2), x and y in -1..1 and beyond.

    Beyond the edge the texture is mirrored, so that any zoom and any distance is possible.
    """
    zoom = 0.45 * (1.5 / 0.45) ** rng.random()
    steps = (np.arange(size) - 0.5 * (size - 1)) / side * 2.0
    across, down = np.meshgrid(steps, steps)
    if rng.random() < _RECEDES:
        # A plane that recedes: what is far away is smaller, along one direction of the image.
        towards = rng.random() * 2 * np.pi if rng.random() < 0.3 else -0.5 * np.pi
        extent = size / side
        depth = (across * np.cos(towards) + down * np.sin(towards)) / extent
        factor = 1.0 + rng.uniform(0.3, 2.5) * 0.5 * (depth + 1.0)
        across, down = across * factor, down * factor
    turn = rng.random() * 2 * np.pi if rng.random() < 0.5 else 0.5 * np.pi * rng.integers(4)
    cosine, sine = np.cos(turn) / zoom, np.sin(turn) / zoom
    flip = 1.0 if rng.random() < 0.5 else -1.0
    # Inside, where the window fits: a mirrored texture is a rare one.
    center = rng.uniform(-1.0, 1.0, 2) * max(0.2, 1.0 - size / side / zoom)
    x = flip * (across * cosine - down * sine) + center[0]
    y = across * sine + down * cosine + center[1]
    return np.stack([x, y], axis=-1).astype(np.float32)


def _recolor(rng: np.random.Generator, textures_K3SS: Tensor) -> Tensor:
    """Other contrast, brightness and saturation of each, sometimes one mood for all: (K,3,S,S)."""
    count = len(textures_K3SS)
    mean_K311 = textures_K3SS.mean(dim=(2, 3), keepdim=True)
    contrast = torch.from_numpy(rng.uniform(0.55, 1.35, (count, 1, 1, 1))).float()
    shift = torch.from_numpy(rng.normal(0.0, 14.0, (count, 1, 1, 1))).float()
    tint = torch.from_numpy(rng.normal(0.0, 7.0, (count, 3, 1, 1))).float()
    goal_K311 = mean_K311 + shift + tint
    if rng.random() < _MOOD:
        pull = rng.uniform(0.3, 0.9)
        goal_K311 = goal_K311 + pull * (goal_K311.mean(dim=0, keepdim=True) - goal_K311)
    detail = contrast * (textures_K3SS - mean_K311)
    saturation = torch.from_numpy(rng.uniform(0.3, 1.2, (count, 1, 1, 1))).float()
    grey = detail.mean(dim=1, keepdim=True)
    return grey + saturation * (detail - grey) + goal_K311


def _match(rng: np.random.Generator, textures_K3SS: Tensor) -> None:
    """Give the second texture the mean colour of the first, half the time also its contrast."""
    first, second = textures_K3SS[0], textures_K3SS[1]
    mean_311 = second.mean(dim=(1, 2), keepdim=True)
    ratio = 1.0
    if rng.random() < 0.5:
        ratio = float((first.std() / second.std().clamp(min=1e-3)).clamp(0.5, 2.0))
    textures_K3SS[1] = (second - mean_311) * ratio + first.mean(dim=(1, 2), keepdim=True)


def _ramp(rng: np.random.Generator, size: int) -> np.ndarray:
    """A slow change over the image, float32 (S,S), about -1..1: to one side, or patchy."""
    if rng.random() < 0.6:
        angle = rng.random() * 2 * np.pi
        steps = np.linspace(-1.0, 1.0, size)
        ramp = np.cos(angle) * steps[None] + np.sin(angle) * steps[:, None]
    else:
        ramp = 2.0 * value_noise(rng, (size, size), rng.uniform(0.3, 0.8) * size) - 1.0
    return ramp.astype(np.float32)


def _drift(rng: np.random.Generator, texture_3SS: Tensor, size: int) -> Tensor:
    """Light, colour, contrast and focus that change inside a region."""
    kinds = rng.random(4)
    mean_311 = texture_3SS.mean(dim=(1, 2), keepdim=True)
    if kinds[0] < 0.55:
        texture_3SS = texture_3SS * (1.0 + rng.uniform(0.1, 0.45) * as_tensor(_ramp(rng, size)))
    if kinds[1] < 0.4:
        tint = torch.from_numpy(rng.normal(0.0, 14.0, (3, 1, 1))).float()
        texture_3SS = texture_3SS + tint * as_tensor(_ramp(rng, size))
    if kinds[2] < 0.3:
        strength = 1.0 + 0.6 * as_tensor(_ramp(rng, size)).clamp(-1.0, 1.0)
        texture_3SS = mean_311 + strength * (texture_3SS - mean_311)
    if kinds[3] < 0.4:
        small = functional.avg_pool2d(texture_3SS[None], int(rng.integers(3, 6)), ceil_mode=True)
        blurred_3SS = functional.interpolate(small, (size, size), mode="bilinear")[0]
        near = as_tensor(smoothstep(0.5 + rng.uniform(0.5, 1.2) * _ramp(rng, size)))
        texture_3SS = blurred_3SS + near * (texture_3SS - blurred_3SS)
    return texture_3SS


def _scatter(rng: np.random.Generator, texture_3SS: Tensor, other_3SS: Tensor, size: int) -> Tensor:
    """Small patches of another texture, such as flowers in grass; the region stays one: (3,S,S)."""
    noise = octave_noise(rng, (size, size), rng.uniform(0.04, 0.12) * size, 2, 0.4)
    level = np.quantile(noise[::4, ::4], rng.uniform(0.86, 0.97))
    patches = as_tensor((noise > level).astype(np.float32))
    return texture_3SS + rng.uniform(0.4, 1.0) * patches * (other_3SS - texture_3SS)


def _compound(rng: np.random.Generator, texture_3SS: Tensor, bank: np.ndarray, size: int) -> Tensor:
    """Two textures in patches as fine as a grain make one, such as leaves and the gaps between.

    The other is one of `bank` (N,T,T,3); what comes out is (3,S,S).

    Natural textures are of several stuffs far more often than painted ones are; the patches stay
    below a twelfth of the image, where those of the layouts begin.
    """
    other_3SS = random_crop(rng, bank, size)
    grain = size * 0.012 * (0.055 / 0.012) ** rng.random()
    stretch = np.exp(rng.normal(0.0, 0.5))
    field_HW = octave_noise(rng, (size, max(8, round(size * stretch))), grain, 2, 0.5)
    field_SS = functional.interpolate(
        as_tensor(field_HW)[None, None], (size, size), mode="bilinear", align_corners=False
    )[0, 0]
    if rng.random() < 0.5:
        field_SS = field_SS.T
    level = float(torch.quantile(field_SS[::3, ::3].reshape(-1), rng.uniform(0.2, 0.8)))
    soft = rng.uniform(0.01, 0.15) * float(field_SS.std())
    patches_SS = ((field_SS - level) / soft + 0.5).clamp(0.0, 1.0)
    # Stuffs that grow together often differ little; mostly in brightness.
    pull = rng.uniform(0.0, 0.8)
    gap_311 = (texture_3SS - other_3SS).mean(dim=(1, 2), keepdim=True)
    gap_311 = gap_311 - rng.uniform(0.0, 0.6) * gap_311.mean()
    return texture_3SS + patches_SS * (other_3SS + pull * gap_311 - texture_3SS)

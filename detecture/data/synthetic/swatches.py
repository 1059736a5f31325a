"""Plain images of a few textures of a bank, with sentences, for learning their names.

Other than in scenes, textures are shown as they were drawn, without camera, light or variation.

Legend: S side of the image, T side of the bank's textures.
"""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from detecture.data.synthetic.attributes import describe_region
from detecture.data.synthetic.bank import plan_texture
from detecture.data.synthetic.editions import LATEST_EDITION
from detecture.data.synthetic.layouts import divide
from detecture.data.synthetic.scene import Scene
from detecture.data.synthetic.sentences import write_sentences
from detecture.data.synthetic.streams import stream
from detecture.data.synthetic.texture import TexturePlan

_MOST = 4
_LEAST_SHOWN = 0.6
"""Share of a texture's side that is shown at least; whole textures are as coarse as in scenes."""
_PLAN, _LAYOUT, _WORDS = range(3)


def compose_swatches(bank: np.ndarray, first: int, seed: int, index: int, size: int) -> Scene:
    """Compose the image of an address: the same arguments always give the same.

    Args:
        bank: uint8 (N,T,T,3), see `open_bank`.
        first: number of the bank's first texture.
        seed: of the data set, from 0.
        index: of the image in it, from 0.
        size: S.
    """
    rng = stream(seed, index, _PLAN)
    count = int(rng.integers(1, _MOST + 1))
    division = divide(stream(seed, index, _LAYOUT), (size, size), count, edition=LATEST_EDITION)
    masks = division.labels[None] == np.arange(count)[:, None, None]
    image = np.zeros((size, size, 3), np.uint8)
    plans = []
    for mask_SS in masks:
        place = int(rng.integers(len(bank)))
        pixels, plan = _shown(rng, bank[place], plan_texture(first + place), size)
        image[mask_SS] = pixels[mask_SS]
        plans.append(plan)
    attributes = [
        describe_region(image, mask_SS, plan) for mask_SS, plan in zip(masks, plans, strict=True)
    ]
    return Scene(
        image=image,
        masks=masks,
        descriptions=write_sentences(stream(seed, index, _WORDS), attributes, LATEST_EDITION),
        attributes=attributes,
        layout=division.name,
        families=tuple(plan.family for plan in plans),
    )


def _shown(
    rng: np.random.Generator, texture_TT3: np.ndarray, plan: TexturePlan, size: int
) -> tuple[np.ndarray, TexturePlan]:
    """A square window of a texture at size S, uint8 (S,S,3), and the plan that is true of it."""
    side = len(texture_TT3)
    window = int(side * rng.uniform(_LEAST_SHOWN, 1.0))
    row, column = rng.integers(0, side - window + 1, 2)
    cut_wwc = np.ascontiguousarray(texture_TT3[row : row + window, column : column + window])
    cut_13ww = torch.from_numpy(cut_wwc).permute(2, 0, 1)[None].float()
    pixels_13SS = functional.interpolate(cut_13ww, (size, size), mode="bilinear", antialias=True)
    pixels = pixels_13SS[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    style = replace(plan.style, period=plan.style.period * size / window)
    return pixels, replace(plan, style=style)

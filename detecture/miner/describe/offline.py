"""Sentences without a download and without a call: measured, or by the small model that ships.

Legend: H, W size of an image, M regions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from detecture.data.lexicon.attributes import (
    HIGH_CONTRAST_FROM,
    LOW_CONTRAST_BELOW,
    ORIENTED_FROM,
    direction_name,
    structure,
)
from detecture.data.lexicon.color_names import color_names
from detecture.data.lexicon.lab import rgb_to_lab
from detecture.data.lexicon.phrases import (
    CONTRAST_PHRASES,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
)
from detecture.data.lexicon.positions import position
from detecture.miner.describe.answers import OFFLINE_RULES, PREFIX, check_texts, with_prefix
from detecture.miner.describe.interface import Said
from detecture.miner.describe.prompt import clean_name

Sentences = Callable[[np.ndarray, np.ndarray], Sequence[str]]
"""A sentence for each region of an image (H,W,3) and its masks (M,H,W); empty where there is none.
"""

_MOST_PIXELS = 20_000  # of a region whose colours are measured
_MOST_NAME_WORDS = 6


class OfflineDescriber:
    """Describes regions by what can be measured, and by a model that is at hand.

    A sentence of the model is taken where it names the class of its region, or where the region has
    no class name; all others are made of class name, colours, pattern and place.
    """

    name = "offline"
    offline = True
    remote = False

    def __init__(self, sentences: Sentences | None = None, model: str = "template") -> None:
        """Make a describer.

        Args:
            sentences: of a model, from the image (H,W,3) and masks (M,H,W); None: none.
            model: its name.
        """
        self.sentences = sentences
        self.model = model

    @classmethod
    def shipped(cls) -> OfflineDescriber:
        """With the describer that ships with the package.

        Raises:
            DetectureError: its weights are damaged.
        """
        return cls(shipped_sentences(), "texture_grouping")

    def describe(
        self,
        image: np.ndarray,
        index_mask: np.ndarray,
        class_names: Sequence[str],
        *,
        reason: str = "",
    ) -> Said:
        """See `MinerDescriber.describe`; `image` is (H,W,3), `index_mask` (H,W)."""
        names = [clean_name(re.split("[,;]", name)[0]) for name in class_names]
        masks = np.stack([index_mask == index + 1 for index in range(len(names))])
        written = self.sentences(image, masks) if self.sentences else [""] * len(names)
        texts: list[str] = []
        for name, mask, sentence in zip(names, masks, written, strict=True):
            candidates = [with_prefix(sentence)] if _is_about(sentence, name) else []
            candidates += measured_sentences(image, mask, name)
            texts.append(_first_new(candidates, texts))
        return Said(descriptions=tuple(texts))


def measured_sentences(image: np.ndarray, mask: np.ndarray, name: str) -> list[str]:
    """Sentences about a region from what is measured, the later ones the more particular.

    Args:
        image: uint8 (H,W,3).
        mask: bool (H,W), not empty.
        name: of its class; empty: "surface".
    """
    pixels = image[mask]
    lab = rgb_to_lab(pixels[:: max(1, len(pixels) // _MOST_PIXELS)])
    colors = " and ".join(color_names(lab))
    deviation = float(lab[:, 0].std())
    contrast = (
        "low"
        if deviation < LOW_CONTRAST_BELOW
        else "high"
        if deviation >= HIGH_CONTRAST_FROM
        else "medium"
    )
    coherence, degrees = structure(image, mask)
    direction = direction_name(degrees) if coherence >= ORIENTED_FROM else "none"
    lines = f" {ORIENTATION_PHRASES[direction]}" if direction != "none" else ""
    place = POSITION_PHRASES[position(mask)][0].replace("picture", "image")
    noun = " ".join(name.split()[:_MOST_NAME_WORDS]) or "surface"
    begin = f"{PREFIX}{colors} {noun}{lines} {CONTRAST_PHRASES[contrast]}"
    share = f"covering about {max(1, round(100 * float(mask.mean())))} percent of it"
    rows, columns = np.nonzero(mask)
    down = round(100 * (float(rows.mean()) + 0.5) / mask.shape[0])
    right = round(100 * (float(columns.mean()) + 0.5) / mask.shape[1])
    return [
        f"{begin}, {place}",
        f"{begin}, {place}, {share}",
        f"{begin}, {place}, centred {down} percent down and {right} percent across",
    ]


def _first_new(candidates: Sequence[str], taken: Sequence[str]) -> str:
    """The first text that can be used beside those that are taken."""
    for text in candidates:
        if not check_texts([*taken, text], OFFLINE_RULES)[0]:
            return text
    # Two regions alike in all that is measured: their order, which is that of their size, is left.
    return f"{candidates[-1]}, surface {len(taken) + 1}"


def _is_about(sentence: str, name: str) -> bool:
    """Whether a sentence says something, and names the class."""
    if not sentence.strip():
        return False
    return not name or bool(_stems(name) & _stems(sentence))


def _stems(text: str) -> set[str]:
    words = re.findall(r"[a-z]{3,}", text.lower())
    return {re.sub(r"(?:es|s)\Z", "", word) for word in words} | set(words)


def shipped_sentences() -> Sentences:
    """What the describer that ships with the package says of regions.

    Raises:
        DetectureError: its weights are damaged.
    """
    from detecture.checkpoint.shipped import DEFAULT_CONFIG
    from detecture.config import make_config
    from detecture.engine.evaluate import load_model
    from detecture.modeling.grouping.classical import resize_longer

    model: Any = load_model(make_config(DEFAULT_CONFIG))
    size = int(model.finder.classical.working_size)

    def sentences(image: np.ndarray, masks: np.ndarray) -> list[str]:
        """Of an image (H,W,3) and the masks (M,H,W) of its regions."""
        small = resize_longer(image, size)
        side = small.shape[1], small.shape[0]
        shrunk = [
            np.asarray(Image.fromarray(mask).resize(side, Image.Resampling.NEAREST))
            for mask in masks
        ]
        image_3HW = torch.from_numpy(small.copy()).permute(2, 0, 1)
        masks_MHW = torch.from_numpy(np.stack(shrunk).astype(bool))
        written: list[str] = model.describer.describe(image_3HW, masks_MHW)
        return written

    return sentences

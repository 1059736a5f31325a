"""Fits the confidence of TextureGrouping's regions: is there a true region that they overlap?

The fitted selector chooses among the divisions of procedural images that it has never seen. Each
region of the division it chose, of the one with the true number of regions, and of one at a random
granularity is held against the true regions, and a logistic model learns how often such a region
is right.

Legend: B images, K regions, R regions of all images, F figures, S side of an image.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from detecture.checkpoint.atomic import write_atomic
from detecture.data.synthetic.bank_source import BankSource
from detecture.data.synthetic.streams import stream
from detecture.errors import ConfigError
from detecture.evaluation.named_masks import iou_matrix
from detecture.modeling.grouping.confidence import (
    FIGURE_NAMES,
    FIGURES,
    FOUND_IOU,
    RegionConfidence,
    region_figures,
)
from detecture.modeling.grouping.proposals import choose
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping
from detecture.recipes.selector_fit import draw_image

UNSEEN = 1_000_000
"""Number of the first image: the selector is fitted to those from 0 on."""

CHOSEN, TOLD, ASKED = 0, 1, 2
"""Why a division is in the figures: the model's own choice, the number told, a granularity."""

LEAST_IMAGES = 20
"""That the confidence can be fitted to."""

_STREAM_SEED = 18
_WIDEST = 0.8  # granularity
_CHUNK, _FOLDS, _BINS = 25, 5, 10
_DECAY = 1e-3


@dataclass(frozen=True)
class CollectedRegions:
    """What the confidence is fitted to.

    Attributes:
        figures_RF: float32, see `region_figures`.
        iou_R: greatest with any true region, float32.
        image_R: number of its image, int64.
        reason_R: `CHOSEN`, `TOLD` or `ASKED`, int64.
    """

    figures_RF: np.ndarray
    iou_R: np.ndarray
    image_R: np.ndarray
    reason_R: np.ndarray

    def rows(self, chosen_R: np.ndarray) -> "CollectedRegions":
        """Some of the regions: `chosen_R` bool, or their places."""
        return CollectedRegions(
            self.figures_RF[chosen_R],
            self.iou_R[chosen_R],
            self.image_R[chosen_R],
            self.reason_R[chosen_R],
        )


class _Regions(Dataset[CollectedRegions]):
    """The regions of each image, computed in a worker process."""

    def __init__(self, model: TextureGrouping, numbers: range, mosaics: BankSource) -> None:
        self.model, self.numbers, self.mosaics = model, numbers, mosaics

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> CollectedRegions:
        """The regions of one image."""
        torch.set_num_threads(1)
        number = self.numbers[place]
        image, masks_KSS = draw_image(UNSEEN + number, self.mosaics)
        granularity = float(stream(_STREAM_SEED, number, 0).uniform(-_WIDEST, _WIDEST))
        return regions_of(self.model, image, masks_KSS, number, granularity)


def regions_of(
    model: TextureGrouping,
    image: np.ndarray,
    masks_KSS: np.ndarray,
    number: int,
    granularity: float,
) -> CollectedRegions:
    """The regions of the three divisions of an image; those that win no cell are left out.

    Args:
        model: with a fitted selector.
        image: uint8 (S,S,3).
        masks_KSS: its true regions, bool.
        number: of the image.
        granularity: of the third division.
    """
    encoded = model.encoded(image)
    proposals = model.proposals(encoded)
    parts = []
    for reason, chosen in (
        (CHOSEN, choose(proposals)),
        (TOLD, None),
        (ASKED, choose(proposals, granularity)),
    ):
        if chosen is None:
            division, odds = model.divide(encoded, len(masks_KSS)), None
        else:
            division, odds = model.cut(encoded, chosen), chosen.log_probability
        figures_KF = region_figures(encoded.features, division, odds)
        scores_Khw = model.finder.scores(encoded.features, division)
        size = masks_KSS.shape[1:]
        label_SS = functional.interpolate(scores_Khw[None], size, mode="bilinear")[0].argmax(dim=0)
        iou_K = iou_matrix(label_SS.numpy(), masks_KSS, len(scores_Khw)).max(axis=1)
        there_K = np.isfinite(figures_KF).all(axis=1)
        found = len(there_K[there_K])
        parts.append(
            CollectedRegions(
                figures_KF[there_K].astype(np.float32),
                iou_K[there_K].astype(np.float32),
                np.full(found, number),
                np.full(found, reason),
            )
        )
    return _joined(parts)


def _joined(parts: Sequence[CollectedRegions]) -> CollectedRegions:
    names = [field.name for field in fields(CollectedRegions)]
    return CollectedRegions(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def collect_regions(
    model: TextureGrouping, images: int, mosaics: BankSource, cache: Path, workers: int
) -> CollectedRegions:
    """Regions of procedural images; what a killed run has computed is kept.

    Args:
        model: with a fitted selector, in evaluation.
        images: B.
        mosaics: see `selector_fit.collect`.
        cache: file (.npz) of what was computed; must belong to this model.
        workers: number of processes; 0: this one.

    Raises:
        ConfigError: the cache cannot be read, or holds other figures than this version computes.
        OSError: it cannot be written.
    """
    parts = _stored(cache)
    first = int(parts[0].image_R.max()) + 1 if parts else 0
    loader = DataLoader(
        _Regions(model, range(first, images), mosaics),
        batch_size=None,
        num_workers=workers,
        shuffle=False,
    )
    for done, found in enumerate(
        tqdm(loader, total=max(images, first), initial=first, desc="regions", unit="image"),
        first + 1,
    ):
        parts.append(found)
        if done % _CHUNK == 0 or done == images:
            parts = [_joined(parts)]
            _store(cache, parts[0])
    data = _joined(parts)
    return data.rows(data.image_R < images)


def _store(cache: Path, data: CollectedRegions) -> None:
    arrays = {field.name: getattr(data, field.name) for field in fields(data)}
    write_atomic(cache, lambda file: np.savez(file, **arrays))


def _stored(cache: Path) -> list[CollectedRegions]:
    """The regions in a file; none without it. Every image has regions, so the last is known."""
    if not cache.is_file():
        return []
    try:
        with np.load(cache) as stored:
            data = CollectedRegions(*(stored[field.name] for field in fields(CollectedRegions)))
        rows = len(data.figures_RF)
        flat = (data.iou_R, data.image_R, data.reason_R)
        if data.figures_RF.shape != (rows, FIGURES) or any(a.shape != (rows,) for a in flat):
            raise ValueError("it holds other figures")
        return [data] if rows else []
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"{cache}: {error}; remove it, and it is computed anew") from error


def model_fingerprint(model: TextureGrouping, evidence: str) -> str:
    """What the regions depend on: that of the evidence, the selector's weights, the figures."""
    digest = hashlib.sha256(f"{evidence} {FIGURE_NAMES} {UNSEEN}".encode())
    for name, parameter in model.selector.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def fit_confidence(model: RegionConfidence, data: CollectedRegions) -> dict[str, float]:
    """Fit the weights (in place) to all images; its figures are of images that were held out.

    Those come from five fits, each without a fifth of the images. They are of the divisions that
    the model chose by itself.

    Returns:
        `regions` (their number), `found` (the share that overlaps a true region), `ece` and `brier`
        (expected calibration error in ten bins, Brier score), and `constant_brier`, of the share in
        the other images as the answer for every region.

    Raises:
        ConfigError: fewer than `LEAST_IMAGES`.
    """
    images = np.unique(data.image_R)
    if len(images) < LEAST_IMAGES:
        raise ConfigError(
            f"{len(images)} images are too few to fit the confidence to; use {LEAST_IMAGES} or more"
        )
    answers_R, constant_R = np.zeros(len(data.iou_R)), np.zeros(len(data.iou_R))
    for fold in range(_FOLDS):
        held_R = data.image_R % _FOLDS == fold
        one = RegionConfidence()
        _fit(one, data.rows(~held_R))
        with torch.no_grad():
            answers_R[held_R] = one(torch.from_numpy(data.figures_RF[held_R])).numpy()
        constant_R[held_R] = _is_found(data)[~held_R & (data.reason_R == CHOSEN)].mean()
    _fit(model, data)
    chosen_R = data.reason_R == CHOSEN
    found_R = _is_found(data)[chosen_R].astype(np.float64)
    return {
        "regions": float(len(found_R)),
        "found": float(found_R.mean()),
        "ece": calibration_error(answers_R[chosen_R], found_R),
        "brier": float(np.square(answers_R[chosen_R] - found_R).mean()),
        "constant_brier": float(np.square(constant_R[chosen_R] - found_R).mean()),
    }


def _is_found(data: CollectedRegions) -> np.ndarray:
    """Bool (R,)."""
    found_R: np.ndarray = data.iou_R >= FOUND_IOU
    return found_R


def _fit(model: RegionConfidence, data: CollectedRegions) -> None:
    """Logistic regression with a small penalty on the weights, to the minimum."""
    figures_RF = torch.from_numpy(data.figures_RF)
    found_R = torch.from_numpy(_is_found(data)).float()
    with torch.no_grad():
        model.center.copy_(figures_RF.mean(dim=0))
        model.scale.copy_(figures_RF.std(dim=0).clamp(min=1e-2))
        model.weight.zero_()
        model.bias.zero_()
    parameters = [model.weight.requires_grad_(True), model.bias.requires_grad_(True)]
    optimizer = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        """The loss, a scalar, with its gradient."""
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy(model(figures_RF), found_R)
        loss = loss + _DECAY * model.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(step)
    model.requires_grad_(False)


def calibration_error(answers_R: np.ndarray, found_R: np.ndarray, bins: int = _BINS) -> float:
    """Expected calibration error: |mean answer - share found| in bins of equal width, the mean.

    Args:
        answers_R: probabilities.
        found_R: 0 or 1.
        bins: of 0..1; each weighs as much as it holds.
    """
    bin_R = np.minimum((answers_R * bins).astype(int), bins - 1)
    apart = np.bincount(bin_R, answers_R - found_R, bins)
    return float(np.abs(apart).sum() / max(len(answers_R), 1))

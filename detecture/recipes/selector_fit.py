"""Fits the selector of TextureGrouping: which number of regions is best, judged from outside.

The trained net divides procedural images into 1, 2, .. regions, and each division is scored against
the truth; the selector learns to tell the best one from the evidence alone. Half of the images are
scenes, half mosaics. The selector also learns how many regions they have, so that distribution is
declared: `PRIOR`. So is how coarsely people segment: `COMPOSITE`.

Legend: B images, K regions, or numbers of them, E figures of evidence, S side of an image.
"""

import hashlib
import logging
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from detecture.checkpoint.atomic import write_atomic
from detecture.data.synthetic import DEFAULT_SIZE, render_scene
from detecture.data.synthetic.bank_source import BankSource
from detecture.data.synthetic.editions import LATEST_EDITION
from detecture.data.synthetic.streams import stream
from detecture.errors import ConfigError
from detecture.evaluation.metrics import score_label_map
from detecture.modeling.grouping.count_selector import CountSelector, selection_loss
from detecture.modeling.grouping.evidence import EVIDENCE, evidence
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping

logger = logging.getLogger(__name__)

# Seeds that nothing else uses: data sets have those below 16, the bank has 16.
_SEED = 17
PRIOR = (0.1, 0.55, 0.15, 0.09, 0.06, 0.05)
"""Shares of the images with 1 to 6 regions. Two, a thing and what is around it, are the commonest
case of what people segment, and the only one in two of the four published benchmarks' sets."""
COMPOSITE = 0.25
"""Share of the images with two regions or more, and fewer than six textures, in which two
textures that touch are one region: people often take all that is around a thing for one, or a thing
with its parts."""
_CHUNK = 50
_HELD_OUT = 5  # one image in so many

_Row = tuple[np.ndarray, np.ndarray]  # evidence (K,E) and quality (K,) of an image


@dataclass(frozen=True)
class Collected:
    """What the selector is fitted to.

    Attributes:
        evidence_BKE: float32.
        quality_BK: panoptic IoU of each division, 0..1, float32.
    """

    evidence_BKE: Tensor
    quality_BK: Tensor


def draw_image(number: int, mosaics: BankSource) -> tuple[np.ndarray, np.ndarray]:
    """The image with this number, uint8 (S,S,3), and its regions, bool (K,S,S)."""
    rng = stream(_SEED, number, 9)
    count = 1 + int(rng.choice(len(PRIOR), p=PRIOR))
    is_composite = 1 < count < len(PRIOR) and rng.random() < COMPOSITE
    textures = count + is_composite
    if number % 2 == 0:
        scene = render_scene(_SEED, number, DEFAULT_SIZE, textures, edition=LATEST_EDITION)
        image, masks_KSS = scene.image, scene.masks
    else:
        image, labels = mosaics.mosaic(_SEED, number, DEFAULT_SIZE, textures)
        masks_KSS = labels[None] == np.arange(textures)[:, None, None]
    return image, _join_two(masks_KSS, rng) if is_composite else masks_KSS


def _join_two(masks_KSS: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Regions (K-1,S,S): two that touch are merged, more likely two with a long border."""
    grown_KSS = np.stack([ndimage.binary_dilation(mask, iterations=3) for mask in masks_KSS])
    pairs = list(combinations(range(len(masks_KSS)), 2))
    borders = np.array([(grown_KSS[i] & grown_KSS[j]).sum() for i, j in pairs]) + 1e-9
    i, j = pairs[int(rng.choice(len(pairs), p=borders / borders.sum()))]
    joint_SS = masks_KSS[i] | masks_KSS[j]
    return np.concatenate([joint_SS[None], np.delete(masks_KSS, (i, j), axis=0)])


class _Examples(Dataset[tuple[np.ndarray, np.ndarray]]):
    """Evidence and quality of each image, computed in a worker process."""

    def __init__(self, model: TextureGrouping, numbers: range, mosaics: BankSource) -> None:
        self.model, self.numbers, self.mosaics = model, numbers, mosaics

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Evidence (K,E) and quality (K,) of one image, float32."""
        torch.set_num_threads(1)
        image, masks = draw_image(self.numbers[place], self.mosaics)
        features = self.model.finder.encode(image)
        divisions = self.model.divisions(self.model.finder.points(features))
        rows, columns = (
            ((np.arange(cells) + 0.5) / cells * side).astype(np.int64)
            for cells, side in zip(features.grid, masks.shape[1:], strict=True)
        )
        coarse_KN = masks[:, rows][:, :, columns]
        quality = []
        for division in divisions:
            labels = division.posterior_NK.argmax(axis=1).reshape(features.grid) + 1
            count = division.posterior_NK.shape[1]
            quality.append(score_label_map(labels, count, coarse_KN).panoptic_iou)
        found = evidence(features, divisions)
        return found.astype(np.float32), np.array(quality, np.float32)


def collect(
    model: TextureGrouping, images: int, mosaics: BankSource, cache: Path, workers: int
) -> Collected:
    """Evidence and quality of procedural images; what a killed run has computed is kept.

    Args:
        model: with a trained net, in evaluation.
        images: B.
        mosaics: composes half of them, ideally from textures that the net has not seen, since it
            separates familiar ones better than others.
        cache: file (.npz) of what was computed; must belong to this net.
        workers: number of processes; 0: this one.

    Raises:
        ConfigError: the cache cannot be read, or holds other figures than this version computes.
        OSError: it cannot be written.
    """
    rows = _stored(cache, model.selector.most)[:images]
    numbers = range(len(rows), images)
    loader = DataLoader(
        _Examples(model, numbers, mosaics), batch_size=None, num_workers=workers, shuffle=False
    )
    bar = tqdm(loader, total=images, initial=len(rows), desc="evidence", unit="image")
    for found, quality in bar:
        rows.append((np.asarray(found), np.asarray(quality)))
        if len(rows) % _CHUNK == 0 or len(rows) == images:
            _store(cache, rows)
    evidence_BKE, quality_BK = _stacked(rows)
    return Collected(torch.from_numpy(evidence_BKE), torch.from_numpy(quality_BK))


def _stacked(rows: list[_Row]) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (B,K,E) and quality (B,K) of the images."""
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def _store(cache: Path, rows: list[_Row]) -> None:
    evidence_BKE, quality_BK = _stacked(rows)
    write_atomic(cache, lambda file: np.savez(file, evidence=evidence_BKE, quality=quality_BK))


def _stored(cache: Path, most: int) -> list[_Row]:
    """The evidence in a file about divisions into up to `most` regions; empty without a file."""
    if not cache.is_file():
        return []
    try:
        with np.load(cache) as stored:
            evidence_BKE, quality_BK = stored["evidence"], stored["quality"]
        if evidence_BKE.shape[1:] != (most, EVIDENCE) or quality_BK.shape[1:] != (most,):
            raise ValueError("it holds other figures")
        return list(zip(evidence_BKE, quality_BK, strict=True))
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"{cache}: {error}; remove it, and it is computed anew") from error


def fit(
    selector: CountSelector,
    data: Collected,
    *,
    steps: int = 700,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.2,
    seed: int = 0,
) -> dict[str, float]:
    """Fit a selector (in place); one image in five is held out.

    Returns:
        Panoptic IoU on the held-out images: `chosen` by the selector, `best` possible, always
        `two`, and `right`, the share of images in which the best number was chosen.

    Raises:
        ConfigError: fewer than 20 images.
    """
    count = len(data.quality_BK)
    if count < 20:
        raise ConfigError(f"{count} images are too few to fit the selector to; use 20 or more")
    held = torch.arange(count) % _HELD_OUT == 0
    torch.manual_seed(seed)
    for module in selector.modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
    selector.standardise(data.evidence_BKE[~held])
    members = selector.members.requires_grad_(True)
    selector.train()
    optimizer = torch.optim.AdamW(members.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in tqdm(range(steps), desc="fit"):
        chosen = torch.randperm(int((~held).sum()))[:256]
        odds_MBK = selector.by_member(data.evidence_BKE[~held][chosen])
        loss = selection_loss(odds_MBK, data.quality_BK[~held][chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    members.requires_grad_(False)
    selector.eval()
    quality_BK = data.quality_BK[held]
    with torch.no_grad():
        chosen_B1 = selector(data.evidence_BKE[held]).argmax(dim=1, keepdim=True)
    return {
        "chosen": float(quality_BK.gather(1, chosen_B1).mean()),
        "best": float(quality_BK.max(dim=1).values.mean()),
        "two": float(quality_BK[:, 1].mean()),
        "right": float((chosen_B1[:, 0] == quality_BK.argmax(dim=1)).float().mean()),
    }


def nets_fingerprint(model: TextureGrouping, settings: str) -> str:
    """What the evidence depends on: the nets' weights, the images, how regions are found."""
    digest = hashlib.sha256(settings.encode())
    for net in model.finder.nets:
        for name, parameter in net.named_parameters():
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]

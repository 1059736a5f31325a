"""How well masks go with names: the IoU of the mask that each name gets.

One measure for all that can answer "where is this": models with an open vocabulary, floors, and
regions that are given to names by chance or by their own sentences.

Legend: T names, K regions, H, W image size.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from detecture.data.datasets.description_order import order_of_descriptions
from detecture.data.datasets.register import load_test_records
from detecture.data.ground_truth import load_ground_truth
from detecture.data.image_io import read_image
from detecture.data.open_mapper import OpenVocabularyMapper
from detecture.errors import DatasetError
from detecture.evaluation.summary import bootstrap_intervals
from detecture.evaluation.words.matching import Similarity
from detecture.evaluation.words.parser import parse_sentence

_DEPTH = frozenset({"foreground", "background", "backdrop", "front", "behind", "edge", "edges"})


@dataclass(frozen=True)
class NamedImage:
    """An image, what is asked for, and where it is.

    Attributes:
        image_id: of the image.
        image: uint8 (H,W,3).
        names: T of them.
        masks: bool (T,H,W).
        held_out: for each name whether its combination was never named in training.
    """

    image_id: str
    image: np.ndarray
    names: Sequence[str]
    masks: np.ndarray
    held_out: Sequence[bool]


Answer = Callable[[NamedImage], np.ndarray]
"""IoU of each name's mask, (T,), of an image."""


def iou_matrix(labels: np.ndarray, masks: np.ndarray, regions: int | None = None) -> np.ndarray:
    """IoU of each region with each mask.

    Args:
        labels: int (H,W); regions 0..K-1, other values belong to no region.
        masks: bool (T,H,W).
        regions: K; None: T.

    Returns:
        float (K,T): region, mask.
    """
    count = len(masks) if regions is None else regions
    member = labels[None] == np.arange(count)[:, None, None]
    flat, true = member.reshape(count, -1), masks.reshape(len(masks), -1)
    shared = flat.astype(np.float64) @ true.T.astype(np.float64)
    union = flat.sum(axis=1)[:, None] + true.sum(axis=1)[None] - shared
    return shared / np.maximum(union, 1)


def by_name(label_map: Callable[[NamedImage], np.ndarray]) -> Answer:
    """The answer, int (H,W), of a model whose label i is name i."""
    return lambda image: np.diagonal(iou_matrix(label_map(image), image.masks))


def shuffled(label_map: Callable[[NamedImage], np.ndarray]) -> Answer:
    """The same, int (H,W), but each name gets the mask of another one: the mean over all."""

    def answer(image: NamedImage) -> np.ndarray:
        """IoU (T,); a single name keeps its own."""
        found = iou_matrix(label_map(image), image.masks)
        count = len(found)
        if count == 1:
            return np.diagonal(found)
        return (found.sum(axis=0) - np.diagonal(found)) / (count - 1)

    return answer


def at_random(regions: Callable[[NamedImage], np.ndarray]) -> Answer:
    """Regions (H,W), as many as names, given to them by chance: the expected value."""
    return lambda image: iou_matrix(regions(image), image.masks).mean(axis=0)


def by_sentences(
    regions: Callable[[NamedImage], tuple[np.ndarray, Sequence[str]]], similarity: Similarity
) -> Answer:
    """Regions (H,W), each with a sentence, given to the names that the sentences are most like.

    Args:
        regions: of an image, as many as names.
        similarity: of a sentence and a name.
    """

    def answer(image: NamedImage) -> np.ndarray:
        """IoU (T,)."""
        labels, sentences = regions(image)
        alike = np.array([[similarity(s, name) for name in image.names] for s in sentences])
        rows, columns = linear_sum_assignment(-alike)
        found = iou_matrix(labels, image.masks)
        result = np.zeros(len(image.names))
        result[columns] = found[rows, columns]
        return result

    return answer


def chance(image: NamedImage) -> np.ndarray:
    """Every pixel is given to any name: IoU (T,) of such masks."""
    share = 1.0 / len(image.names)
    area = image.masks.reshape(len(image.masks), -1).mean(axis=1)
    return share * area / (area + share - share * area)


def half_split(image: NamedImage) -> np.ndarray:
    """As many upright strips as names: label map (H,W)."""
    height, width = image.image.shape[:2]
    strips = np.arange(width) * len(image.names) // width
    return np.broadcast_to(strips, (height, width))


def without_words(text: str, attributes: Sequence[str]) -> str:
    """A sentence without the words that claim colours (`color`) or places (`position`).

    What is in front and behind counts as a place, too.
    """
    sentence = parse_sentence(text)
    dropped = set(attributes)
    kept = [
        word
        for word, attribute in zip(sentence.words, sentence.attributes, strict=True)
        if attribute not in dropped and not ("position" in dropped and word in _DEPTH)
    ]
    return " ".join(kept) or "texture"


def published_images(dataset: str, max_pixels: int, limit: int = 0) -> Iterator[NamedImage]:
    """Images whose published sentences, read as describing one mask each, serve as names.

    Args:
        dataset: a registered set of textures.
        max_pixels: of an image.
        limit: of records; 0: none.

    Raises:
        DatasetError: the set cannot be loaded.
    """
    for record in load_test_records(dataset, limit):
        texts = [texture["description"] for texture in record["textures"]]
        order = order_of_descriptions(dataset, record["image_id"], texts)
        if order is None:
            continue
        truth = load_ground_truth(record, max_pixels)
        yield NamedImage(
            record["image_id"],
            read_image(record["file_name"], max_pixels),
            [texts[i] for i in order],
            truth.masks,
            [False] * len(order),
        )


def procedural_images(
    mapper: OpenVocabularyMapper, dataset: str, limit: int = 0
) -> Iterator[NamedImage]:
    """Images of a procedural set with names, two at least, as `OpenVocabularyMapper.truth` says.

    Args:
        mapper: in evaluation.
        dataset: the set.
        limit: of records; 0: none.
    """
    for record in load_test_records(dataset, limit):
        truth = mapper.truth(record)
        if len(truth.names) > 1:
            yield NamedImage(
                record["image_id"], truth.image, truth.names, truth.masks, truth.held_out
            )


def stripped(images: Iterable[NamedImage], attributes: Sequence[str]) -> Iterator[NamedImage]:
    """Images with some words removed from the names; left out where two names become the same."""
    for image in images:
        names = [without_words(name, attributes) for name in image.names]
        if len(set(names)) == len(names):
            yield replace(image, names=names)


def summarize_names(
    images: Sequence[NamedImage], found: Sequence[np.ndarray], bootstrap_samples: int
) -> dict[str, Any]:
    """Mean IoU over the names of an image, then over images, with 95 % intervals.

    Args:
        images: that were asked.
        found: for each, IoU (T,).
        bootstrap_samples: resamples of images.

    Returns:
        `IoU` over all names, and where there are any `IoU_seen` and `IoU_held_out`, each with
        `mean`, `ci95` and `n_images`.

    Raises:
        DatasetError: there is no image.
    """
    if not images:
        raise DatasetError("no image of this set has names that are known to be of its masks")
    columns: dict[str, list[float]] = {"IoU": [], "IoU_seen": [], "IoU_held_out": []}
    for image, iou in zip(images, found, strict=True):
        held_out = np.array(image.held_out, bool)
        columns["IoU"].append(float(iou.mean()))
        for name, part in (("IoU_seen", ~held_out), ("IoU_held_out", held_out)):
            if part.any():
                columns[name].append(float(iou[part].mean()))
    if not columns["IoU_held_out"]:
        del columns["IoU_seen"], columns["IoU_held_out"]
    summary = {}
    for name, values in columns.items():
        array = np.array(values)
        interval = bootstrap_intervals({name: array}, bootstrap_samples)[name]
        summary[name] = {"mean": float(array.mean()), "ci95": interval, "n_images": len(values)}
    return summary

"""Images of a finished evaluation, with their sentences and what is true of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detecture.data import load_registered
from detecture.data.datasets.description_order import order_of_descriptions
from detecture.data.ground_truth import load_image_and_truth
from detecture.data.image_io import read_label_map
from detecture.data.synthetic import (
    DEFAULT_SIZE,
    FIRST_EDITION,
    RegionAttributes,
    render_scene,
)
from detecture.errors import DatasetError, EvaluationError, ImageError
from detecture.evaluation.record_check import record_problem
from detecture.evaluation.recorded import label_map_path
from detecture.evaluation.records import FAILED_STATUSES, LABEL_MAPS, Record, read_records
from detecture.evaluation.summary import is_as_written
from detecture.untrusted import read_own_json


@dataclass(frozen=True)
class EvaluatedRun:
    """A finished evaluation.

    Attributes:
        folder: `OUTPUT_DIR/inference/<data set>`.
        dataset: name of its data set.
        summary: of the evaluation; empty where it is not finished.
        records: of its samples.
        sources: the data set's dicts by image id.
    """

    folder: Path
    dataset: str
    summary: dict[str, Any]
    records: list[Record]
    sources: dict[str, dict[str, Any]]

    @property
    def has_label_maps(self) -> bool:
        """Whether the predicted regions were kept (TEST.SAVE_LABEL_MAPS)."""
        return any((self.folder / LABEL_MAPS).glob("*.png"))


@dataclass
class WordsImage:
    """One image.

    Attributes:
        image_id: of the image.
        sentences: of the K predicted regions; none where the method failed.
        matches: predicted region -> true region: the pairs of the evaluation's own Hungarian
            matching that share any pixel.
        true_sentences: of the M true regions; empty texts where the data set has none.
        regions: attributes of the M regions, of a procedural image; else empty.
        image: uint8 (H,W,3).
        label_map: the prediction, (H,W) integer, i + 1 for region i; None: not kept.
    """

    image_id: str
    sentences: list[str]
    matches: dict[int, int]
    true_sentences: list[str]
    regions: list[RegionAttributes]
    image: np.ndarray = field(repr=False)
    label_map: np.ndarray | None = field(repr=False)


def open_run(folder: Path, dataset: str | None = None, *, partial: bool = False) -> EvaluatedRun:
    """Find the records of an evaluation and its data set.

    Args:
        folder: `OUTPUT_DIR/inference/<data set>`.
        dataset: registered name, where it is not the one that the evaluation wrote down.
        partial: take an evaluation that is not finished.

    Raises:
        DatasetError: no evaluation is there, or its data set is unknown or has other images.
        EvaluationError: it is not finished, or it has no sentence.
    """
    path = folder / "records.jsonl"
    if not path.is_file():
        inside = [str(p.parent) for p in sorted(folder.glob("**/records.jsonl"))]
        meant = f"; did you mean {' or '.join(inside[:3])}?" if inside else ""
        raise DatasetError(
            f"{path}: no such file; give the folder of an evaluation, "
            f"OUTPUT_DIR/inference/<data set>{meant}"
        )
    summary = _read_summary(folder / "summary.json", partial)
    name = dataset or summary.get("dataset") or folder.resolve().name
    sources = {source["image_id"]: source for source in load_registered(name)}
    records = read_records(folder, record_problem)
    unknown = [r["image_id"] for r in records if r["image_id"] not in sources]
    if unknown:
        raise DatasetError(
            f"{path}: data set {name!r} has no image {unknown[0]!r} ({len(unknown)} such "
            "records); name the right one with --dataset, or evaluate anew"
        )
    if len(records) < len(sources) and not partial:
        raise EvaluationError(
            f"{path}: {len(records):,} of the {len(sources):,} images of {name!r} have a record; "
            "run the same evaluation again, it goes on from there, or take what there is with "
            "--partial"
        )
    if not records:
        raise EvaluationError(f"{path}: holds no record; run the evaluation")
    if not any(text.strip() for record in records for text in record.get("descriptions", ())):
        method = summary.get("method", "the method")
        raise EvaluationError(
            f"{path}: none of the {len(records):,} records has a sentence: {method} writes none "
            "(or failed on every image: see `statuses` in summary.json); evaluate a model that "
            "describes its regions"
        )
    return EvaluatedRun(folder, name, summary, records, sources)


def _read_summary(path: Path, partial: bool) -> dict[str, Any]:
    try:
        summary = read_own_json(path)
    except FileNotFoundError as error:
        if partial:
            return {}
        raise EvaluationError(
            f"{path}: no such file, so the evaluation is not finished; run it again, it goes on "
            "from its records, or take what there is with --partial"
        ) from error
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read ({error}); evaluate anew") from error
    if not isinstance(summary, dict) or not isinstance(summary.get("dataset", ""), str):
        raise EvaluationError(f"{path}: is no summary of an evaluation; evaluate anew")
    if not is_as_written(summary):
        raise EvaluationError(f"{path}: has changed since it was written; evaluate anew")
    return summary


def load_images(
    run: EvaluatedRun, max_pixels: int, bands: Sequence[int] = (), *, true_sentences: bool
) -> Iterator[WordsImage]:
    """The images of an evaluation, in the order of its records.

    Args:
        run: of `open_run`.
        max_pixels: larger files are refused.
        bands: of images, see `detecture.data.image_io.read_image`.
        true_sentences: give every predicted region the sentence of the true one that it matches,
            instead of its own; where `order_of_descriptions` knows which that is, by that.

    Raises:
        DatasetError, ImageError: a file of an image that was scored is missing, or does not go with
            the others.
    """
    with_maps = run.has_label_maps
    for record in run.records:
        source = run.sources[record["image_id"]]
        try:
            image, sentences, regions = _truth(source, max_pixels, bands)
        except (DatasetError, ImageError):
            if record["status"] not in FAILED_STATUSES:
                raise
            # It could not be read in the evaluation either, and counts as there: without sentences.
            image, sentences, regions = np.zeros((0, 0, 3), np.uint8), [], []
        matches = _matches(record, len(sentences))
        own = list(record.get("descriptions", ()))
        if true_sentences:
            order = order_of_descriptions(run.dataset, record["image_id"], sentences)
            true = sentences if order is None else [sentences[i] for i in order]
            own = [true[matches[i]] if i in matches else "" for i in range(len(own))]
        label_map = None
        if with_maps and "assignment" in record:
            label_map = _label_map(run.folder, record, image.shape[:2], max_pixels)
        yield WordsImage(record["image_id"], own, matches, sentences, regions, image, label_map)


def _truth(
    source: dict[str, Any], max_pixels: int, bands: Sequence[int]
) -> tuple[np.ndarray, list[str], list[RegionAttributes]]:
    """Image, uint8 (H,W,3), true sentences, and of a procedural one the regions' attributes."""
    if "seed" in source and "textures" not in source:
        edition = source.get("edition", FIRST_EDITION)
        scene = render_scene(source["seed"], source["index"], DEFAULT_SIZE, edition=edition)
        return scene.image, scene.descriptions, scene.attributes
    image, truth = load_image_and_truth(source, max_pixels, bands)
    return image, truth.descriptions, []


def _matches(record: Record, true_count: int) -> dict[int, int]:
    pairs: Sequence[Sequence[int]] = record.get("assignment", ())
    overlaps = record.get("matched_ious", ())
    # The assignment also pairs what does not touch; that is no match.
    found = {p: t for (p, t), iou in zip(pairs, overlaps, strict=True) if iou > 0.0}
    if any(t >= true_count for t in found.values()):
        raise DatasetError(
            f"image {record['image_id']!r}: its record names a true region that the data set "
            "does not have; the data has changed, evaluate anew"
        )
    return found


def _label_map(folder: Path, record: Record, size: tuple[int, ...], max_pixels: int) -> np.ndarray:
    """The label map that was kept of a record: int32 (H,W), `size` = (H, W).

    Raises:
        DatasetError: there is none.
        ImageError: it cannot be read, or does not go with its record.
    """
    path = label_map_path(folder, record["image_id"])
    if not path.is_file():
        raise DatasetError(f"{path}: no such file, but others have one; evaluate anew")
    label_map = read_label_map(path, max_pixels)
    if label_map.shape != size or label_map.max(initial=0) > record["k_pred"]:
        raise ImageError(f"{path}: does not go with its record; evaluate anew")
    return label_map

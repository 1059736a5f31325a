"""The evaluator of divisions into regions, registered as `regions`: BSDS500's measures.

Legend: H, W size of an image.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detecture.checkpoint.json_files import finite_number
from detecture.d2 import CfgNode, MetadataCatalog
from detecture.data.datasets.bsds500 import load_segmentations
from detecture.data.k_hint import FROM_TRUTH
from detecture.errors import ConfigError, DatasetError, brief
from detecture.evaluation.evaluator import (
    EVALUATOR_REGISTRY,
    LABEL_MAPS_OF,
    METRICS_OF,
    label_maps_beside,
)
from detecture.evaluation.label_map import InvalidOutput, check_output, scores_to_label_map
from detecture.evaluation.recorded import RecordedEvaluator
from detecture.evaluation.records import Record
from detecture.evaluation.region_measures import RegionMap, human_agreement, score_regions
from detecture.evaluation.regions_summary import (
    COLUMNS,
    MEASURES,
    REGION_METRICS,
    WAYS,
    summarize_regions,
    unsummarizable,
)

logger = logging.getLogger(__name__)

METRICS_OF["regions"] = REGION_METRICS

MOST_CUTS = 1000
"""Scales of one hierarchy."""


@dataclass(frozen=True)
class Cut:
    """A hierarchy of regions, cut at one scale: labels (H,W), whole numbers from 0."""

    scale: float
    labels_HW: np.ndarray


class RegionEvaluator(RecordedEvaluator):
    """Scores label maps against the regions of all annotators, looked up by `image_id`.

    An output has `sem_seg` (K+1,H,W), `descriptions` and `status`, and may have `cuts`, see
    `check_cuts`. Each image is scored twice: its regions as given, and each connected part of them
    as a region. The truth is taken as given.

    A sample on which the method failed has covering 0, PRI 0 and the greatest possible VI, the
    logarithm of the number of pixels. One whose truth cannot be read is reported, and not counted.
    The agreement of the annotators is recorded too; it does not depend on the method.
    """

    TASK = "regions"

    def __init__(
        self, cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
    ) -> None:
        """As `RecordedEvaluator`.

        Raises:
            ConfigError: TEST.ORACLE or TEST.COUNT asks for what several annotators disagree on.
        """
        self.count = str(cfg.TEST.COUNT)
        if cfg.TEST.ORACLE or self.count in FROM_TRUTH:
            key = "TEST.ORACLE True" if cfg.TEST.ORACLE else f"TEST.COUNT {self.count}"
            raise ConfigError(
                f"{key}: the images of {dataset_name} have no description and as many true numbers "
                "of regions as annotators; use TEST.ORACLE False, and TEST.COUNT regime or an "
                "integer"
            )
        super().__init__(cfg, dataset_name, folder, resume=resume, problem_of=unsummarizable)

    def score(self, sample: dict[str, Any], output: dict[str, Any]) -> Record:
        """The record of a sample: `COLUMNS`, `annotators`, `human`, `k_hint`, perhaps `cuts`."""
        image_id, hint = sample["image_id"], sample["k_hint"]
        record: Record = {
            "image_id": image_id,
            "status": output.get("status", "ok"),
            **dict.fromkeys(COLUMNS),
            "annotators": 0,
            "human": None,
            "k_hint": {"kind": hint.kind, "k": hint.k},
        }
        if "error" in output:  # the method never ran, or failed
            record["error"] = output["error"]
        try:
            truths = self._truths(image_id, output.get("status") == "image_unreadable")
        except DatasetError as error:
            if "error" in output:  # that of the image says more
                return record
            return record | {"status": "ground_truth_unreadable", "error": str(error)}
        size = truths[0].labels_HW.shape
        record |= {"annotators": len(truths), "human": _human(truths), **_failed(size)}
        if "error" in output:
            return record
        try:
            scores, _ = check_output(output, size)
            label_map = scores_to_label_map(scores)
            cuts = check_cuts(output["cuts"], size) if "cuts" in output else []
        except InvalidOutput as error:
            return record | {"status": "invalid_output", "error": str(error)}
        if self.save_label_maps:
            self.save_label_map(record, label_map)
        record |= _scores(label_map, truths)
        if cuts:
            record["cuts"] = [
                {"scale": cut.scale, **_scores(cut.labels_HW, truths)} for cut in cuts
            ]
        return record

    def _truths(self, image_id: str, by_themselves: bool) -> list[RegionMap]:
        """What each annotator saw; `by_themselves`: sizes are not compared with the image's."""
        source = self._dataset[image_id]
        maps = load_segmentations(source, self.max_pixels, with_image=not by_themselves)
        return [RegionMap.of(labels) for labels in maps]

    def summarize(self, records: list[Record]) -> dict[str, Any]:
        """What the method knew about K, which images these are, and the figures."""
        metadata = MetadataCatalog.get(self.dataset_name)
        published = metadata.get("published_images")
        known = sorted({record["k_hint"]["kind"] for record in records})
        return {
            "count": self.count,
            "k_regime": metadata.get("k_regime"),
            "k_knowledge": known[0] if len(known) == 1 else known,
            "images": _selection(len(self._dataset), published),
            **summarize_regions(records, self.bootstrap_samples),
            "headline": "covering",
        }

    def report(self, summary: dict[str, Any]) -> None:
        """Log the figures, and what they must not be compared with."""
        if not summary["n_measured"]:
            logger.warning(
                "%s on %s: NOTHING MEASURED: no regions of people could be read; %s",
                *(self.method, self.dataset_name, self._records.summary_path),
            )
            return
        rows = [
            f"{title}: "
            + ", ".join(f"{name} {summary[name + way]:.4f}" for name in (*MEASURES, "regions"))
            for way, title in zip(WAYS, ("as given", "as connected parts"), strict=True)
        ]
        if human := summary["human"]:
            agreed = ", ".join(f"{name} {human[name]:.4f}" for name in (*MEASURES, "regions"))
            rows.append(f"people among themselves: {agreed}")
        if "ODS_scales" in summary:
            best = (f"{n} {summary[n + '_ODS']:.4f} / {summary[n + '_OIS']:.4f}" for n in MEASURES)
            rows.append(f"ODS / OIS: {', '.join(best)}")
        logger.info(
            "%s on %s: %s; K known: %s; %d of %d ok; %s; %s",
            *(self.method, self.dataset_name, "; ".join(rows), summary["k_knowledge"]),
            *(summary["n_ok"], summary["n_total"], summary["images"], self._records.summary_path),
        )
        if "no_ODS" in summary:
            logger.warning("%s: neither ODS nor OIS: %s", self.dataset_name, summary["no_ODS"])


def check_cuts(cuts: Any, size: Sequence[int]) -> list[Cut]:
    """Check the cuts of a hierarchy, and return them.

    Args:
        cuts: `output["cuts"]`: pairs (scale, label map (H,W)), coarse to fine. Scales are numbers
            that rise, or that fall; the number of regions never falls. A label map, a tensor or an
            array, has whole numbers from 0; each is one region. Regions of a finer cut need not
            lie within those of a coarser one.
        size: height and width that were asked for.

    Raises:
        InvalidOutput: they are not such cuts.
    """
    if not isinstance(cuts, (list, tuple)) or not 0 < len(cuts) <= MOST_CUTS:
        got = f"{len(cuts)}" if isinstance(cuts, (list, tuple)) else type(cuts).__name__
        raise InvalidOutput(f"cuts must be a list of 1 to {MOST_CUTS} (scale, labels), got {got}")
    found = [_cut(number, cut, size) for number, cut in enumerate(cuts)]
    steps = np.diff([cut.scale for cut in found])
    if not ((steps > 0).all() or (steps < 0).all()):
        raise InvalidOutput("the scales of cuts must rise from each to the next, or fall")
    counts = [len(np.unique(cut.labels_HW)) for cut in found]
    falls = np.flatnonzero(np.diff(counts) < 0)
    if len(falls):
        first = int(falls[0])
        raise InvalidOutput(
            f"cuts must go from coarse to fine; cut {first} has {counts[first]} regions, the next "
            f"one {counts[first + 1]}"
        )
    return found


def _cut(number: int, cut: Any, size: Sequence[int]) -> Cut:
    where = f"cuts[{number}]"
    if not isinstance(cut, (list, tuple)) or len(cut) != 2:
        raise InvalidOutput(f"{where} must be (scale, labels), got {type(cut).__name__}")
    scale, labels = finite_number(cut[0]), cut[1]
    if scale is None:
        raise InvalidOutput(f"{where}: the scale must be a finite number, got {brief(cut[0])}")
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "ui":
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise InvalidOutput(f"{where}: labels must be (H,W) of whole numbers, got {kind}")
    if labels.shape != tuple(size):
        raise InvalidOutput(f"{where}: labels are {labels.shape}, {tuple(size)} (H,W) is due")
    if labels.min() < 0:
        raise InvalidOutput(f"{where}: labels must be 0 or more, the least is {labels.min()}")
    return Cut(scale, labels)


def _scores(labels: np.ndarray, truths: Sequence[RegionMap]) -> dict[str, Any]:
    """`COLUMNS` of a label map (H,W)."""
    given = RegionMap.of(labels)
    found: dict[str, Any] = {}
    for way, division in zip(WAYS, (given, given.parts()), strict=True):
        score = score_regions(division, truths)
        found |= {f"covering{way}": score.covering, f"PRI{way}": score.pri, f"VI{way}": score.vi}
        found[f"regions{way}"] = division.count
    return found


def _failed(size: Sequence[int]) -> dict[str, Any]:
    """`COLUMNS` of an image that has no answer."""
    return dict.fromkeys(COLUMNS, 0) | {f"VI{way}": float(np.log2(np.prod(size))) for way in WAYS}


def _human(truths: Sequence[RegionMap]) -> dict[str, float] | None:
    """How far the annotators of an image agree, and how many regions they draw on average."""
    found = human_agreement(truths)
    if found is None:
        return None
    regions = float(np.mean([truth.count for truth in truths]))
    return {"covering": found.covering, "PRI": found.pri, "VI": found.vi, "regions": regions}


def _selection(images: int, published: int | None) -> str:
    if published is None:
        return f"{images} images"
    if images == published:
        return f"all {images} images of the published set"
    return (
        f"{images} of the {published} images of the published set, so that figures are not "
        "comparable with published ones"
    )


def _first_annotator(record: dict[str, Any], max_pixels: int) -> np.ndarray:
    """Regions (H,W) that the first annotator of an image saw, from 1."""
    return RegionMap.of(load_segmentations(record, max_pixels)[0]).labels_HW + 1


LABEL_MAPS_OF["regions"] = label_maps_beside(_first_annotator)


@EVALUATOR_REGISTRY.register()
def regions(
    cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
) -> RegionEvaluator:
    """The evaluator of data sets whose `evaluator_type` is `regions`."""
    return RegionEvaluator(cfg, dataset_name, folder, resume=resume)

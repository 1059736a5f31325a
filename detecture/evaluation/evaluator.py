"""The evaluator of texture segmentation: one scorer for every method and data set."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detecture.d2 import CfgNode, MetadataCatalog, Registry
from detecture.data import load_ground_truth
from detecture.errors import DatasetError, ImageError
from detecture.evaluation.label_map import InvalidOutput, check_output, scores_to_label_map
from detecture.evaluation.metrics import SampleScore, score_label_map
from detecture.evaluation.recorded import RecordedEvaluator
from detecture.evaluation.records import Record
from detecture.evaluation.summary import METRICS, interval_text, summarize, unsummarizable
from detecture.evaluation.texture_sam_metric import touching_fields

logger = logging.getLogger(__name__)

EVALUATOR_REGISTRY = Registry("EVALUATOR")
EVALUATOR_REGISTRY.__doc__ = """Evaluators by the `evaluator_type` of a data set's metadata.

The registered object is called as `obj(cfg, dataset_name, folder, resume=bool)` and returns a
`DatasetEvaluator` with a `finished_ids` set: samples that need not be run. Where it has `close()`,
that is called when an error ends the evaluation.
"""

METRICS_OF = {"texture": METRICS}
"""Names of what evaluators measure, by the `evaluator_type`: a training that is to keep the best of
another name is refused before it begins. A type that is not here is not checked."""

LabelMaps = Callable[
    [CfgNode, dict[str, Any], dict[str, Any], dict[str, Any]], tuple[np.ndarray, np.ndarray]
]
"""Of a config, a record of the data set, a mapped dict and a standard output: what is predicted and
what is true, (H,W) integers each."""

LABEL_MAPS_OF: dict[str, LabelMaps] = {}
"""How to draw an answer beside the truth, by the `evaluator_type`; a type that is not here is not
drawn."""


def label_maps_beside(truth_of: Callable[[dict[str, Any], int], np.ndarray]) -> LabelMaps:
    """How to draw a standard output beside the truth.

    Args:
        truth_of: of a record and the limit of pixels, the true label map (H,W).

    Returns:
        A function that raises `DetectureError` where the output is not valid, or the truth cannot
        be read.
    """

    def label_maps(
        cfg: CfgNode, record: dict[str, Any], sample: dict[str, Any], output: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is predicted and what is true, (H,W) integers each."""
        scores, _ = check_output(output, (sample["height"], sample["width"]))
        return scores_to_label_map(scores), truth_of(record, cfg.INPUT.MAX_PIXELS)

    return label_maps


class TextureSegEvaluator(RecordedEvaluator):
    """Scores standard outputs against ground truth that it looks up by `image_id`.

    An output has `sem_seg` (K+1,H,W), `descriptions` and `status`. Overlapping masks under
    `all_masks` (COCO RLE) are scored as well, by TextureSAM's metric.

    Every sample ends as one record. A sample on which the method failed scores 0 and keeps its
    status; a method that was told K and returns another number of regions gets its panoptic IoU
    and Dice as the matched ones, since matched means do not charge a wrong number.
    """

    TASK = "texture"

    def __init__(
        self, cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
    ) -> None:
        """As `RecordedEvaluator`."""
        self.oracle: bool = cfg.TEST.ORACLE
        self.count = str(cfg.TEST.COUNT)
        super().__init__(cfg, dataset_name, folder, resume=resume, problem_of=unsummarizable)

    def score(self, sample: dict[str, Any], output: dict[str, Any]) -> Record:
        """The record of a sample, with its `k_hint`."""
        image_id, hint = sample["image_id"], sample["k_hint"]
        source = self._dataset[image_id]
        record: Record = {
            "image_id": image_id,
            "status": output.get("status", "ok"),
            **dict.fromkeys(("mIoU", "pIoU", "mDice", "pDice", "ARI"), 0.0),
            "coverage": 1.0,
            "k_pred": 0,
            # Nothing is known about a procedural record before it is drawn.
            "k_gt": len(source.get("textures", ())),
            "k_hint": {"kind": hint.kind, "k": hint.k},
            "oracle": self.oracle,
        }
        if "error" in output:  # the method never ran, or failed
            return record | {"error": output["error"]}
        try:
            truth = load_ground_truth(source, self.max_pixels)
        except (DatasetError, ImageError) as error:
            return record | {"status": "ground_truth_unreadable", "error": str(error)}
        record["k_gt"] = len(truth.masks)
        try:
            scores, descriptions = check_output(output, truth.masks.shape[1:])
            label_map = scores_to_label_map(scores)
            touching = touching_fields(output.get("all_masks"), truth.index_map)
        except InvalidOutput as error:
            return record | {"status": "invalid_output", "error": str(error)}
        score = score_label_map(label_map, len(descriptions), truth.masks)
        if self.save_label_maps:
            self.save_label_map(record, label_map)
        extra = {k: output[k] for k in ("generated_text",) if k in output}
        record |= _score_fields(score) | {"descriptions": descriptions} | extra | touching
        if hint.k is not None and score.k_pred != hint.k:
            record |= {"mIoU": score.panoptic_iou, "mDice": score.panoptic_dice}
            if record["status"] == "ok":
                record["status"] = "count_violated"
        return record

    def summarize(self, records: list[Record]) -> dict[str, Any]:
        """What the method knew about K, and the means."""
        return {**self._count_columns(records), **summarize(records, self.bootstrap_samples)}

    def _count_columns(self, records: list[Record]) -> dict[str, Any]:
        """What the method knew about K, and which number is therefore the headline."""
        regime = MetadataCatalog.get(self.dataset_name).k_regime
        known = sorted({r["k_hint"]["kind"] for r in records})
        blind = known == ["none"]
        return {
            "count": self.count,
            "k_regime": regime,
            "k_knowledge": known[0] if len(known) == 1 else known,
            "oracle": self.oracle,
            "headline": "pIoU" if blind else "mIoU",
        }

    def report(self, summary: dict[str, Any]) -> None:
        """Log the headline."""
        name = summary["headline"]
        logger.info(
            "%s on %s: %s %.4f %s, ARI %.4f, K known: %s, %d of %d ok; %s",
            self.method,
            self.dataset_name,
            name,
            summary[name],
            interval_text(summary["ci95"][name]),
            summary["ARI"],
            summary["k_knowledge"],
            summary["n_ok"],
            summary["n_total"],
            self._records.summary_path,
        )


LABEL_MAPS_OF["texture"] = label_maps_beside(
    lambda record, max_pixels: load_ground_truth(record, max_pixels).index_map
)


@EVALUATOR_REGISTRY.register()
def texture(
    cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
) -> TextureSegEvaluator:
    """The evaluator of data sets whose `evaluator_type` is `texture`."""
    return TextureSegEvaluator(cfg, dataset_name, folder, resume=resume)


def _score_fields(score: SampleScore) -> Record:
    return {
        "mIoU": score.matched_iou,
        "pIoU": score.panoptic_iou,
        "mDice": score.matched_dice,
        "pDice": score.panoptic_dice,
        "ARI": score.ari,
        "coverage": score.dustbin_coverage,
        "k_pred": score.k_pred,
        "k_gt": score.k_gt,
        "assignment": [list(pair) for pair in score.assignment],
        "matched_ious": [float(score.iou_KM[pair]) for pair in score.assignment],
    }

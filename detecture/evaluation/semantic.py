"""The evaluator of semantic segmentation, registered as `sem_seg`.

Every figure is given with what it depends on: the rule of mIoU's denominator (see `confusion.py`),
the vocabulary (all classes, or, as an oracle, those of each image), synonyms, templates, how pixels
count that the model calls background, and how images are seen: windows, scales and flips.

Legend: H, W size of an image, T classes.
"""

import csv
import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detecture.checkpoint.json_files import finite_number
from detecture.config.sections.semantic import ClipSettings, SemanticTestSettings
from detecture.d2 import CfgNode
from detecture.data.datasets.semantic import SemanticSet, semantic_set
from detecture.data.image_io import image_size
from detecture.data.semantic_truth import NO_CLASS, load_labels
from detecture.errors import DetectureError
from detecture.evaluation.confusion import boundary_counts, pair_counts
from detecture.evaluation.evaluator import EVALUATOR_REGISTRY, LABEL_MAPS_OF, METRICS_OF
from detecture.evaluation.label_map import InvalidOutput
from detecture.evaluation.recorded import RecordedEvaluator
from detecture.evaluation.records import Record
from detecture.evaluation.semantic_summary import (
    CONDITIONS,
    NOTHING,
    SEMANTIC_METRICS,
    class_rows,
    confusion_rows,
    image_score,
    summarize_semantic,
)
from detecture.evaluation.summary import interval_text
from detecture.modeling.cost.canvases import Viewing

logger = logging.getLogger(__name__)

PER_CLASS, CONFUSION = "per_class.csv", "confusion.csv"
"""Files beside the summary."""

METRICS_OF["sem_seg"] = SEMANTIC_METRICS

ORACLE = "oracle, the classes of each image"
"""`vocabulary` of a summary whose images were asked only for what is in them."""

_BACKGROUND = "background"


class SemanticEvaluator(RecordedEvaluator):
    """Counts pixels by true and predicted class, image by image.

    An output has `label_map`, integers (H,W), and `classes`; or, like Detectron2's models,
    `sem_seg` (T,H,W), whose argmax is the label map. Where the method failed, all pixels of the
    sample count as having no class; one whose label map cannot be read is reported, not counted.
    """

    TASK = "sem_seg"

    def __init__(
        self, cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
    ) -> None:
        """As `RecordedEvaluator`."""
        self.source = semantic_set(dataset_name)
        self.settings = SemanticTestSettings.from_config(cfg)
        self.viewing = Viewing.from_config(cfg)
        self.templates = ClipSettings.from_config(cfg).templates
        self.named_vocabulary: str = cfg.MODEL.VOCABULARY.TEST
        super().__init__(
            cfg,
            dataset_name,
            folder,
            resume=resume,
            problem_of=unsummarizable,
            depends_on=class_list_hash(self.source),
            results=(PER_CLASS, CONFUSION),
        )

    @staticmethod
    def label_maps(
        cfg: CfgNode, record: dict[str, Any], sample: dict[str, Any], output: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The prediction and the truth, (H,W) integers, 0 no class; see `validation_images`.

        Args:
            cfg: INPUT.MAX_PIXELS and DATASETS.TEST, whose first set is drawn.
            record: of that set.
            sample: mapped dict.
            output: of the model.

        Raises:
            DetectureError: the output is not valid, or the truth cannot be read.
        """
        source = semantic_set(cfg.DATASETS.TEST[0])
        size, count = (sample["height"], sample["width"]), len(source.vocabulary)
        truth = load_labels(record, count, source.ignore_label, cfg.INPUT.MAX_PIXELS, size)
        classes = sample.get("class_ids") or range(count)
        predicted = _predicted(output, size, list(classes), count, None)
        return (predicted + 1) % (count + 1), truth + 1

    def score(self, sample: dict[str, Any], output: dict[str, Any]) -> Record:
        """The record of a sample: its pixels by true and predicted class."""
        image_id, count = sample["image_id"], len(self.source.vocabulary)
        record: Record = {
            "image_id": image_id,
            "status": output.get("status", "ok"),
            "mIoU": None,
            "pixels": 0,
            "confusion": [],
            "boundary": [],
            "oracle": sample.get("oracle", False),
        }
        try:
            truth_HW = self._truth(image_id, output.get("status") == "image_unreadable")
        except DetectureError as error:
            if "error" in output:  # that of the image says more
                return record | {"error": output["error"]}
            return record | {"status": "ground_truth_unreadable", "error": str(error)}
        predicted_HW = np.full(truth_HW.shape, count)
        if "error" in output:
            record["error"] = output["error"]
        else:
            classes = list(sample.get("class_ids") or range(count))
            try:
                predicted_HW = _predicted(
                    output, truth_HW.shape, classes, count, self._class_of_background()
                )
            except InvalidOutput as error:
                record |= {"status": "invalid_output", "error": str(error)}
            if self.save_label_maps and record["status"] == "ok":
                # 0 is no class there.
                self.save_label_map(record, (predicted_HW + 1) % (count + 1))
        record["confusion"] = pair_counts(predicted_HW, truth_HW, count).tolist()
        record["boundary"] = boundary_counts(predicted_HW, truth_HW, count).tolist()
        record["pixels"] = int((truth_HW != NO_CLASS).sum())
        record["mIoU"] = image_score(record["confusion"], count)
        return record

    def _truth(self, image_id: str, by_itself: bool) -> np.ndarray:
        """True classes, integers (H,W); `by_itself`: the size is not compared with the image's."""
        source = self._dataset[image_id]
        size = image_size(source["sem_seg_file_name"]) if by_itself else None
        count, ignored = len(self.source.vocabulary), self.source.ignore_label
        return load_labels(source, count, ignored, self.max_pixels, size)

    def summarize(self, records: list[Record]) -> dict[str, Any]:
        """What the figures depend on, and the figures; writes the two tables."""
        names = list(self.source.vocabulary.classes)
        rule = self.settings.miou_rule
        found = summarize_semantic(records, len(names), rule, self.bootstrap_samples)
        conditions = self._conditions()
        told = [f"{key}: {value}" for key, value in conditions.items()]
        of_class = class_rows(records, names)
        columns = {"dataset": self.dataset_name, "conditions": "; ".join(map(str, told))}
        rows = [{**row, **columns} for row in of_class]
        self._records.write_result(PER_CLASS, _as_csv(rows))
        self._records.write_result(CONFUSION, _as_csv(confusion_rows(records, names)))
        return {**conditions, **found, "unit": "fraction, 0 to 1", "headline": "mIoU"}

    def report(self, summary: dict[str, Any]) -> None:
        """Log the headline with all that it depends on."""
        if summary["mIoU"] is None:
            logger.warning(
                "%s on %s: NOTHING MEASURED: in no label map that could be read has a pixel a "
                "class (%d of %d images ok). See that the label maps in %s hold 0 to %d; %d is no "
                "class; %s",
                *(self.method, self.dataset_name, summary["n_ok"], summary["n_total"]),
                *(self.source.label_root, len(self.source.vocabulary) - 1),
                *(self.source.ignore_label, self._records.summary_path),
            )
            return
        logger.info(
            "%s on %s: mIoU %.4f %s over the %d classes that are %s; bIoU %.4f, fwIoU "
            "%.4f, mACC %.4f, pACC %.4f; %s; %d of %d ok; %s",
            *(self.method, self.dataset_name, _number(summary["mIoU"])),
            interval_text(summary["ci95"]["mIoU"]),
            *(summary["classes_averaged"], summary["miou_rule"].replace("_", " ")),
            *(_number(summary[name]) for name in ("bIoU", "fwIoU", "mACC", "pACC")),
            ", ".join(f"{key} {summary[key]}" for key in self._conditions()),
            *(summary["n_ok"], summary["n_total"], self._records.summary_path),
        )

    def _conditions(self) -> dict[str, Any]:
        """What every figure depends on besides the model."""
        threshold = self.settings.background_threshold
        background = "none"
        if threshold:
            known = self._class_of_background() is not None
            counts = "the class background" if known else "no class, and wrong"
            background = f"best score below {threshold:g} counts as {counts}"
        per_image = self.settings.vocabulary == "per_image"
        values = (
            self.settings.miou_rule,
            ORACLE if per_image else "full",
            self.named_vocabulary or "the data set's own",
            self.settings.synonyms,
            self.templates,
            background,
            *self.viewing.told().values(),
        )
        return dict(zip(CONDITIONS, values, strict=True))

    def _class_of_background(self) -> int | None:
        names = self.source.vocabulary.classes
        return names.index(_BACKGROUND) if _BACKGROUND in names else None


def _predicted(
    output: Mapping[str, Any],
    size: Sequence[int],
    classes: Sequence[int],
    count: int,
    background: int | None,
) -> np.ndarray:
    """The class of each pixel, integers (H,W): 0 to `count` - 1, or `count`, no class.

    Args:
        output: of a model.
        size: the expected (H,W).
        classes: number of each class that the model was asked for.
        count: of all classes.
        background: class of pixels below the background threshold; None: no class.

    Raises:
        InvalidOutput: it does not answer what was asked.
    """
    found = output.get("label_map")
    if found is None:
        scores = output.get("sem_seg")
        if not isinstance(scores, torch.Tensor) or scores.ndim != 3:
            raise InvalidOutput("the output has neither label_map (H,W) nor sem_seg (T,H,W)")
        if bool((scores != scores).any()):
            raise InvalidOutput("sem_seg holds NaN scores")
        found = scores.argmax(dim=0)
    labels_HW = torch.as_tensor(found).cpu().numpy().astype(np.int64)
    if labels_HW.shape != tuple(size):
        raise InvalidOutput(f"the label map is {labels_HW.shape} (H,W), {tuple(size)} is due")
    names = output.get("classes")
    answered = len(names) if names is not None else len(classes)
    if answered not in (len(classes), len(classes) + 1):
        raise InvalidOutput(f"the output has {answered} classes, {len(classes)} were asked for")
    if labels_HW.size and not 0 <= labels_HW.min() <= labels_HW.max() < answered:
        raise InvalidOutput(
            f"the label map reaches from {labels_HW.min()} to {labels_HW.max()}, and {answered} "
            "classes are 0 to one less"
        )
    table = [*classes, count if background is None else background]
    return np.asarray(table, dtype=np.int64)[labels_HW]


def class_list_hash(source: SemanticSet) -> dict[str, str]:
    """What records of a set depend on besides config, weights, data and code: name to hash."""
    classes = [[item.shown, item.parts] for item in source.vocabulary.items]
    text = json.dumps([classes, source.ignore_label])
    return {"class list": hashlib.sha256(text.encode()).hexdigest()}


def unsummarizable(record: Mapping[str, Any]) -> str:
    """What keeps a record out of a summary; empty if nothing does."""
    for name, width in (("confusion", 3), ("boundary", 4)):
        rows = record.get(name)
        if not isinstance(rows, list) or not all(map(_is_row(width), rows)):
            return f"{name} is no table of {width} columns of counts"
    if record.get("mIoU") is not None and finite_number(record["mIoU"]) is None:
        return "mIoU is no number"
    return ""


def _is_row(width: int) -> Any:
    def check(row: Any) -> bool:
        return (
            isinstance(row, list)
            and len(row) == width
            and all(type(value) is int and value >= 0 for value in row)
        )

    return check


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows of a table, below a line of column names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [NOTHING], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


LABEL_MAPS_OF["sem_seg"] = SemanticEvaluator.label_maps


@EVALUATOR_REGISTRY.register()
def sem_seg(
    cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
) -> SemanticEvaluator:
    """The evaluator of data sets whose `evaluator_type` is `sem_seg`."""
    return SemanticEvaluator(cfg, dataset_name, folder, resume=resume)

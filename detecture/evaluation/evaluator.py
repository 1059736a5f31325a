"""The evaluator of texture segmentation: one scorer for every method and data set."""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import sha256_file, short_name, utf8, write_atomic
from detecture.d2 import CfgNode, DatasetEvaluator, MetadataCatalog, Registry, comm
from detecture.data import load_ground_truth, load_test_records
from detecture.errors import DatasetError, EvaluationError, ImageError
from detecture.evaluation.fingerprint import evaluation_fingerprint
from detecture.evaluation.label_map import InvalidOutput, check_output, scores_to_label_map
from detecture.evaluation.metrics import SampleScore, score_label_map
from detecture.evaluation.records import FAILED_STATUSES, Record, RecordFolder
from detecture.evaluation.summary import METRICS, summarize, unsummarizable
from detecture.evaluation.texture_sam_metric import touching_fields
from detecture.jobs.together import in_all_processes
from detecture.visualize import label_map_image

logger = logging.getLogger(__name__)

_LABEL_MAP = "label_map_sha256"
_SHOWN = 5

EVALUATOR_REGISTRY = Registry("EVALUATOR")
EVALUATOR_REGISTRY.__doc__ = """Evaluators by the `evaluator_type` of a data set's metadata.

The registered object is called as `obj(cfg, dataset_name, folder, resume=bool)` and returns a
`DatasetEvaluator` with a `finished_ids` set: samples that need not be run. Where it has `close()`,
that is called when an error ends the evaluation.
"""

METRICS_OF = {"texture": METRICS}
"""Names of what evaluators measure, by the `evaluator_type`: a training that is to keep the best of
another name is refused before it begins. A type that is not here is not checked."""


class TextureSegEvaluator(DatasetEvaluator):
    """Scores standard outputs against ground truth that it looks up by `image_id`.

    Every sample ends as one record. A sample on which the method failed scores 0 and keeps its
    status; a method that was told K and returns another number of regions gets its panoptic IoU
    and Dice as the matched ones, since matched means do not charge a wrong number.
    """

    def __init__(
        self, cfg: CfgNode, dataset_name: str, folder: str | Path, *, resume: bool = True
    ) -> None:
        """Read the data set and, where they are still valid, the records of an earlier run.

        Args:
            cfg: keys TEST.* and INPUT.MAX_PIXELS; all of MODEL goes into the fingerprint.
            dataset_name: registered data set.
            folder: gets `records.jsonl`, `summary.json` and `label_maps/`.
            resume: keep finished samples of an earlier run with equal config, weights, data and
                code. With False everything is evaluated anew.

        Raises:
            DatasetError: the data set is missing or malformed.
            EvaluationError: another run is writing to `folder`.
        """
        self.dataset_name = dataset_name
        self.folder = Path(folder)
        self.max_pixels: int = cfg.INPUT.MAX_PIXELS
        self.bootstrap_samples: int = cfg.TEST.BOOTSTRAP_SAMPLES
        self.save_label_maps: bool = cfg.TEST.SAVE_LABEL_MAPS
        self.oracle: bool = cfg.TEST.ORACLE
        self.count = str(cfg.TEST.COUNT)
        self.method: str = cfg.MODEL.META_ARCHITECTURE
        dataset = load_test_records(dataset_name, cfg.TEST.LIMIT)
        self._dataset = {record["image_id"]: record for record in dataset}
        fingerprint = evaluation_fingerprint(cfg, dataset)
        self._records = RecordFolder(self.folder, fingerprint, unsummarizable)
        self._config: str = cfg.dump()
        self._new: list[Record] = []
        self._old = self._open_records(resume)

    @property
    def finished_ids(self) -> frozenset[str]:
        """Ids of samples whose records of an earlier run are valid and final."""
        return frozenset(self._old)

    def reset(self) -> None:
        """Start over with the samples of this run (those of earlier runs stay)."""
        self._new = []

    def process(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        """Score a batch and append its records.

        Args:
            inputs: mapped dicts (`image_id`, `k_hint`).
            outputs: for each, the standard output (`sem_seg` (K+1,H,W), `descriptions`, `status`),
                or, where the method could not run, just `status` and `error`. Overlapping masks
                under `all_masks` (COCO RLE) are scored besides, by TextureSAM's metric.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            record = self._score(sample, output)
            self._records.append(comm.get_rank(), record)
            self._new.append(record)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gather the records of all processes, write the summary.

        Returns:
            On the main process `{"texture": {metric: value}}`, elsewhere empty.
        """
        with in_all_processes(EvaluationError):
            self._records.close()
        gathered = comm.gather(self._new, dst=0)
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        with in_all_processes(EvaluationError):
            if comm.is_main_process():
                results["texture"] = self._finish(gathered)
        return results

    def close(self) -> None:
        """Give the folder free; what has its record by then is kept for the next run."""
        try:
            self._records.close()
        finally:
            self._records.unlock()

    @staticmethod
    def label_maps(
        cfg: CfgNode, record: dict[str, Any], sample: dict[str, Any], output: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is predicted and what is true, (H,W) integers; see `validation_images`.

        Args:
            cfg: INPUT.MAX_PIXELS.
            record: of the data set.
            sample: mapped dict.
            output: standard output.

        Raises:
            DetectureError: the output is none, or the truth cannot be read.
        """
        scores, _ = check_output(output, (sample["height"], sample["width"]))
        truth = load_ground_truth(record, cfg.INPUT.MAX_PIXELS).index_map
        return scores_to_label_map(scores), truth

    def _finish(self, gathered: list[list[Record]]) -> dict[str, float]:
        """Write all records in order, and the summary; returns its numbers."""
        records = dict(self._old)
        records.update((record["image_id"], record) for part in gathered for record in part)
        ordered = [records[image_id] for image_id in self._dataset if image_id in records]
        self._records.rewrite(ordered)
        summary = {
            "dataset": self.dataset_name,
            "method": self.method,
            **self._count_columns(ordered),
            **summarize(ordered, self.bootstrap_samples),
            "fingerprint": self._records.fingerprint,
        }
        self._records.write_summary(summary)
        self._records.unlock()
        self._report(ordered, summary)
        if ordered and all(record["status"] in FAILED_STATUSES for record in ordered):
            raise EvaluationError(
                f"{self.dataset_name}: none of the {len(ordered)} images could be scored; the "
                f"first: {ordered[0]['status']}: {ordered[0].get('error', '')}. All are in "
                f"{self.folder / 'records.jsonl'}"
            )
        return {k: v for k, v in summary.items() if type(v) in (int, float)}

    def _open_records(self, resume: bool) -> dict[str, Record]:
        """Reserve the folder and bring earlier records together in one file; returns the final."""
        is_main = comm.is_main_process()
        with in_all_processes(EvaluationError):
            if is_main:
                self._records.lock()
        try:
            with in_all_processes(EvaluationError):  # nobody writes before all have read
                old = self._final_records() if resume else {}
            with in_all_processes(EvaluationError):
                if is_main:
                    self._begin(old, resume)
        except BaseException:
            self._records.unlock()
            raise
        return old

    def _final_records(self) -> dict[str, Record]:
        records = self._records.read()
        old = {k: records[k] for k in self._dataset if k in records}
        final = {k: r for k, r in old.items() if r["status"] not in FAILED_STATUSES}
        if not self.save_label_maps:
            return final
        lost = [image_id for image_id, record in final.items() if not self._has_label_map(record)]
        if lost:
            logger.warning(
                "%s: %d label maps are missing or not those of their records (%s%s); their images "
                "are evaluated again",
                *(self.folder / "label_maps", len(lost), utf8(", ".join(lost[:_SHOWN])).decode()),
                ", .." if len(lost) > _SHOWN else "",
            )
        return {image_id: record for image_id, record in final.items() if image_id not in lost}

    def _has_label_map(self, record: Record) -> bool:
        if _LABEL_MAP not in record:  # none was written, or by an earlier version
            return True
        try:
            found = sha256_file(label_map_path(self.folder, record["image_id"]))
        except OSError:
            return False
        return bool(record[_LABEL_MAP] == found)

    def _begin(self, old: dict[str, Record], resume: bool) -> None:
        """Make the folder hold the records that are kept, and their config."""
        if changed := self._records.differences():
            logger.warning(
                "%s: the records there are of another %s; they are kept as *.stale-N, and "
                "everything is evaluated anew",
                self.folder,
                " and ".join(changed),
            )
        if resume:
            self._records.set_damaged_aside()
        self._records.start(old.values())
        self._records.write_config(self._config)
        if old:
            logger.info("%s: %d finished samples are kept", self.folder, len(old))

    def _score(self, sample: dict[str, Any], output: dict[str, Any]) -> Record:
        image_id, hint = sample["image_id"], sample["k_hint"]
        source = self._dataset[image_id]
        record: Record = {
            "image_id": image_id,
            "status": output.get("status", "ok"),
            **dict.fromkeys(("mIoU", "pIoU", "mDice", "pDice", "ARI"), 0.0),
            "coverage": 1.0,
            "k_pred": 0,
            # Of a procedural record nothing is known before it is drawn.
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
            record[_LABEL_MAP] = self._save_label_map(image_id, label_map)
        extra = {k: output[k] for k in ("generated_text",) if k in output}
        record |= _score_fields(score) | {"descriptions": descriptions} | extra | touching
        if hint.k is not None and score.k_pred != hint.k:
            record |= {"mIoU": score.panoptic_iou, "mDice": score.panoptic_dice}
            if record["status"] == "ok":
                record["status"] = "count_violated"
        return record

    def _save_label_map(self, image_id: str, label_map: np.ndarray) -> str:
        """Write a label map (H,W) as a PNG; returns the SHA-256 of the file.

        Raises:
            EvaluationError: it cannot be written.
        """
        path = label_map_path(self.folder, image_id)
        image: Image.Image = label_map_image(label_map)
        try:
            write_atomic(path, lambda file: image.save(file, format="PNG"))
        except OSError as error:
            raise EvaluationError(
                f"{path}: cannot be written ({error.strerror or error}). Make room, or set "
                "TEST.SAVE_LABEL_MAPS False, and run the same command again: it goes on from there"
            ) from error
        return sha256_file(path)

    def _count_columns(self, records: list[Record]) -> dict[str, Any]:
        """What the method knew of K, and which number is the headline then."""
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

    def _report(self, records: list[Record], summary: dict[str, Any]) -> None:
        failed = [r for r in records if r["status"] != "ok"]
        for record in failed[:_SHOWN]:
            error = record.get("error", "")[:500]
            text = f"{self.dataset_name} {record['image_id']}: {record['status']} {error}"
            logger.warning("%s", utf8(text).decode())  # not every name is text
        if len(failed) > _SHOWN:
            more = len(failed) - _SHOWN
            logger.warning(".. and %d more in %s", more, self.folder / "records.jsonl")
        if len(records) < len(self._dataset):
            logger.warning("%d samples have no record", len(self._dataset) - len(records))
        if records:
            name = summary["headline"]
            low, high = summary["ci95"][name]
            logger.info(
                "%s on %s: %s %.4f [%.4f, %.4f], ARI %.4f, K known: %s, %d of %d ok; %s",
                self.method,
                self.dataset_name,
                name,
                summary[name],
                low,
                high,
                summary["ARI"],
                summary["k_knowledge"],
                summary["n_ok"],
                summary["n_total"],
                self._records.summary_path,
            )


def label_map_path(folder: Path, image_id: str) -> Path:
    """File of a sample's label map in the folder of an evaluation."""
    # Ids are not file names: "a/b" must not become a folder, nor "..", a way out.
    name = short_name(quote(image_id, safe=" ", errors="surrogatepass"), 150, source=image_id)
    return folder / "label_maps" / f"{name}.png"


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

"""What is common to the evaluators that keep one record for each sample."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from detecture.checkpoint.atomic import sha256_file, short_name, utf8, write_atomic
from detecture.d2 import CfgNode, DatasetEvaluator, comm
from detecture.data import load_test_records
from detecture.errors import EvaluationError, one_line
from detecture.evaluation.fingerprint import evaluation_fingerprint
from detecture.evaluation.record_lines import ProblemOf
from detecture.evaluation.records import FAILED_STATUSES, LABEL_MAPS, Record, RecordFolder
from detecture.jobs.together import in_all_processes
from detecture.visualize import label_map_image

logger = logging.getLogger(__name__)

_LABEL_MAP = "label_map_sha256"
_SHOWN = 5


class RecordedEvaluator(DatasetEvaluator):
    """Scores sample by sample; after a kill, a new run goes on from the records that are there.

    Every sample ends as one record; several processes write files of their own, which the main one
    joins. A subclass says what a sample scores and how the scores are summarised.
    """

    TASK: str
    """Name of the results."""

    failures: str
    """How many images could not be scored, as a sentence; empty if all were, or before the end."""

    def __init__(
        self,
        cfg: CfgNode,
        dataset_name: str,
        folder: str | Path,
        *,
        resume: bool,
        problem_of: ProblemOf,
        depends_on: Mapping[str, str] | None = None,
        results: Sequence[str] = (),
    ) -> None:
        """Read the data set and, where they are still valid, the records of an earlier run.

        Args:
            cfg: keys TEST.* and INPUT.MAX_PIXELS; all of MODEL goes into the fingerprint.
            dataset_name: registered data set.
            folder: gets `records.jsonl`, `summary.json` and `label_maps/`.
            resume: keep finished samples of an earlier run with equal config, weights, data and
                code. With False everything is evaluated anew.
            problem_of: what keeps a record from being summarised.
            depends_on: what else a record depends on, name to hash.
            results: names of further files in the folder that are made from the records.

        Raises:
            DatasetError: the data set is missing or malformed.
            EvaluationError: another run is writing to `folder`.
        """
        self.dataset_name = dataset_name
        self.folder = Path(folder)
        self.max_pixels: int = cfg.INPUT.MAX_PIXELS
        self.bootstrap_samples: int = cfg.TEST.BOOTSTRAP_SAMPLES
        self.save_label_maps: bool = cfg.TEST.SAVE_LABEL_MAPS
        self.method: str = cfg.MODEL.META_ARCHITECTURE
        dataset = load_test_records(dataset_name, cfg.TEST.LIMIT)
        self._dataset = {record["image_id"]: record for record in dataset}
        fingerprint = {**evaluation_fingerprint(cfg, dataset), **(depends_on or {})}
        self._records = RecordFolder(self.folder, fingerprint, problem_of, results)
        self._config: str = cfg.dump()
        self.failures = ""
        self._new: list[Record] = []
        self._old = self._open_records(resume)

    def score(self, sample: dict[str, Any], output: dict[str, Any]) -> Record:
        """The record of a sample, see `process`."""
        raise NotImplementedError

    def summarize(self, records: list[Record]) -> dict[str, Any]:
        """The summary of the records, which come in the order of the data set.

        Further files in the folder may be written here.
        """
        raise NotImplementedError

    def report(self, summary: dict[str, Any]) -> None:
        """Log the one line that a reader looks for."""
        raise NotImplementedError

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
            inputs: mapped dicts.
            outputs: what the model gave for each or, where it could not run, only `status` and
                `error`.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            record = self.score(sample, output)
            self._records.append(comm.get_rank(), record)
            self._new.append(record)

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """Gather the records of all processes, write the summary.

        Returns:
            On the main process `{TASK: {metric: value}}`, elsewhere empty.
        """
        with in_all_processes(EvaluationError):
            self._records.close()
        gathered = comm.gather(self._new, dst=0)
        results: OrderedDict[str, dict[str, float]] = OrderedDict()
        with in_all_processes(EvaluationError):
            if comm.is_main_process():
                results[self.TASK] = self._finish(gathered)
        return results

    def close(self) -> None:
        """Release the folder; samples with a record by then are kept for the next run."""
        try:
            self._records.close()
        finally:
            self._records.unlock()

    def _finish(self, gathered: list[list[Record]]) -> dict[str, float]:
        """Write all records in order, and the summary; returns its numbers."""
        records = dict(self._old)
        records.update((record["image_id"], record) for part in gathered for record in part)
        ordered = [records[image_id] for image_id in self._dataset if image_id in records]
        self._records.rewrite(ordered)
        summary = {
            "dataset": self.dataset_name,
            "method": self.method,
            **self.summarize(ordered),
            "fingerprint": self._records.fingerprint,
        }
        self._records.write_summary(summary)
        self._records.unlock()
        self._report_failures(ordered)
        self.failures = self._count_failures(ordered)
        if ordered:
            self.report(summary)
        if ordered and all(record["status"] in FAILED_STATUSES for record in ordered):
            raise EvaluationError(
                f"{self.dataset_name}: none of the {len(ordered)} images could be scored; the "
                f"first: {ordered[0]['status']}: {ordered[0].get('error', '')}. All are in "
                f"{self.folder / 'records.jsonl'}"
            )
        return {k: v for k, v in summary.items() if type(v) in (int, float)}

    def _open_records(self, resume: bool) -> dict[str, Record]:
        """Reserve the folder, join earlier records in one file; returns those that are final."""
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
                *(self.folder / LABEL_MAPS, len(lost), utf8(", ".join(lost[:_SHOWN])).decode()),
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

    def save_label_map(self, record: Record, label_map: np.ndarray) -> None:
        """Write a label map, integers (H,W), 0 nothing, i + 1 region or class i.

        Its hash goes into the record.

        Raises:
            EvaluationError: it cannot be written.
        """
        path = label_map_path(self.folder, record["image_id"])
        image: Image.Image = label_map_image(label_map)
        try:
            write_atomic(path, lambda file: image.save(file, format="PNG"))
        except OSError as error:
            raise EvaluationError(
                f"{path}: cannot be written ({error.strerror or error}). Make room, or set "
                "TEST.SAVE_LABEL_MAPS False, and run the same command again: it goes on from there"
            ) from error
        record[_LABEL_MAP] = sha256_file(path)

    def _report_failures(self, records: list[Record]) -> None:
        failed = [r for r in records if r["status"] != "ok"]
        for record in failed[:_SHOWN]:
            error = record.get("error", "")[:500]
            text = f"{self.dataset_name} {record['image_id']}: {record['status']} {error}"
            logger.warning("%s", one_line(utf8(text).decode()))  # not every file name is valid text
        if len(failed) > _SHOWN:
            more = len(failed) - _SHOWN
            logger.warning(".. and %d more in %s", more, self.folder / "records.jsonl")
        if len(records) < len(self._dataset):
            logger.warning("%d samples have no record", len(self._dataset) - len(records))

    def _count_failures(self, records: list[Record]) -> str:
        counts = Counter(r["status"] for r in records if r["status"] in FAILED_STATUSES)
        if not counts:
            return ""
        kinds = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        return (
            f"{self.dataset_name}: {counts.total()} of {len(records)} images FAILED ({kinds}), so "
            f"the figures above are not comparable; see {self.folder / 'records.jsonl'}. The same "
            "command tries them again"
        )


def label_map_path(folder: Path, image_id: str) -> Path:
    """File of a sample's label map in the folder of an evaluation."""
    # Ids are not file names: "a/b" must not become a folder, nor "..", a way out.
    name = short_name(quote(image_id, safe=" ", errors="surrogatepass"), 150, source=image_id)
    return folder / LABEL_MAPS / f"{name}.png"

"""A records file that was damaged in whatever way: a resumed evaluation ends as the unbroken one.

With DETECTURE_LONG_TESTS=1 all damages are tried (a minute), otherwise a share of them.
"""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from mutations import KINDS, mutation
from record_files import read_lines, write_lines, write_sealed
from toy import register_toy_dataset, write_toy_dataset

from detecture.config import make_config
from detecture.data import KHint, load_ground_truth, load_registered
from detecture.evaluation import TextureSegEvaluator
from detecture.evaluation import recorded as module
from detecture.evaluation.records import RecordFolder, read_records

LONG = os.environ.get("DETECTURE_LONG_TESTS") == "1"
DAMAGES = 720 if LONG else 4 * len(KINDS)


class Evaluation:
    """Six images, with scores that have many digits; one of them has no label."""

    def __init__(self, root):
        self.dataset = register_toy_dataset(write_toy_dataset(root / "toy", k=3))
        self.cfg = make_config(
            None, ["TEST.BOOTSTRAP_SAMPLES", "20", "TEST.SAVE_LABEL_MAPS", "False"]
        )
        draw = np.random.default_rng(1)
        self.outputs = {}
        for record in load_registered(self.dataset):
            masks = load_ground_truth(record, 10**6).masks
            planes = np.where(masks, 1.0, 0.0) + draw.normal(0, 0.6, masks.shape)
            scores = np.concatenate([planes, np.full((1, *masks.shape[1:]), -9.0)])
            self.outputs[record["image_id"]] = {
                "sem_seg": torch.from_numpy(scores),
                "descriptions": ["grün", 'with "quotes"', ""],
                "generated_text": "one\ntwo",
                "status": "ok",
            }
        self.whole = root / "whole"
        self.asked = []
        self.summary = self.run(self.whole)
        self.records = (self.whole / "records.jsonl").read_bytes()

    def run(self, folder):
        evaluator = TextureSegEvaluator(self.cfg, self.dataset, folder)
        self.asked = [i for i in self.outputs if i not in evaluator.finished_ids]
        for image_id in self.asked:
            sample = {"image_id": image_id, "k_hint": KHint("per_image", 3)}
            evaluator.process([sample], [self.outputs[image_id]])
        evaluator.evaluate()
        return (folder / "summary.json").read_bytes()


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Hashing the whole package takes longer than the rest of an evaluation.
        patch.setattr(
            module, "evaluation_fingerprint", lambda cfg, data: {"config": "0123", "code": "45"}
        )
        yield Evaluation(tmp_path_factory.mktemp("damaged"))


def damaged_copy(evaluation, folder, data):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(evaluation.whole, folder)
    (folder / "records.jsonl").write_bytes(data)
    return folder


def test_every_damage_is_mended(evaluation, tmp_path):
    wrong = []
    for seed in range(DAMAGES):
        name, data = mutation(seed, evaluation.records)
        folder = damaged_copy(evaluation, tmp_path / "out", data)
        try:
            summary = evaluation.run(folder)
        except Exception as error:
            wrong.append(f"{name} {seed}: {type(error).__name__}: {error!s:.200}")
            continue
        if summary != evaluation.summary:
            wrong.append(f"{name} {seed}: another summary")
        if (folder / "records.jsonl").read_bytes() != evaluation.records:
            wrong.append(f"{name} {seed}: other records")
    assert not wrong, "\n".join(wrong)


def test_files_without_digests_never_end_a_run(evaluation, tmp_path):
    """An edited digit of theirs cannot be seen; whatever makes no sense is done again."""
    plain = tmp_path / "plain.jsonl"
    write_lines(plain, read_lines(evaluation.whole / "records.jsonl"))
    for seed in range(DAMAGES):
        name, data = mutation(seed, plain.read_bytes())
        folder = damaged_copy(evaluation, tmp_path / "out", data)
        try:
            summary = json.loads(evaluation.run(folder))
        except Exception as error:
            raise AssertionError(f"{name} {seed}") from error
        assert summary["n_total"] == 6, f"{name} {seed}"
        again = read_lines(folder / "records.jsonl")
        assert [one["image_id"] for one in again[1:]] == list(evaluation.outputs)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace('"mIoU": 0.', '"mIoU": 0.9'),
        lambda line: line.replace('"ok"', '"okay"'),
        lambda line: line.replace('"toy_2"', '"toy_3"'),
        lambda line: line.replace("quotes", "quotas"),
        lambda line: line[: line.index(', "digest"')] + "}",
        lambda line: line.replace('"mIoU": ', '"mIoU": NaN, "x": '),
        lambda line: "[" * 100_000,
        lambda line: line.replace('"generated_text": "', '"generated_text": "\\ud800'),
    ],
)
def test_a_changed_line_is_set_aside_named_and_done_again(evaluation, tmp_path, caplog, change):
    lines = evaluation.records.decode().split("\n")
    before = lines[3]
    lines[3] = change(before)
    assert lines[3] != before
    folder = damaged_copy(evaluation, tmp_path / "out", "\n".join(lines).encode())
    assert evaluation.run(folder) == evaluation.summary
    assert evaluation.asked == ["toy_2"]
    assert (folder / "records.damaged-1.jsonl").read_text() == lines[3] + "\n"
    assert "1 lines are damaged, and are now in records.damaged-1.jsonl (line 4" in caplog.text
    if "toy" in lines[3]:
        assert "of 'toy_" in caplog.text


def test_a_changed_header_is_found_and_costs_no_image(evaluation, tmp_path, caplog):
    data = evaluation.records.replace(b'"config": "0123"', b'"config": "0124"')
    folder = damaged_copy(evaluation, tmp_path / "out", data)
    assert evaluation.run(folder) == evaluation.summary
    assert evaluation.asked == []
    assert "line 1" in caplog.text


def test_lines_of_another_evaluation_do_not_count(evaluation, tmp_path):
    """Nor do they where the first line was taken from this one."""
    folder = tmp_path / "out"
    lines = read_lines(evaluation.whole / "records.jsonl")
    lines[1]["mIoU"] = 1.0
    other = [{"fingerprint": {"config": "other", "code": "45"}}, *lines[1:]]
    damaged_copy(evaluation, folder, b"")
    write_sealed(folder / "records.jsonl", other)
    text = (folder / "records.jsonl").read_bytes().split(b"\n", 1)[1]
    (folder / "records.jsonl").write_bytes(evaluation.records.split(b"\n", 1)[0] + b"\n" + text)
    assert evaluation.run(folder) == evaluation.summary
    assert len(evaluation.asked) == 6


def test_a_line_that_a_kill_cut_off_is_nothing_to_keep(evaluation, tmp_path, caplog):
    folder = damaged_copy(evaluation, tmp_path / "out", evaluation.records[:-30])
    assert evaluation.run(folder) == evaluation.summary
    assert evaluation.asked == ["toy_5"]
    assert not list(folder.glob("*damaged*")) and "damaged" not in caplog.text


def test_lines_without_digests_are_taken_and_written_anew(evaluation, tmp_path, caplog):
    folder = damaged_copy(evaluation, tmp_path / "out", b"")
    write_lines(folder / "records.jsonl", read_lines(evaluation.whole / "records.jsonl"))
    assert len(read_records(folder)) == 6
    assert caplog.text.count("its lines have no digests") == 1
    caplog.clear()
    assert evaluation.run(folder) == evaluation.summary
    assert evaluation.asked == []
    assert caplog.text.count("its lines have no digests") == 1
    assert '{.., "digest": ..}' in caplog.text
    assert (folder / "records.jsonl").read_bytes() == evaluation.records


def test_readers_leave_out_what_is_damaged_and_say_so(evaluation, tmp_path, caplog):
    data = evaluation.records.replace(b'"toy_2"', b'"toy_9"')
    folder = damaged_copy(evaluation, tmp_path / "out", data)
    assert [one["image_id"] for one in read_records(folder)] == [
        f"toy_{i}" for i in (0, 1, 3, 4, 5)
    ]
    assert "1 lines are damaged and left out (line 4, of 'toy_9'" in caplog.text
    assert (folder / "records.jsonl").read_bytes() == data


def test_text_that_no_file_can_hold_is_written_and_read(tmp_path):
    """A file name that is no UTF-8, in the text of an error."""
    folder = RecordFolder(tmp_path, {"config": "a"})
    record = {"image_id": "a", "status": "exception", "error": "caf\udce9.png: gone"}
    folder.append(0, record)
    folder.close()
    assert folder.read() == {"a": record}
    folder.rewrite([record])
    assert folder.read() == {"a": record}
    assert (tmp_path / "records.jsonl").read_bytes().decode("utf-8").count("\\udce9") == 1

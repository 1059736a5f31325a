"""Records, resuming, statuses and the summary of the evaluator.

It is over 400 lines: what an evaluation may meet shares one toy run.
"""

import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy import register_toy_dataset, write_toy_dataset

from detecture.config import make_config
from detecture.data import KHint, load_ground_truth, load_registered
from detecture.engine import evaluate as run_evaluation
from detecture.engine import load_model
from detecture.errors import EvaluationError
from detecture.evaluation import GuardedModel, TextureSegEvaluator
from detecture.evaluation.guard import run_each
from detecture.evaluation.recorded import label_map_path
from detecture.evaluation.records import RecordFolder, read_records
from detecture.evaluation.summary import bootstrap_intervals

PAIR = KHint("regime", 2)


@pytest.fixture
def dataset(tmp_path):
    json_file = write_toy_dataset(tmp_path / "toy")
    return register_toy_dataset(json_file)


def config(*overrides):
    return make_config(None, ["TEST.BOOTSTRAP_SAMPLES", "50", *overrides])


def perfect(record, extra_empty=0):
    masks = load_ground_truth(record, 10**6).masks
    planes = [torch.from_numpy(np.where(m, 5.0, -5.0)) for m in masks]
    planes += [torch.full(masks.shape[1:], -9.0, dtype=torch.float64)] * extra_empty
    dustbin = torch.zeros(masks.shape[1:], dtype=torch.float64)
    return {
        "sem_seg": torch.stack([*planes, dustbin]),
        "descriptions": ["x"] * len(planes),
        "status": "ok",
    }


def sample(record, hint=PAIR):
    return {"image_id": record["image_id"], "file_name": record["file_name"], "k_hint": hint}


def evaluate(dataset, folder, outputs, cfg=None, hint=PAIR, resume=True):
    """Feed `outputs` (image id -> output) to an evaluator; returns (results, summary)."""
    evaluator = TextureSegEvaluator(cfg or config(), dataset, folder, resume=resume)
    evaluator.reset()
    for record in load_registered(dataset):
        if record["image_id"] in outputs and record["image_id"] not in evaluator.finished_ids:
            evaluator.process([sample(record, hint)], [outputs[record["image_id"]]])
    return evaluator.evaluate(), json.loads((folder / "summary.json").read_text())


def records_of(folder):
    lines = (folder / "records.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def all_perfect(dataset):
    return {r["image_id"]: perfect(r) for r in load_registered(dataset)}


def test_perfect_answers(dataset, tmp_path):
    results, summary = evaluate(dataset, tmp_path / "out", all_perfect(dataset))
    assert results["texture"]["mIoU"] == results["texture"]["ARI"] == 1.0
    for name in ("mIoU", "pIoU", "Dice", "ARI", "K_MAE", "n_total", "n_ok"):
        assert name in summary
    assert (summary["n_total"], summary["n_ok"], summary["K_MAE"]) == (6, 6, 0.0)
    assert summary["ci95"]["mIoU"] == [1.0, 1.0]
    assert summary["headline"] == "mIoU"
    assert [r["image_id"] for r in records_of(tmp_path / "out")] == [f"toy_{i}" for i in range(6)]
    label_map = np.asarray(Image.open(tmp_path / "out/label_maps/toy_0.png"))
    assert set(np.unique(label_map)) == {1, 2}


def test_failures_score_zero_and_keep_their_status(dataset, tmp_path):
    outputs = all_perfect(dataset)
    wrong_size = dict(outputs["toy_1"], sem_seg=torch.zeros(3, 5, 5))
    nan = outputs["toy_2"]["sem_seg"].clone()
    nan[0, 0, 0] = float("nan")
    outputs |= {
        "toy_0": {"status": "exception", "error": "ValueError: boom"},
        "toy_1": wrong_size,
        "toy_2": dict(outputs["toy_2"], sem_seg=nan),
        "toy_3": dict(outputs["toy_3"], descriptions=["only one"]),
        "toy_4": {"status": "image_unreadable", "error": "toy_4.png: truncated"},
    }
    _, summary = evaluate(dataset, tmp_path / "out", outputs)
    by_id = {r["image_id"]: r for r in records_of(tmp_path / "out")}
    assert by_id["toy_0"]["error"] == "ValueError: boom"
    assert "(5, 5)" in by_id["toy_1"]["error"]
    assert "NaN" in by_id["toy_2"]["error"]
    assert "2 descriptions are due, got 1" in by_id["toy_3"]["error"]
    assert [by_id[f"toy_{i}"]["mIoU"] for i in range(6)] == [0, 0, 0, 0, 0, 1]
    assert summary["mIoU"] == pytest.approx(1 / 6)
    assert summary["statuses"] == {
        "exception": 1,
        "image_unreadable": 1,
        "invalid_output": 3,
        "ok": 1,
    }
    assert (summary["n_total"], summary["n_ok"]) == (6, 1)


def test_one_image_has_no_interval(dataset, tmp_path, caplog):
    caplog.set_level("INFO", logger="detecture")
    cfg = config("TEST.LIMIT", "1")
    first = {"toy_0": all_perfect(dataset)["toy_0"]}
    _, summary = evaluate(dataset, tmp_path / "out", first, cfg=cfg)
    assert summary["n_total"] == 1
    assert set(summary["ci95"].values()) == {None}
    assert "mIoU 1.0000 [-], " in caplog.text


def test_unreadable_ground_truth_is_recorded(tmp_path):
    json_file = write_toy_dataset(tmp_path / "toy")
    Image.new("L", (5, 5), 255).save(tmp_path / "toy/textures_mask/toy_0_mask_0.png")
    dataset = register_toy_dataset(json_file)
    outputs = {f"toy_{i}": perfect(load_registered(dataset)[1]) for i in range(2)}
    _, summary = evaluate(dataset, tmp_path / "out", outputs)
    record = records_of(tmp_path / "out")[0]
    assert record["status"] == "ground_truth_unreadable"
    assert "toy_0_mask_0.png" in record["error"]
    assert summary["statuses"] == {"ground_truth_unreadable": 1, "ok": 1}


@pytest.mark.parametrize("extra", [1, 3])
def test_more_regions_than_hinted_are_charged(dataset, tmp_path, extra):
    outputs = {r["image_id"]: perfect(r, extra) for r in load_registered(dataset)}
    _, summary = evaluate(dataset, tmp_path / "out", outputs)
    assert summary["mIoU"] == summary["pIoU"] == pytest.approx(2 / (2 + extra))
    assert summary["statuses"] == {"count_violated": 6}
    assert summary["K_MAE"] == extra


def test_fewer_regions_than_hinted_are_charged(dataset, tmp_path):
    outputs = {}
    for record in load_registered(dataset):
        full = perfect(record)
        outputs[record["image_id"]] = {
            "sem_seg": full["sem_seg"][[0, 2]],
            "descriptions": ["x"],
            "status": "ok",
        }
    _, summary = evaluate(dataset, tmp_path / "out", outputs)
    assert summary["mIoU"] == pytest.approx(0.5)
    assert summary["statuses"] == {"count_violated": 6}


def test_without_a_hint_the_matched_mean_stays_and_the_panoptic_is_the_headline(dataset, tmp_path):
    outputs = {r["image_id"]: perfect(r, 2) for r in load_registered(dataset)}
    _, summary = evaluate(dataset, tmp_path / "out", outputs, hint=KHint())
    assert (summary["mIoU"], summary["pIoU"]) == (1.0, pytest.approx(0.5))
    assert summary["headline"] == "pIoU"
    assert summary["k_knowledge"] == "none"


def test_oracle_records_are_marked(dataset, tmp_path):
    cfg = config("TEST.ORACLE", "True")
    _, summary = evaluate(dataset, tmp_path / "out", all_perfect(dataset), cfg)
    assert summary["oracle"] is True
    assert all(record["oracle"] for record in records_of(tmp_path / "out"))


def test_resume_keeps_finished_samples_and_gives_the_same_summary(dataset, tmp_path):
    outputs = all_perfect(dataset)
    _, whole = evaluate(dataset, tmp_path / "whole", outputs)
    first = TextureSegEvaluator(config(), dataset, tmp_path / "out")
    first.reset()
    for record in load_registered(dataset)[:3]:
        first.process([sample(record)], [outputs[record["image_id"]]])
    path = tmp_path / "out/records.jsonl"
    with path.open("a") as file:
        file.write('{"image_id": "toy_3", "sta')  # killed in the middle of a line
    first._records.unlock()

    second = TextureSegEvaluator(config(), dataset, tmp_path / "out")
    assert second.finished_ids == {"toy_0", "toy_1", "toy_2"}
    second._records.unlock()
    # An answer that would change the score, were it asked for again.
    outputs |= {f"toy_{i}": perfect(load_registered(dataset)[i], 4) for i in range(3)}
    _, resumed = evaluate(dataset, tmp_path / "out", outputs)
    assert resumed == whole
    assert len(records_of(tmp_path / "out")) == 6


def test_failed_samples_are_tried_again(dataset, tmp_path):
    outputs = all_perfect(dataset)
    evaluate(dataset, tmp_path / "out", outputs | {"toy_2": {"status": "exception", "error": "x"}})
    _, summary = evaluate(dataset, tmp_path / "out", outputs)
    assert summary["n_ok"] == 6


@pytest.mark.parametrize(
    "change",
    [
        ["TEST.DUSTBIN_LOGIT", "0.5"],
        ["MODEL.META_ARCHITECTURE", "Another"],
        ["INPUT.MAX_PIXELS", "1000000"],
    ],
)
def test_a_changed_config_starts_anew_and_keeps_the_old_records(dataset, tmp_path, change):
    evaluate(dataset, tmp_path / "out", all_perfect(dataset))
    evaluator = TextureSegEvaluator(config(*change), dataset, tmp_path / "out")
    assert evaluator.finished_ids == frozenset()
    assert not (tmp_path / "out/summary.json").exists()
    stale = (tmp_path / "out/records.stale-1.jsonl").read_text().splitlines()
    assert len(stale) == 7


def test_changed_weights_and_data_start_anew(tmp_path):
    json_file = write_toy_dataset(tmp_path / "toy")
    dataset = register_toy_dataset(json_file)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    cfg = config("MODEL.WEIGHTS", str(weights))
    evaluate(dataset, tmp_path / "out", all_perfect(dataset), cfg)
    assert len(_finished(cfg, dataset, tmp_path)) == 6
    weights.write_bytes(b"two")
    assert len(_finished(cfg, dataset, tmp_path)) == 0
    evaluate(dataset, tmp_path / "out", all_perfect(dataset), cfg)
    Image.new("RGB", (32, 32)).save(tmp_path / "toy/images/toy_5.png")
    assert len(_finished(cfg, dataset, tmp_path)) == 0


def _finished(cfg, dataset, tmp_path):
    evaluator = TextureSegEvaluator(cfg, dataset, tmp_path / "out")
    evaluator._records.unlock()
    return evaluator.finished_ids


def test_what_cannot_change_a_record_does_not_start_anew(dataset, tmp_path):
    evaluate(dataset, tmp_path / "out", all_perfect(dataset))
    cfg = config("TEST.BOOTSTRAP_SAMPLES", "60", "OUTPUT_DIR", str(tmp_path / "elsewhere"))
    assert len(_finished(cfg, dataset, tmp_path)) == 6


def test_two_runs_in_one_folder_are_refused(dataset, tmp_path):
    first = TextureSegEvaluator(config(), dataset, tmp_path / "out")
    code = (
        "import sys\n"
        "from detecture.evaluation.records import RecordFolder\n"
        "from detecture.errors import EvaluationError\n"
        "from pathlib import Path\n"
        "try: RecordFolder(Path(sys.argv[1]), {}).lock()\n"
        "except EvaluationError as error: sys.exit(f'refused: {error}')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "another run is writing" in done.stderr
    first._records.unlock()
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_a_full_disk_names_the_folder_and_loses_nothing(dataset, tmp_path):
    outputs = all_perfect(dataset)
    evaluator = TextureSegEvaluator(
        config("TEST.SAVE_LABEL_MAPS", "False"), dataset, tmp_path / "out"
    )
    records = load_registered(dataset)
    evaluator.process([sample(records[0])], [outputs["toy_0"]])
    evaluator._records.close()
    evaluator._records._file = Path("/dev/full").open("w")  # noqa: SIM115
    with pytest.raises(EvaluationError, match=r"No space left.*Make room") as caught:
        evaluator.process([sample(records[1])], [outputs["toy_1"]])
    assert str(tmp_path / "out") in str(caught.value)
    evaluator._records._file = None
    evaluator._records.unlock()
    again = TextureSegEvaluator(config("TEST.SAVE_LABEL_MAPS", "False"), dataset, tmp_path / "out")
    assert again.finished_ids == {"toy_0"}


def test_a_full_disk_under_the_label_maps(dataset, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detecture.evaluation.recorded.write_atomic", full)
    evaluator = TextureSegEvaluator(config(), dataset, tmp_path / "out")
    record = load_registered(dataset)[0]
    with pytest.raises(EvaluationError, match=r"toy_0\.png.*No space left"):
        evaluator.process([sample(record)], [perfect(record)])


def test_what_a_kill_left_half_written_is_removed(dataset, tmp_path):
    evaluate(dataset, tmp_path, all_perfect(dataset))
    left = ("label_maps/toy_0.png", "summary.json", "records.jsonl", "records.rank1.jsonl")
    for name in left:
        (tmp_path / f"{name}.tmp-77").write_text("ha")
    users = (tmp_path / "notes.txt.tmp-77", tmp_path / "label_maps/toy_0.png.tmp-mine")
    for path in users:
        path.write_text("mine")
    evaluate(dataset, tmp_path, all_perfect(dataset))
    assert sorted(tmp_path.rglob("*.tmp-*")) == sorted(users)


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="choose another OUTPUT_DIR"):
        RecordFolder(tmp_path / "file/inference", {}).lock()


def test_parts_of_several_processes_are_merged(tmp_path):
    folder = RecordFolder(tmp_path, {"config": "a"})
    folder.lock()
    folder.start([])
    other = RecordFolder(tmp_path, {"config": "a"})
    folder.append(0, {"image_id": "a", "status": "ok"})
    other.append(1, {"image_id": "b", "status": "ok"})
    folder.close()
    other.close()
    assert set(folder.read()) == {"a", "b"}
    folder.start(folder.read().values())
    assert sorted(p.name for p in tmp_path.glob("*.jsonl")) == ["records.jsonl"]
    assert set(folder.read()) == {"a", "b"}


def test_bootstrap_interval_against_the_normal_one():
    values = np.random.default_rng(1).normal(0.8, 0.1, size=400)
    low, high = bootstrap_intervals({"x": values}, 4000)["x"]
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.002)
    assert high == pytest.approx(values.mean() + half, abs=0.002)


class Failing(torch.nn.Module):
    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def forward(self, batch):
        if any(s["image_id"] in self.bad for s in batch):
            raise ValueError("boom")
        return [{"seen": s["image_id"]} for s in batch]


def test_guard_records_failures_image_by_image():
    guarded = GuardedModel(Failing({"b"}), max_failures_in_a_row=3)
    batch = [{"image_id": i, "file_name": f"{i}.png"} for i in "abc"]
    unreadable = {"image_id": "d", "status": "image_unreadable", "error": "d.png: empty"}
    outputs = guarded([*batch[:2], unreadable, batch[2]])
    assert outputs == [
        {"seen": "a"},
        {"status": "exception", "error": "ValueError: boom"},
        {"status": "image_unreadable", "error": "d.png: empty"},
        {"seen": "c"},
    ]


def test_guard_refuses_more_regions_than_pixels():
    """Without running the method on that image."""
    inputs = [
        {"image": torch.zeros(3, 2, side), "file_name": f"{side}.png", "k_hint": KHint("fixed", 9)}
        for side in (4, 5)
    ]
    outputs = GuardedModel(lambda samples: [{"side": s["image"].shape[2]} for s in samples], 9)(
        inputs
    )
    assert outputs[0]["status"] == "exception" and "8 regions are the most" in outputs[0]["error"]
    assert outputs[1] == {"side": 5}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "TypeError: a method must return a list of dicts, got NoneType"),
        ([1], "TypeError: a method must return a list of dicts, got list"),
        ([], "ValueError: 0 outputs for 1 images"),
        ([{}, {}], "ValueError: 2 outputs for 1 images"),
    ],
)
def test_guard_records_what_is_no_output(answer, error):
    class Odd(torch.nn.Module):
        def forward(self, batch):
            return answer

    outputs = GuardedModel(Odd(), 3)([{"image_id": "a", "file_name": "a.png"}])
    assert outputs == [{"status": "exception", "error": error}]


def test_a_status_of_the_methods_own_is_final(dataset, tmp_path):
    outputs = all_perfect(dataset)
    outputs["toy_1"] = {
        "sem_seg": torch.zeros(1, 32, 32),
        "descriptions": [],
        "status": "no_region",
    }
    _, summary = evaluate(dataset, tmp_path / "out", outputs, hint=KHint())
    assert summary["statuses"] == {"no_region": 1, "ok": 5}
    assert summary["mIoU"] == pytest.approx(5 / 6)
    assert len(_finished(config(), dataset, tmp_path)) == 6


@pytest.mark.parametrize("output", [{}, {"sem_seg": None}, {"sem_seg": np.zeros((3, 32, 32))}])
def test_an_output_without_scores_is_recorded(dataset, tmp_path, output):
    _, summary = evaluate(dataset, tmp_path / "out", all_perfect(dataset) | {"toy_0": output})
    assert summary["statuses"] == {"invalid_output": 1, "ok": 5}


def test_when_nothing_could_be_scored_the_run_has_failed(dataset, tmp_path):
    outputs = {f"toy_{i}": {"status": "exception", "error": "boom"} for i in range(6)}
    with pytest.raises(EvaluationError, match=r"none of the 6 images could be scored.*boom"):
        evaluate(dataset, tmp_path / "out", outputs)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["statuses"] == {"exception": 6}


def test_guard_gives_up_on_a_method_that_always_fails():
    guarded = GuardedModel(Failing({"a", "b"}), max_failures_in_a_row=2)
    guarded([{"image_id": "a", "file_name": "a.png"}])
    guarded([{"image_id": "c", "file_name": "c.png"}])
    guarded([{"image_id": "a", "file_name": "a.png"}])
    with pytest.raises(EvaluationError, match=r"2 images in a row.*b\.png.*boom"):
        guarded([{"image_id": "b", "file_name": "b.png"}])


def test_stale_parts_of_all_processes_are_kept(tmp_path):
    old = RecordFolder(tmp_path, {"config": "a"})
    for rank in (0, 1):
        old.append(rank, {"image_id": f"r{rank}", "status": "ok"})
        old.close()
    (tmp_path / "label_maps").mkdir()
    (tmp_path / "summary.json").write_text("{}")
    new = RecordFolder(tmp_path, {"config": "b"})
    new.start([])
    new.rewrite([])
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {
        "records.jsonl",
        "records.stale-1.jsonl",
        "records.rank1.stale-1.jsonl",
        "summary.stale-1.json",
        "label_maps.stale-1",
    }


def test_ids_with_line_separators_and_long_ones(tmp_path):
    folder = RecordFolder(tmp_path, {"config": "a"})
    ids = ["a\u2028b", "c\u0085d", "e" * 300]
    for image_id in ids:
        folder.append(0, {"image_id": image_id, "status": "ok"})
    folder.close()
    assert list(folder.read()) == ids
    assert len(label_map_path(tmp_path, ids[2]).name) < 200
    assert label_map_path(tmp_path, "e" * 300) != label_map_path(tmp_path, "e" * 301)


def test_a_batch_that_fails_is_tried_one_by_one():
    """And what its exception held on to is free by then: it may have been the memory."""
    alive = []

    class Tensor:
        pass

    def model(samples):
        if len(samples) > 1:
            large = Tensor()
            alive.append(weakref.ref(large))
            raise MemoryError("no room for all at once")
        assert alive[0]() is None
        return [{"seen": samples[0]}]

    assert list(run_each(model, [1, 2])) == [{"seen": 1}, {"seen": 2}]
    assert list(run_each(model, [])) == []


def test_ids_and_names_that_are_no_text(tmp_path):
    """JSON may hold halves of surrogate pairs, as of names that are no UTF-8."""
    json_file = write_toy_dataset(tmp_path / "toy", count=3)
    entries = json.loads(json_file.read_text())
    entries[0]["id"] = "b\udcff"
    entries[0]["textures"][0]["description"] = "half \ud83d of a pair"
    entries[1]["image_path"] = "images/gone\udcfe.png"
    entries[2]["image_path"] = "images/\ud800.png"
    json_file.write_text(json.dumps(entries))
    name = register_toy_dataset(json_file)
    cfg = config("MODEL.META_ARCHITECTURE", "HalfSplit", "OUTPUT_DIR", str(tmp_path / "out"))
    cfg.defrost()
    cfg.DATASETS.TEST = (name,)
    found = run_evaluation(cfg, load_model(cfg))["texture"]
    assert (found["n_ok"], found["n_total"]) == (1, 3)
    folder = tmp_path / "out/inference" / name
    first, *others = read_records(folder)
    assert first["image_id"] == "b\\udcff" and label_map_path(folder, "b\\udcff").is_file()
    assert {record["status"] for record in others} == {"image_unreadable"}
    assert all("does not exist" in record["error"] for record in others)
    # Records of ids that came another way are written and read as well.
    records = RecordFolder(tmp_path / "records", {"a": "b"})
    records.start([])
    records.append(0, {"image_id": "c\udcff", "status": "ok"})
    records.close()
    assert list(records.read()) == ["c\udcff"]
    assert label_map_path(tmp_path, "c\udcff") != label_map_path(tmp_path, "c\udcfe")


def test_a_summary_that_no_evaluation_wrote_is_kept(tmp_path):
    (tmp_path / "summary.json").write_text('{"mine": 1}')
    folder = RecordFolder(tmp_path, {"a": "b"})
    folder.start([])
    assert (tmp_path / "summary.stale-1.json").read_text() == '{"mine": 1}'

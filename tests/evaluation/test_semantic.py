"""Figures of semantic segmentation, and the evaluator that makes them."""

import csv
import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from record_files import read_lines as lines_of
from semantic_toy import SIZE, toy_labels, write_semantic_folder

from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.d2.lite import SemSegEvaluator
from detecture.data import build_test_loader, load_registered, register_semantic_folder
from detecture.data.datasets.semantic import register_semantic_dataset
from detecture.data.semantic_truth import NO_CLASS
from detecture.errors import EvaluationError
from detecture.evaluation import SemanticEvaluator
from detecture.evaluation import recorded as module
from detecture.evaluation.confusion import ClassCounts, boundary_counts, pair_counts
from detecture.evaluation.evaluator import LABEL_MAPS_OF
from detecture.evaluation.semantic_summary import SEMANTIC_METRICS, summarize_semantic


@pytest.fixture(autouse=True)
def clean_catalogs(monkeypatch):
    before = set(DatasetCatalog.list())
    # Hashing the whole package takes longer than the rest of an evaluation.
    monkeypatch.setattr(
        module, "evaluation_fingerprint", lambda cfg, data: {"config": cfg.MODEL.META_ARCHITECTURE}
    )
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


# ---- counts ----------------------------------------------------------------------------------

MAPS = st.integers(0, 10**6).map(
    lambda seed: (
        np.random.default_rng(seed).integers(0, 5, (7, 9)),  # 4 is no class
        np.random.default_rng(seed + 1).integers(-1, 4, (7, 9)),
    )
)


@settings(max_examples=30, deadline=None)
@given(MAPS)
def test_pairs_are_those_of_a_plain_count(maps):
    predicted, true = maps
    expected = {}
    for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
        if t != NO_CLASS:
            expected[p, t] = expected.get((p, t), 0) + 1
    found = {(p, t): count for p, t, count in pair_counts(predicted, true, 4).tolist()}
    assert found == expected


def plain_boundary(labels, valid, distance):
    """Pixel by pixel: is there another label within `distance`, or the edge?"""
    near = np.zeros(labels.shape, bool)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            if not valid[y, x]:
                continue
            rows = range(y - distance, y + distance + 1)
            columns = range(x - distance, x + distance + 1)
            around = [(v, u) for v in rows for u in columns]
            inside = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
            other = any(valid[place] and labels[place] != labels[y, x] for place in inside)
            near[y, x] = other or len(inside) < len(around)
    return near


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_boundaries_are_those_of_a_plain_search(seed):
    random = np.random.default_rng(seed)
    true = np.kron(random.integers(-1, 3, (5, 5)), np.ones((11, 17), int))
    predicted = np.roll(np.where(true == NO_CLASS, 1, true), 2, axis=1)
    predicted[random.random(predicted.shape) < 0.001] = 3
    valid = true != NO_CLASS
    distance = round(0.02 * np.hypot(*true.shape))
    assert distance == 2
    of_truth = plain_boundary(true, valid, distance)
    of_prediction = plain_boundary(predicted, valid, distance)
    expected = {}
    for label in range(3):
        gt, pred = of_truth & (true == label), of_prediction & (predicted == label)
        if (gt | pred).any():
            expected[label] = [int((gt & pred).sum()), int(gt.sum()), int(pred.sum())]
    found = {label: counts for label, *counts in boundary_counts(predicted, true, 3).tolist()}
    assert found == expected


def test_a_tiny_image_is_all_boundary():
    labels = np.zeros((1, 1), int)
    assert boundary_counts(labels, labels, 2).tolist() == [[0, 1, 1, 1]]


def test_both_rules_by_hand():
    """Class 0: 6 of 8 pixels are found; 2 are taken for class 1, which is not there."""
    counts = ClassCounts(*(np.array([row]) for row in ([6, 0, 0], [8, 0, 0], [6, 2, 0])))
    assert counts.mean_iou("present").tolist() == [0.75]
    assert counts.mean_iou("present_or_predicted").tolist() == [0.375]
    assert counts.classes("present").tolist() == [1]
    assert counts.classes("present_or_predicted").tolist() == [2]
    assert counts.frequency_weighted_iou().tolist() == [0.75]
    assert counts.pixel_accuracy().tolist() == counts.mean_accuracy().tolist() == [0.75]


def test_nothing_labelled_is_not_defined():
    record = {"image_id": "a", "status": "ok", "mIoU": None, "confusion": [], "boundary": []}
    summary = summarize_semantic([record], 3, "present", 20)
    assert summary["mIoU"] is summary["bIoU"] is summary["image_mIoU"] is None
    assert summary["ci95"]["mIoU"] is None and summary["classes_averaged"] == 0
    json.dumps(summary, allow_nan=False)


# ---- the evaluator ---------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    root = write_semantic_folder(tmp_path / "mine")
    register_semantic_folder(root)
    return root


def config(*words):
    start = ["TEST.BOOTSTRAP_SAMPLES", "50", "DATALOADER.NUM_WORKERS", "0"]
    return make_config(None, [*start, *words])


def perfect(number):
    labels = toy_labels(number).astype(np.int64)
    return {
        "label_map": torch.from_numpy(np.where(labels == 255, 0, labels)),
        "classes": ["red", "green", "blue"],
        "status": "ok",
    }


def all_perfect():
    return {f"toy_{i}": perfect(i) for i in range(4)}


def evaluate(folder, outputs, cfg=None, name="mine", resume=True):
    cfg = cfg or config()
    evaluator = SemanticEvaluator(cfg, name, folder, resume=resume)
    evaluator.reset()
    for (sample,) in build_test_loader(cfg, name, skip_ids=evaluator.finished_ids):
        evaluator.process([sample], [outputs[sample["image_id"]]])
    return evaluator.evaluate(), json.loads((folder / "summary.json").read_text())


def records_of(folder):
    return {record["image_id"]: record for record in lines_of(folder / "records.jsonl")[1:]}


def table_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_labelled_image_has_no_interval(mine, tmp_path, caplog):
    caplog.set_level("INFO", logger="detecture")
    _, summary = evaluate(tmp_path / "out", all_perfect(), config("TEST.LIMIT", "1"))
    assert (summary["n_total"], summary["mIoU"]) == (1, 1.0)
    assert set(summary["ci95"].values()) == {None}
    assert "mIoU 1.0000 [-] over" in caplog.text


def test_perfect_answers(mine, tmp_path):
    results, summary = evaluate(tmp_path / "out", all_perfect())
    for name in ("mIoU", "bIoU", "fwIoU", "mACC", "pACC", "image_mIoU", "mIoU_present"):
        assert results["sem_seg"][name] == summary[name] == 1.0
    assert summary["ci95"]["mIoU"] == [1.0, 1.0]
    assert (summary["n_total"], summary["n_ok"], summary["classes"]) == (4, 4, 3)
    assert set(results["sem_seg"]) == SEMANTIC_METRICS
    label_map = np.asarray(Image.open(tmp_path / "out/label_maps/toy_0.png"))
    assert np.array_equal(label_map, perfect(0)["label_map"] + 1)


def test_nothing_labelled_is_told_instead_of_a_figure(mine, tmp_path, caplog):
    logging.getLogger("detecture").propagate = True
    for number in range(4):
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(mine / f"labels/toy_{number}.png")
    _, summary = evaluate(tmp_path / "out", all_perfect())
    assert summary["mIoU"] is None
    (record,) = [r for r in caplog.records if "NOTHING MEASURED" in r.message]
    assert record.levelname == "WARNING" and str(mine / "labels") in record.message
    assert "hold 0 to 2; 255 is no class" in record.message


def test_every_figure_stands_beside_what_it_depends_on(mine, tmp_path):
    _, summary = evaluate(tmp_path / "out", all_perfect())
    assert summary["miou_rule"] == "present" and summary["vocabulary"] == "full"
    assert summary["templates"] == "single" and summary["synonyms"] == "all"
    assert summary["background"] == "none"
    assert summary["vocabulary_list"] == "the data set's own"
    assert summary["sliding"] == "off, the image is seen as a whole"
    assert (summary["scales"], summary["flips"]) == ("one", "off")
    (row, *_) = table_of(tmp_path / "out/per_class.csv")
    for text in ("miou_rule: present", "vocabulary: full", "templates: single", "background: none"):
        assert text in row["conditions"]


def test_how_images_are_seen_stands_beside_every_figure(mine, tmp_path, caplog):
    logging.getLogger("detecture").propagate = True
    caplog.set_level("INFO", "detecture")
    windows = ["TEST.SLIDING.ENABLED", "True", "TEST.SLIDING.KERNEL", "320"]
    several = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(480,640)"]
    told = {}
    for name, words in {
        "windows": windows,
        "own": [*windows, "TEST.SLIDING.CANVAS", "()", "TEST.SLIDING.OVERLAP", "0.5"],
        "scales": [*windows, *several, "TEST.AUG.FLIP", "False", "TEST.AUG.MAX_SIZE", "900"],
        "flips": [*windows, *several, "TEST.AUG.MIN_SIZES", "(640,)"],
        "whole": several,  # scales are those of windows
    }.items():
        _, summary = evaluate(tmp_path / name, all_perfect(), config(*words))
        told[name] = [summary[key] for key in ("sliding", "scales", "flips")]
        (row, *_) = table_of(tmp_path / name / "per_class.csv")
        assert f"sliding: {told[name][0]}; scales: {told[name][1]}" in row["conditions"]
    ends = "overlap 0.333, weight of the whole image 0.5"
    assert told == {
        "windows": [f"canvas 640 x 640 of at most 4000, kernel 320, {ends}", "one", "off"],
        "own": [
            "canvas of the image's own size of at most 4000, kernel 320, overlap 0.5, weight of "
            "the whole image 0.5",
            *("one", "off"),
        ],
        "scales": [
            f"canvas 640 x 640 of at most 900, kernel 320, {ends}",
            *("shorter sides 480, 640", "off"),
        ],
        "flips": [
            f"canvas 640 x 640 of at most 4000, kernel 320, {ends}",
            *("shorter sides 640", "on"),
        ],
        "whole": ["off, the image is seen as a whole", "one", "on"],
    }
    assert "scales shorter sides 480, 640, flips off; 4 of 4 ok" in caplog.text


def halves(number):
    """Every answer is red and green, half each."""
    labels = np.zeros(SIZE, np.int64)
    labels[:, SIZE[1] // 2 :] = 1
    return perfect(number) | {"label_map": torch.from_numpy(labels)}


def test_figures_are_those_of_detectron2(mine, tmp_path):
    outputs = {f"toy_{i}": halves(i) for i in range(4)}
    results, _ = evaluate(tmp_path / "out", outputs)
    theirs = SemSegEvaluator("mine", distributed=False)
    for record in load_registered("mine"):
        labels = outputs[record["image_id"]]["label_map"]
        scores = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
        theirs.process([record], [{"sem_seg": scores}])
    expected = theirs.evaluate()["sem_seg"]
    for name in ("mIoU", "fwIoU", "mACC", "pACC"):
        assert 100 * results["sem_seg"][name] == pytest.approx(expected[name], abs=1e-9)
    rows = table_of(tmp_path / "out/per_class.csv")
    for row in rows:
        assert 100 * float(row["IoU"]) == pytest.approx(expected[f"IoU-{row['class']}"])
        assert 100 * float(row["accuracy"]) == pytest.approx(expected[f"ACC-{row['class']}"])


def test_scores_without_a_label_map_are_taken(mine, tmp_path):
    outputs = {}
    for i in range(4):
        labels = perfect(i)["label_map"]
        scores = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
        outputs[f"toy_{i}"] = {"sem_seg": scores}
    assert evaluate(tmp_path / "out", outputs)[1]["mIoU"] == 1.0


def test_the_rule_decides_over_classes_that_are_not_there(tmp_path):
    root = write_semantic_folder(tmp_path / "four", names=["red", "green", "blue", "never"])
    register_semantic_folder(root)
    outputs = all_perfect()
    for output in outputs.values():
        output["classes"] = ["red", "green", "blue", "never"]
    outputs["toy_0"]["label_map"][2, 0] = 3
    _, summary = evaluate(tmp_path / "out", outputs, name="four")
    cfg = config("TEST.SEMANTIC.MIOU_RULE", "present_or_predicted")
    _, old = evaluate(tmp_path / "old", outputs, cfg, name="four")
    assert summary["mIoU"] == summary["mIoU_present"] == old["mIoU_present"] > 0.99
    assert old["mIoU"] == summary["mIoU_present_or_predicted"]
    assert old["mIoU"] == pytest.approx(0.75 * summary["mIoU"])
    assert (summary["classes_averaged"], old["classes_averaged"]) == (3, 4)
    assert (summary["miou_rule"], old["miou_rule"]) == ("present", "present_or_predicted")


def test_the_confusion_matrix_is_complete(mine, tmp_path):
    evaluate(tmp_path / "out", {f"toy_{i}": halves(i) for i in range(4)})
    rows = table_of(tmp_path / "out/confusion.csv")
    assert [int(row["pixels"]) for row in rows] == sorted(
        (int(row["pixels"]) for row in rows), reverse=True
    )
    of_truth = {"red": 0, "green": 0, "blue": 0}
    for row in rows:
        of_truth[row["true"]] += int(row["pixels"])
    true = np.stack([toy_labels(i) for i in range(4)])
    assert list(of_truth.values()) == [int((true == label).sum()) for label in range(3)]
    assert all(row["predicted"] != "blue" for row in rows)


def test_failures_count_as_no_class(mine, tmp_path):
    wrong_size = perfect(1) | {"label_map": torch.zeros(5, 5, dtype=torch.int64)}
    outputs = all_perfect() | {
        "toy_0": {"status": "exception", "error": "ValueError: boom"},
        "toy_1": wrong_size,
        "toy_2": perfect(2) | {"label_map": torch.full(SIZE, 3)},
        "toy_3": {"status": "ok"},
    }
    evaluator = SemanticEvaluator(config(), "mine", tmp_path / "out")
    for (sample,) in build_test_loader(config(), "mine"):
        evaluator.process([sample], [outputs[sample["image_id"]]])
    with pytest.raises(EvaluationError, match="none of the 4 images could be scored"):
        evaluator.evaluate()
    found = records_of(tmp_path / "out")
    assert found["toy_0"]["error"] == "ValueError: boom"
    assert "(5, 5) (H,W), (24, 32) is due" in found["toy_1"]["error"]
    assert "reaches from 3 to 3, and 3 classes" in found["toy_2"]["error"]
    assert "neither label_map (H,W) nor sem_seg" in found["toy_3"]["error"]
    assert all(record["mIoU"] == 0.0 and record["pixels"] > 600 for record in found.values())

    outputs["toy_3"] = perfect(3)
    _, summary = evaluate(tmp_path / "other", outputs)
    assert summary["statuses"] == {"exception": 1, "invalid_output": 2, "ok": 1}
    assert summary["pACC"] == pytest.approx(0.25, abs=0.01)
    rows = table_of(tmp_path / "other/confusion.csv")
    assert {row["predicted"] for row in rows} == {"(no class)", "red", "green", "blue"}


def test_unreadable_images_count_and_unreadable_truth_does_not(mine, tmp_path):
    (mine / "images/toy_0.png").unlink()
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(mine / "labels/toy_1.png")
    (mine / "images/toy_0.png").write_bytes(b"no image")
    unreadable = {"status": "image_unreadable", "error": "toy_0.png: is no image"}
    _, summary = evaluate(tmp_path / "out", all_perfect() | {"toy_0": unreadable})
    found = records_of(tmp_path / "out")
    assert found["toy_0"]["mIoU"] == 0.0 and found["toy_0"]["pixels"] > 600
    assert found["toy_1"]["status"] == "ground_truth_unreadable"
    assert "has the labels 9" in found["toy_1"]["error"] and found["toy_1"]["mIoU"] is None
    assert summary["pACC"] == pytest.approx(2 / 3, abs=0.01)
    assert summary["image_mIoU"] == pytest.approx(2 / 3)


def test_resuming_gives_the_same(mine, tmp_path):
    outputs = {f"toy_{i}": halves(i) for i in range(4)}
    _, whole = evaluate(tmp_path / "whole", outputs)
    first = SemanticEvaluator(config(), "mine", tmp_path / "out")
    samples = [sample for (sample,) in build_test_loader(config(), "mine")]
    for sample in samples[:2]:
        first.process([sample], [outputs[sample["image_id"]]])
    first.close()
    with (tmp_path / "out/records.jsonl").open("a") as file:
        file.write('{"image_id": "toy_2", "sta')  # killed in the middle of a line
    outputs |= {"toy_0": perfect(0)}  # would change the score, were it asked for again
    _, resumed = evaluate(tmp_path / "out", outputs)
    assert resumed == whole
    for name in ("per_class.csv", "confusion.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_changed_class_list_starts_anew(tmp_path):
    folders = (write_semantic_folder(tmp_path / "mine"), tmp_path / "mine")
    folders = (folders[0] / "images", folders[0] / "labels")
    register_semantic_dataset("first", *folders, ["red", "green", "blue"])
    register_semantic_dataset("second", *folders, ["red", "green", "azure"])
    evaluate(tmp_path / "out", all_perfect(), name="first")
    evaluator = SemanticEvaluator(config(), "second", tmp_path / "out")
    assert evaluator.finished_ids == frozenset()
    assert not (tmp_path / "out/per_class.csv").exists()
    assert (tmp_path / "out/per_class.stale-1.csv").exists()
    evaluator.close()


def test_damaged_records_are_set_aside(mine, tmp_path):
    evaluate(tmp_path / "out", all_perfect())
    path = tmp_path / "out/records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace('"status": "ok"', '"status": "OK"')
    path.write_text("".join(lines))
    evaluator = SemanticEvaluator(config(), "mine", tmp_path / "out")
    assert evaluator.finished_ids == {"toy_0", "toy_2", "toy_3"}
    evaluator.close()


def test_oracle_answers_count_as_the_classes_that_were_asked_for(tmp_path):
    root = write_semantic_folder(tmp_path / "mine", val=1)
    labels = np.full(SIZE, 2, np.uint8)
    labels[:5] = 0
    Image.fromarray(labels).save(root / "labels/toy_0.png")
    register_semantic_folder(root)
    cfg = config("TEST.SEMANTIC.VOCABULARY", "per_image")
    answer = {"label_map": torch.from_numpy(labels.astype(int) // 2), "classes": ["red", "blue"]}
    _, summary = evaluate(tmp_path / "out", {"toy_0": answer}, cfg)
    assert summary["mIoU"] == 1.0 and summary["classes_averaged"] == 2
    assert summary["vocabulary"] == "oracle, the classes of each image"
    assert records_of(tmp_path / "out")["toy_0"]["oracle"] is True


@pytest.mark.parametrize(
    ("names", "predicted", "told"),
    [
        (["red", "green", "blue"], "(no class)", "no class, and wrong"),
        (["red", "green", {"background": ["blue", "azure"]}], "background", "the class backgro"),
    ],
)
def test_what_is_below_the_threshold_of_background(tmp_path, names, predicted, told):
    register_semantic_folder(write_semantic_folder(tmp_path / "mine", names=names))
    outputs = all_perfect()
    for output in outputs.values():
        output["classes"] = [*output["classes"], "background"]
        output["label_map"][-3:] = 3  # there the truth is class 2
    cfg = config("TEST.SEMANTIC.BACKGROUND_THRESHOLD", "0.5")
    _, summary = evaluate(tmp_path / "out", outputs, cfg)
    assert f"below 0.5 counts as {told}" in summary["background"]
    rows = {(r["true"], r["predicted"]) for r in table_of(tmp_path / "out/confusion.csv")}
    last = "blue" if predicted == "(no class)" else "background"
    assert (last, predicted) in rows
    assert (summary["mIoU"] == 1.0) == (predicted == "background")


def test_labels_are_drawn_beside_the_truth(mine):
    cfg = config("DATASETS.TEST", "('mine',)")
    (sample,) = next(iter(build_test_loader(cfg, "mine")))
    record = load_registered("mine")[0]
    predicted, true = LABEL_MAPS_OF["sem_seg"](cfg, record, sample, perfect(0))
    assert set(np.unique(predicted)) == {1, 2, 3} and set(np.unique(true)) == {0, 1, 2, 3}
    assert np.array_equal(predicted[2:], true[2:])

"""The evaluator of BSDS500's measures: records, bad input, hierarchies, resuming, two processes."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.io import savemat
from segmentations_toy import SIZE, register_toy_set, strips, write_toy_set

from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY, launch
from detecture.data import KHint, load_registered, register_segmentations
from detecture.engine import evaluate as run_evaluation
from detecture.engine import load_model
from detecture.engine.validation import _less_is_better
from detecture.errors import ConfigError, DetectureError, EvaluationError
from detecture.evaluation import RegionEvaluator
from detecture.evaluation.evaluator import LABEL_MAPS_OF
from detecture.evaluation.label_map import InvalidOutput
from detecture.evaluation.regions import check_cuts
from detecture.evaluation.regions_summary import REGION_METRICS, unsummarizable

TRUTHS = {
    "a": [strips(1), strips(2), strips(4)],
    "b": [strips(2) * 100, strips(2)],
    "c": [strips(3)],
}


@pytest.fixture
def dataset(tmp_path):
    return register_toy_set(write_toy_set(tmp_path / "toy", TRUTHS))


def config(*overrides):
    return make_config(None, ["TEST.BOOTSTRAP_SAMPLES", "50", *overrides])


def answer(labels, **more):
    """The standard output whose label map has the regions of `labels`, (H,W) from 1."""
    scores = torch.from_numpy(np.stack([labels == i for i in range(1, labels.max() + 1)])).float()
    dustbin = torch.zeros(1, *labels.shape) + 0.5
    texts = ["x"] * len(scores)
    return {"sem_seg": torch.cat([scores, dustbin]), "descriptions": texts, "status": "ok", **more}


def evaluate(dataset, folder, outputs, cfg=None):
    """Feed `outputs` (image id -> output) to an evaluator; returns (results, summary, records)."""
    evaluator = RegionEvaluator(cfg or config(), dataset, folder)
    evaluator.reset()
    for record in load_registered(dataset):
        if record["image_id"] in outputs and record["image_id"] not in evaluator.finished_ids:
            sample = {**record, "k_hint": KHint()}
            evaluator.process([sample], [outputs[record["image_id"]]])
    results = evaluator.evaluate()
    lines = (folder / "records.jsonl").read_text().splitlines()[1:]
    records = {record["image_id"]: record for record in map(json.loads, lines)}
    return results, json.loads((folder / "summary.json").read_text()), records


def test_figures_of_both_ways_and_of_people(dataset, tmp_path):
    pieces = strips(2)
    pieces[:, 8:16] = 2
    pieces[:, 16:24] = 1  # 1 2 1 2: two regions in four pieces
    outputs = {"a": answer(strips(2)), "b": answer(strips(1)), "c": answer(pieces)}
    results, summary, records = evaluate(dataset, tmp_path / "out", outputs)
    a, b, c = (records[name] for name in "abc")
    assert a["covering"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert a["VI"] == pytest.approx((1 + 0 + 1) / 3)
    assert (b["covering"], b["VI"]) == (0.5, 1)
    assert (c["regions"], c["regions_parts"]) == (2, 4)
    assert c["VI"] > c["VI_parts"] and c["covering"] < c["covering_parts"]
    assert [r["annotators"] for r in (a, b, c)] == [3, 2, 1]
    # a: one, two and four strips; b: two equal ones; c: one person.
    assert a["human"]["VI"] == pytest.approx((1 + 1 + 2) / 3)
    assert a["human"]["covering"] == pytest.approx((0.5 + 0.5 + 0.25) * 2 / 6)
    assert a["human"]["regions"] == pytest.approx(7 / 3)
    assert b["human"] == {"covering": 1, "PRI": 1, "VI": 0, "regions": 2}
    assert c["human"] is None
    for name in ("covering", "PRI", "VI", "regions", "covering_parts", "VI_parts"):
        assert summary[name] == pytest.approx(np.mean([r[name] for r in (a, b, c)]))
        low, high = summary["ci95"][name]
        assert low <= summary[name] <= high
    assert summary["human"]["images"] == 2
    assert summary["human"]["VI"] == pytest.approx((4 / 3 + 0) / 2)
    assert summary["human"]["ci95"]["VI"][1] <= 4 / 3
    assert results["regions"]["covering"] == summary["covering"]
    assert "human" not in results["regions"] and "ODS_scales" not in summary
    assert (summary["headline"], summary["k_knowledge"]) == ("covering", "none")
    assert (tmp_path / "out/label_maps/a.png").is_file()


def test_pixels_of_no_texture_are_a_region(dataset, tmp_path):
    output = answer(strips(1))
    output["sem_seg"][0, :, 16:] = 0  # the dustbin
    _, _, records = evaluate(dataset, tmp_path / "out", {"b": output})
    assert (records["b"]["covering"], records["b"]["regions"]) == (1, 2)


def test_failures_are_charged_in_all_measures(dataset, tmp_path):
    outputs = {
        "a": answer(strips(2)[:, :5]),
        "b": {"status": "exception", "error": "ValueError: boom"},
        "c": answer(strips(3)),
    }
    _, summary, records = evaluate(dataset, tmp_path / "out", outputs)
    assert [records[i]["status"] for i in "abc"] == ["invalid_output", "exception", "ok"]
    assert "boom" in records["b"]["error"]
    worst = np.log2(SIZE[0] * SIZE[1])
    for name in "ab":
        assert (records[name]["covering"], records[name]["PRI_parts"]) == (0, 0)
        assert records[name]["VI"] == records[name]["VI_parts"] == pytest.approx(worst)
    assert summary["VI"] == pytest.approx(2 * worst / 3)
    assert summary["human"]["images"] == 2  # people are not the method's affair


def test_an_image_that_cannot_be_read_is_charged_too(tmp_path):
    root = write_toy_set(tmp_path / "toy", TRUTHS)
    (root / "images/test/a.jpg").write_bytes(b"none")
    outputs = {"a": {"status": "image_unreadable", "error": "a.jpg"}, "b": answer(strips(2))}
    _, summary, records = evaluate(register_toy_set(root), tmp_path / "out", outputs)
    assert (records["a"]["status"], records["a"]["covering"]) == ("image_unreadable", 0)
    assert summary["covering"] == 0.5
    # Two images have figures; one alone has no interval, of the method or of people.
    (root / "groundTruth/test/a.mat").unlink()
    _, summary, _ = evaluate(register_toy_set(root), tmp_path / "one", outputs)
    assert (summary["n_measured"], summary["human"]["images"]) == (1, 1)
    assert set(summary["ci95"].values()) == set(summary["human"]["ci95"].values()) == {None}


def damage(kind, path):
    if kind == "missing":
        path.unlink()
    elif kind == "damaged":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "nobody":
        savemat(path, {"groundTruth": np.empty((1, 0), object)})
    elif kind == "other":
        savemat(path, {"LabelMap": strips(2)})
    else:
        labels = strips(2, (10, 32)) if kind == "size" else strips(2) + 0.5
        cells = np.empty((1, 2), object)
        cells[0, 0], cells[0, 1] = {"Segmentation": strips(2)}, {"Segmentation": labels}
        savemat(path, {"groundTruth": cells})


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing", r"a\.mat: does not exist"),
        ("damaged", r"a\.mat: cannot be read as a Matlab file"),
        ("nobody", r"a\.mat: has the regions of nobody"),
        ("other", r"a\.mat: holds no variable"),
        ("size", r"a\.mat: map 2 is 10 x 32 pixels, .*a\.jpg is 24 x 32"),
        ("fractions", r"a\.mat: map 2 has numbers that are not whole"),
    ],
)
def test_regions_that_cannot_be_read(tmp_path, kind, text):
    root = write_toy_set(tmp_path / "toy", TRUTHS)
    damage(kind, root / "groundTruth/test/a.mat")
    outputs = {"a": answer(strips(2)), "b": answer(strips(2))}
    _, summary, records = evaluate(register_toy_set(root), tmp_path / "out", outputs)
    assert records["a"]["status"] == "ground_truth_unreadable"
    assert records["a"]["covering"] is records["a"]["VI"] is records["a"]["human"] is None
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(records["a"]["error"])
    assert (summary["covering"], summary["n_measured"], summary["n_total"]) == (1, 1, 2)


def test_where_nothing_can_be_read_the_run_has_failed(tmp_path):
    root = write_toy_set(tmp_path / "toy", {"a": TRUTHS["a"]})
    damage("damaged", root / "groundTruth/test/a.mat")
    with pytest.raises(EvaluationError, match=r"none of the 1 images could be scored.*a\.mat"):
        evaluate(register_toy_set(root), tmp_path / "out", {"a": answer(strips(2))})


def test_resuming_gives_the_same(dataset, tmp_path):
    outputs = {name: answer(strips(2), cuts=cuts(1, 2, 4)) for name in "abc"}
    _, whole, _ = evaluate(dataset, tmp_path / "whole", outputs)
    first = RegionEvaluator(config(), dataset, tmp_path / "out")
    record = load_registered(dataset)[0]
    first.process([{**record, "k_hint": KHint()}], [outputs["a"]])
    with (tmp_path / "out/records.jsonl").open("a") as file:
        file.write('{"image_id": "b", "sta')  # killed in the middle of a line
    first.close()
    again = RegionEvaluator(config(), dataset, tmp_path / "out")
    assert again.finished_ids == {"a"}
    again.close()
    # An answer that would change the figures, were it asked for again.
    _, resumed, _ = evaluate(dataset, tmp_path / "out", outputs | {"a": answer(strips(4))})
    assert resumed == whole and "covering_ODS" in whole


def test_changed_regions_start_anew(tmp_path):
    root = write_toy_set(tmp_path / "toy", TRUTHS)
    dataset = register_toy_set(root)
    evaluate(dataset, tmp_path / "out", {name: answer(strips(2)) for name in "abc"})
    shutil.copy(root / "groundTruth/test/a.mat", root / "groundTruth/test/b.mat")
    evaluator = RegionEvaluator(config(), dataset, tmp_path / "out")
    evaluator.close()
    assert evaluator.finished_ids == frozenset()


@pytest.mark.parametrize(
    "change",
    [
        {"covering": 1.5},
        {"PRI": None},
        {"VI": -1.0},
        {"VI_parts": float("nan")},
        {"regions": "2"},
        {"covering": None},
        {"human": {"covering": 1.0}},
        {"human": 3},
        {"cuts": []},
        {"cuts": [{"covering": 1.0}]},
        {"cuts": [{"scale": 1.0, "covering": 1.0}]},
        {"k_hint": None},
    ],
)
def test_records_that_no_summary_can_be_made_of(dataset, tmp_path, change):
    *_, records = evaluate(dataset, tmp_path / "out", {"a": answer(strips(2), cuts=cuts(1, 2))})
    assert unsummarizable(records["a"]) == ""
    assert unsummarizable({**records["a"], **change})


# ---- hierarchies -----------------------------------------------------------------------------


def cuts(*counts):
    """A hierarchy of strips; its scales are the numbers of regions."""
    return [(float(count), torch.from_numpy(strips(count).astype(np.int32))) for count in counts]


def test_ods_and_ois(dataset, tmp_path):
    outputs = {name: answer(strips(1), cuts=cuts(1, 2, 3, 4)) for name in "abc"}
    results, summary, records = evaluate(dataset, tmp_path / "out", outputs)
    for record in records.values():
        assert [cut["scale"] for cut in record["cuts"]] == [1, 2, 3, 4]
        assert [cut["regions"] for cut in record["cuts"]] == [1, 2, 3, 4]
    for name in ("covering", "PRI", "VI", "covering_parts", "PRI_parts", "VI_parts"):
        table = np.array([[cut[name] for cut in records[i]["cuts"]] for i in "abc"])
        least = name.startswith("VI")
        means, best = table.mean(axis=0), np.min if least else np.max
        assert summary[f"{name}_ODS"] == pytest.approx(best(means))
        assert summary[f"{name}_OIS"] == pytest.approx(best(table, axis=1).mean())
        at = np.argmin(means) if least else np.argmax(means)
        assert summary["ODS_scales"][name] == at + 1
        assert [row[name] for row in summary["by_scale"]] == pytest.approx(list(means))
        assert f"{name}_ODS" in summary["ci95"] and f"{name}_OIS" in summary["ci95"]
    # The automatic answer is what it is without.
    assert records["b"]["covering"] == 0.5 and summary["VI"] > summary["VI_ODS"]
    assert summary["VI_OIS"] < summary["VI_ODS"]
    assert results["regions"]["covering_ODS"] == summary["covering_ODS"]


def test_a_failure_counts_at_every_scale(dataset, tmp_path):
    outputs = {name: answer(strips(1), cuts=cuts(1, 2)) for name in "ab"}
    outputs["c"] = {"status": "exception", "error": "boom"}
    _, summary, records = evaluate(dataset, tmp_path / "out", outputs)
    found = [max(cut["covering"] for cut in records[name]["cuts"]) for name in "ab"]
    assert summary["covering_OIS"] == pytest.approx(sum(found) / 3)
    assert summary["VI_OIS"] > np.log2(SIZE[0] * SIZE[1]) / 3


@pytest.mark.parametrize(
    ("more", "text"),
    [({}, "1 of 3 answers have none"), ({"cuts": cuts(1, 3)}, "their scales differ")],
)
def test_hierarchies_that_do_not_go_together(dataset, tmp_path, more, text):
    outputs = {name: answer(strips(1), cuts=cuts(1, 2)) for name in "ab"}
    _, summary, _ = evaluate(dataset, tmp_path / "out", outputs | {"c": answer(strips(3), **more)})
    assert "covering_ODS" not in summary and text in summary["no_ODS"]


def test_scales_may_fall_and_regions_need_not_lie_within_others():
    labels = [strips(count).astype(np.int64) for count in (1, 3, 4)]
    found = check_cuts([(0.9, labels[0]), (0.5, labels[1]), (0, labels[2])], SIZE)
    assert [cut.scale for cut in found] == [0.9, 0.5, 0]


LABELS = strips(2).astype(np.int32)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "must be a list of 1 to 1000"),
        ([], "must be a list of 1 to 1000"),
        ([LABELS], r"cuts\[0\] must be \(scale, labels\)"),
        ([(1, LABELS, 2)], r"cuts\[0\] must be \(scale, labels\)"),
        ([("1", LABELS)], "the scale must be a finite number"),
        ([(True, LABELS)], "the scale must be a finite number"),
        ([(float("nan"), LABELS)], "the scale must be a finite number"),
        ([(1, LABELS.tolist())], "whole numbers, got list"),
        ([(1, LABELS * 1.0)], "whole numbers, got float64"),
        ([(1, LABELS > 1)], "whole numbers, got bool"),
        ([(1, torch.zeros(SIZE))], "whole numbers, got float32"),
        ([(1, LABELS[:, :5])], r"\(24, 5\), \(24, 32\) \(H,W\) is due"),
        ([(1, LABELS[None])], r"\(H,W\) is due"),
        ([(1, LABELS - 2)], "0 or more, the least is -1"),
        ([(1, LABELS), (1, LABELS)], "rise from each to the next"),
        ([(1, LABELS), (3, LABELS), (2, LABELS)], "rise from each to the next"),
        ([(1, LABELS), (2, LABELS * 0)], "coarse to fine; cut 0 has 2 regions, the next one 1"),
        ([(i, LABELS) for i in range(1001)], "must be a list of 1 to 1000"),
    ],
)
def test_what_are_no_cuts(dataset, tmp_path, given, text):
    with pytest.raises(InvalidOutput, match=text):
        check_cuts(given, SIZE)
    outputs = {"a": answer(strips(2), cuts=given), "b": answer(strips(2))}
    _, _, records = evaluate(dataset, tmp_path / "out", outputs)
    assert (records["a"]["status"], records["a"]["covering"]) == ("invalid_output", 0)
    assert "cuts" not in records["a"]


# ---- as commands run it ----------------------------------------------------------------------


@META_ARCH_REGISTRY.register()
class ToyHierarchy(torch.nn.Module):
    """Answers two strips, with a hierarchy of one to four."""

    def __init__(self, cfg):
        super().__init__()

    def forward(self, batched_inputs):
        assert all(sample["k_hint"] == KHint() for sample in batched_inputs)
        sizes = [(sample["height"], sample["width"]) for sample in batched_inputs]
        return [
            answer(strips(2, size), cuts=[(k, strips(k, size)) for k in (1, 2, 4)])
            for size in sizes
        ]


def whole_run(dataset, output, *overrides):
    model = ("MODEL.META_ARCHITECTURE", "ToyHierarchy", "MODEL.DEVICE", "cpu")
    data = ("DATASETS.TEST", repr((dataset,)), "OUTPUT_DIR", str(output))
    cfg = config(*model, *data, "DATALOADER.NUM_WORKERS", "0", *overrides)
    results = run_evaluation(cfg, load_model(cfg))
    path = output / "inference" / dataset / "summary.json"
    return results, json.loads(path.read_text())


def test_a_whole_run(dataset, tmp_path):
    results, summary = whole_run(dataset, tmp_path / "out")
    assert results["regions"]["n_ok"] == 3
    assert summary["ODS_scales"]["VI"] == 2
    assert summary["images"] == "3 images"
    _, limited = whole_run(dataset, tmp_path / "limited", "TEST.LIMIT", "1")
    assert limited["n_total"] == 1


def test_a_part_of_the_published_set_is_told(tmp_path):
    root = write_toy_set(tmp_path / "toy", TRUTHS)
    dataset = register_toy_set(root, published_images=200)
    _, summary = whole_run(dataset, tmp_path / "out")
    assert summary["images"].startswith("3 of the 200 images of the published set")
    assert "not comparable" in summary["images"]


@pytest.mark.parametrize(
    "overrides", [("TEST.COUNT", "per_image"), ("TEST.COUNT", "ground_truth_top_k")]
)
def test_a_number_that_people_do_not_agree_on_is_refused(dataset, tmp_path, overrides):
    with pytest.raises(ConfigError, match=r"TEST\.COUNT .*as many true numbers"):
        whole_run(dataset, tmp_path / "out", *overrides)


def test_an_oracle_is_refused(dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"TEST\.ORACLE True"):
        whole_run(dataset, tmp_path / "out", "TEST.ORACLE", "True")


def test_what_is_drawn_beside_the_truth(dataset):
    record = load_registered(dataset)[0]
    sample = {"height": SIZE[0], "width": SIZE[1]}
    found, true = LABEL_MAPS_OF["regions"](config(), record, sample, answer(strips(2)))
    assert (found == strips(2)).all() and (true == strips(1)).all()
    with pytest.raises(DetectureError):
        LABEL_MAPS_OF["regions"](config(), record, sample, {})


def test_of_vi_the_least_is_the_best_checkpoint():
    names = {f"regions/{name}": name.startswith("VI") for name in REGION_METRICS}
    assert {name: _less_is_better(name) for name in names} == names


@pytest.mark.slow
def test_two_processes_give_the_same(tmp_path):
    if torch.accelerator.is_available():
        pytest.skip("two CPU processes: hide the accelerators to run this")
    root = write_toy_set(tmp_path / "toy", TRUTHS)
    register_segmentations("regions_of_two", root, "test")
    _, one = whole_run("regions_of_two", tmp_path / "one")
    launch(in_two, 2, dist_url="auto", args=(root, tmp_path / "two"))
    path = tmp_path / "two/inference/regions_of_two/summary.json"
    assert json.loads(path.read_text()) == one


def in_two(root, output):
    register_segmentations("regions_of_two", root, "test")
    whole_run("regions_of_two", output)

"""`tools/benchmark_speed.py`: both sides run, agree and are reported stage by stage."""

import json
from pathlib import Path

import pytest
import torch
from scripts import load_script

from detecture.config import make_config
from detecture.data.k_hint import KHint
from detecture.errors import ConfigError
from detecture.evaluation import scores_to_label_map
from detecture.modeling.build import build_model
from detecture.profiling import inference
from detecture.profiling.clock import StageClock, summarize
from detecture.profiling.workload import fixed_answer, forced_answers, pad_prompt, samples

REPO = Path(__file__).parents[2]
CLUSTERS = REPO / "configs/baselines/texture_clusters.yaml"
TINY = str(REPO / "configs/detecture_tiny.yaml")
SMALL = ["--config-file", TINY, "--repeats", "1", "--regions", "2", "--tokens-per-region", "16"]
FROZEN = ["MODEL.VLM.TRAIN", "lora", "MODEL.SEGMENTER.TRAIN", "False"]
PLAIN = [
    *("MODEL.REFINEMENT.STEPS", "0", "MODEL.BRIDGE.DECODING", "multiplexed"),
    *("LOSS.GROUPING_WEIGHT", "0.0", "MODEL.DEVICE", "cpu"),
]


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/benchmark_speed.py")


@pytest.fixture(scope="module")
def model():
    return build_model(make_config(TINY, PLAIN)).eval()


def run(tool, capsys, *arguments):
    assert tool.main([*arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_inference(tool, capsys):
    more = ["--batch-sizes", "2", "--no-predict", *PLAIN]
    result = run(tool, capsys, "--task", "inference", *SMALL, *more)
    assert {"commit", "device", "torch", "transformers", "runs"} <= set(result)
    assert [r["batch_size"] for r in result["runs"]] == [2]
    for one in result["runs"]:
        for side in ("ours", "published"):
            assert set(one[side]) == {*inference.STAGES, "decode_per_token", "total"}
            for row in one[side].values():
                assert row["p95_ms"] >= row["p50_ms"] > 0
                assert row["peak_mib"] >= 0
        assert one["decode_steps"] == 2 * 16
        assert one["largest_state_difference"] < 1e-3
        assert set(one["ratio_p50"]) == set(one["ours"])


@pytest.mark.slow
def test_training(tool, capsys):
    more = ["--batch-sizes", "1", "--no-predict", *PLAIN, *FROZEN]
    result = run(tool, capsys, "--task", "train", *SMALL, *more)
    first, second = result["runs"]
    assert set(first["losses"]["ours"]) == {"loss_ce", "loss_dice"}
    assert set(second["losses"]["ours"]) == {"loss_ce", "loss_dice", "loss_lm"}
    for side in ("ours", "published", "published_frozen_tables"):
        assert set(first[side]) == {"forward", "backward", "update", "total"}
    assert "published_frozen_tables" not in second
    assert second["ratio_p50"]["total"] > 0


def test_without_the_published_side(tool, capsys):
    more = ["--batch-sizes", "1", "--no-predict", "--no-published", *PLAIN]
    (one,) = run(tool, capsys, "--task", "inference", *SMALL, *more)["runs"]
    assert "published" not in one
    assert "ratio_p50" not in one


def test_additions_are_not_compared(tool, capsys):
    assert tool.main(["--task", "inference", *SMALL, "--no-predict"]) == 2
    assert "set MODEL.REFINEMENT.STEPS 0" in capsys.readouterr().err


def test_evaluation_still_runs(tool, capsys):
    result = run(tool, capsys, "--task", "evaluation", "--size", "64", "--repeats", "2")
    assert result["ratio_p50"] > 0


def test_prediction(tool, capsys):
    words = ["--task", "prediction", "--size", "48", "--regions", "2", "--repeats", "2"]
    words += ["--threads", "1", "--config-file", str(CLUSTERS)]
    assert tool.main(words) == 0
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)["prediction"]
    assert (row["size"], row["threads"]) == (48, 1)
    assert 0 < row["known"]["p50_ms"] <= row["known"]["p95_ms"]
    assert row["unknown"]["p50_ms"] > 0 and row["peak_mib"] > 50
    assert "48x48, 1 threads: K known: p50" in captured.err


def test_stages_dtype_and_device_of_the_model_that_ships(tool, capsys):
    words = ["--task", "prediction", "--size", "48", "--regions", "2", "--repeats", "1"]
    result = run(tool, capsys, "MODEL.DEVICE", "cpu", *words, "--threads", "1")
    (row,) = result["prediction"]
    assert row["dtype"].keys() >= {"net", "describer"} and set(row["dtype"].values()) == {"float32"}
    for key in ("known", "unknown"):
        stages = row[key]["stages"]
        assert list(stages) == ["encode", "segment", "describe"]
        assert sum(stage["p50_ms"] for stage in stages.values()) == pytest.approx(
            row[key]["p50_ms"]
        )


@pytest.mark.parametrize(
    ("words", "device"),
    [
        (["--task", "evaluation", "--size", "32", "--repeats", "1"], "cpu"),
        (["--task", "semantic", "MODEL.DEVICE", "meta"], "meta"),
    ],
)
def test_the_device_is_that_of_the_config(tool, capsys, monkeypatch, words, device):
    monkeypatch.setattr(tool, "benchmark_semantic", lambda args: {})
    monkeypatch.setattr("detecture.device.available_device_type", lambda: "mps")
    assert run(tool, capsys, *words)["device"] == device


def test_more_threads_than_cores_are_refused(tool, capsys):
    assert tool.main(["--task", "prediction", "--threads", "100000"]) == 2
    assert "--threads 100000: this machine has" in capsys.readouterr().err


def test_odd_numbers_are_refused(tool):
    for arguments in (
        ["--task", "inference", "--regions", "0"],
        ["--task", "evaluation", "--regions", "2", "6"],
    ):
        with pytest.raises(SystemExit):
            tool.main(arguments)


def test_another_method_is_refused(tool, capsys):
    floor = str(REPO / "configs/baselines/floor_half_split.yaml")
    assert tool.main(["--task", "inference", "--config-file", floor]) == 2
    assert "proportional.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_sides_that_differ_are_no_comparison(model, monkeypatch):
    extract = inference.PublishedPass._extract
    monkeypatch.setattr(
        inference.PublishedPass, "_extract", lambda *a: extract(*a) + torch.tensor(0.01)
    )
    with pytest.raises(inference.VoidComparison, match=r"region states differ by 0\.01"):
        inference.benchmark_inference(
            model,
            batch_size=1,
            regions=1,
            tokens_per_region=16,
            repeats=1,
            published=True,
            size=64,
        )


def test_ours_is_what_the_model_predicts(model):
    batch = samples(model, 2, 3, 16, 96)
    outcome = inference.Ours(model, batch).run()
    asked = [{k: v for k, v in s.items() if k != "descriptions"} for s in batch.samples]
    for sample in asked:
        sample["k_hint"] = KHint("fixed", 3)
    with forced_answers(model.vlm, batch.answers, lambda: None):
        outputs = model(asked)
    for output, labels in zip(outputs, outcome.label_maps, strict=True):
        assert len(output["descriptions"]) == 3
        assert (scores_to_label_map(output["sem_seg"]) == labels).all()


def test_answers_have_the_length_asked_for(model):
    ids = fixed_answer(model.vlm, 3, 20)
    assert len(ids) == 61
    assert ids.count(model.vlm.chat.seg_id) == 3
    with pytest.raises(ConfigError, match="too few"):
        fixed_answer(model.vlm, 1, 3)
    with pytest.raises(ConfigError, match="MAX_NEW_TOKENS"):
        fixed_answer(model.vlm, 6, 100)


def test_prompts_are_filled_up():
    vlm = build_model(make_config(TINY, ["MODEL.DEVICE", "cpu"])).vlm
    assert 290 <= pad_prompt(vlm, 300) <= 300
    assert pad_prompt(vlm, 10) > 10  # never cut


def test_the_clock_adds_up_and_sees_memory():
    clock = StageClock(torch.device("cpu"), memory=True)
    clock.enter("small")
    clock.enter("large")
    kept = torch.ones(64, 2**20 // 4)
    clock.enter("small")
    clock.leave()
    assert list(clock.seconds) == ["small", "large"]
    rows = summarize([clock], clock)
    assert rows["total"]["p50_ms"] == pytest.approx(sum(clock.seconds.values()) * 1e3)
    assert rows["large"]["peak_mib"] >= 60 * kept[0, 0]
    assert rows["small"]["peak_mib"] < 30

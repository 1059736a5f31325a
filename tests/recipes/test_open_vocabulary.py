"""The recipe of the small AHSSeg."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from detecture.recipes.open_vocabulary import open_vocabulary_stages

REPO = Path(__file__).resolve().parents[2]


def test_stages(tmp_path):
    steps = open_vocabulary_stages(REPO, tmp_path, 5, ["MODEL.DEVICE", "cpu"], length=0.1)
    assert [step.result.name for step in steps] == [
        "model_final.safetensors",
        "model_final.safetensors",
        "ahs_seg_tiny.safetensors",
    ]
    encoders, whole, join = (list(pairwise(step.command)) for step in steps)
    assert ("SEED", "5") in encoders and ("SEED", "6") in whole
    assert ("SOLVER.MAX_ITER", "70") in encoders
    assert ("MODEL.WEIGHTS", str(steps[0].result)) in whole
    assert ("--parts", str(steps[1].result)) in join and ("MODEL.DEVICE", "cpu") in join


@pytest.mark.slow
def test_from_nothing_to_a_file_that_answers(tmp_path):
    small = [
        *("MODEL.DEVICE", "cpu", "INPUT.TEXTURE_BANK.COUNT", "6", "INPUT.TRAIN_SIZE", "64"),
        *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "1"),
    ]
    command = [sys.executable, "tools/build_model.py", "--recipe", "ahs_seg_tiny"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "made"), *small],
        capture_output=True, text=True, cwd=REPO,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    file = tmp_path / "made" / "ahs_seg_tiny.safetensors"
    assert file.stat().st_size < 12e6
    asked = [sys.executable, "tools/evaluate_names.py", "--dataset", "synthetic_open_val"]
    asked += ["--config-file", "configs/ahs_seg/tiny_shipped.yaml", "--limit", "4", "--floors"]
    asked += ["MODEL.WEIGHTS", str(file), "OUTPUT_DIR", str(tmp_path / "eval")]
    asked += ["INPUT.TEXTURE_BANK.COUNT", "6"]
    answered = subprocess.run(asked, capture_output=True, text=True, cwd=REPO)
    assert answered.returncode == 0, answered.stderr[-2000:]
    for row in ("| model |", "| model, names shuffled |", "| half split, by chance |"):
        assert row in answered.stdout

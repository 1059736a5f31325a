"""`tools/plain_script.py`, a Detectron2 user's own script, on the API that is active."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow  # whole commands, killed or in several processes

REPO = Path(__file__).parents[2]
CLUSTERS = ["--config-file", "configs/baselines/texture_clusters.yaml", "DATASETS.TEST"]


def run(tool, *args):
    done = subprocess.run(
        [sys.executable, f"tools/{tool}.py", *map(str, args)],
        cwd=REPO,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


def test_it_trains_evaluates_predicts_and_goes_on(tmp_path):
    output = run("plain_script", "OUTPUT_DIR", tmp_path)
    assert "grass_gravel: " in output
    for folder in ("inference", "inference_in_training"):
        assert (tmp_path / folder / "my_images/summary.json").is_file()
    kept = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert kept["iteration"] == 3
    output = run("plain_script", "--resume", "OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 6)
    assert "Starting training from iteration 4" in output


def test_it_evaluates_as_train_net_does(tmp_path):
    options = ["--eval-only", *CLUSTERS, '("samples",)', "OUTPUT_DIR"]
    run("plain_script", *options, tmp_path / "plain")
    run("train_net", *options, tmp_path / "ours")
    plain, ours = (
        (tmp_path / f"{name}/inference/samples/summary.json").read_bytes()
        for name in ("plain", "ours")
    )
    assert plain == ours

"""What one Detectron2 API has begun, the other one goes on with; needs detectron2 beside lite."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from toy import write_toy_dataset

REPO = Path(__file__).parents[2]
CLUSTERS = str(REPO / "configs/baselines/texture_clusters.yaml")
# In the style of Detectron2's own files: most of these keys are read by none of our models.
YAML = f"""
_BASE_: {CLUSTERS}
MODEL:
  MASK_ON: true
  RESNETS: {{DEPTH: 101}}
  RPN: {{IN_FEATURES: [p2, p3], NMS_THRESH: 0.7}}
  ROI_BOX_CASCADE_HEAD:
    IOUS: (0.5, 0.6, 0.8)
TEST: {{BOOTSTRAP_SAMPLES: 50, DETECTIONS_PER_IMAGE: 7}}
"""
TRAINING = [
    *("MODEL.META_ARCHITECTURE", "StagedToy", "MODEL.DEVICE", "cpu", "SEED", "4"),
    *("INPUT.TRAIN_SIZE", "32", "DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "4"),
    *("SOLVER.BASE_LR", "0.05", "SOLVER.WARMUP_ITERS", "0", "SOLVER.CHECKPOINT_PERIOD", "3"),
    *("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.LOG_PERIOD", "1"),
    *("DATASETS.TEST", "()"),
]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None, reason="detectron2 is not installed"
)


def run(script, backend, *args):
    done = subprocess.run(
        [sys.executable, str(REPO / script), *map(str, args)],
        env={**os.environ, "DETECTURE_D2": backend, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    return output


@pytest.mark.parametrize("order", [("lite", "detectron2"), ("detectron2", "lite")])
def test_an_evaluation_goes_on_with_the_other(tmp_path, order):
    toy = write_toy_dataset(tmp_path / "toy", count=6)
    (tmp_path / "detectron2.yaml").write_text(YAML)
    args = ["--eval-only", "--config-file", tmp_path / "detectron2.yaml", "--dataset-json", toy]
    whole = tmp_path / "whole/inference/toy"
    cut = tmp_path / "cut/inference/toy"
    run("tools/train_net.py", order[0], *args, "OUTPUT_DIR", tmp_path / "whole")

    run("tools/train_net.py", order[0], *args, "OUTPUT_DIR", tmp_path / "cut")
    lines = (cut / "records.jsonl").read_text().splitlines(keepends=True)
    (cut / "records.jsonl").write_text("".join(lines[:4]))  # a header and three samples
    (cut / "summary.json").unlink()
    output = run("tools/train_net.py", order[1], *args, "OUTPUT_DIR", tmp_path / "cut")
    assert "3 finished samples are kept" in output
    for name in ("summary.json", "records.jsonl"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("order", [("lite", "detectron2"), ("detectron2", "lite")])
def test_a_training_goes_on_with_the_other(tmp_path, order):
    toy = write_toy_dataset(tmp_path / "toy", count=6)
    args = ["--dataset-json", toy, *TRAINING, "OUTPUT_DIR"]
    run("tests/train_toy.py", order[0], *args, tmp_path / "whole", "SOLVER.MAX_ITER", 9)
    # The schedule is that of nine iterations; what came after the sixth is lost.
    run("tests/train_toy.py", order[0], *args, tmp_path / "cut", "SOLVER.MAX_ITER", 9)
    folder = tmp_path / "cut"
    for path in folder.glob("model_final*"):
        path.unlink()
    (folder / "last_checkpoint").write_text("model_0000005.safetensors")
    output = run("tests/train_toy.py", order[1], "--resume", *args, folder, "SOLVER.MAX_ITER", 9)
    assert re.search(r"Starting training from iteration 6\b", output)
    one, other = (load_file(tmp_path / f"{n}/model_final.safetensors") for n in ("whole", "cut"))
    assert all((one[name] == other[name]).all() for name in one)
    assert losses(folder) == losses(tmp_path / "whole")


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [(line["iteration"], line["total_loss"], line["lr"]) for line in lines if "lr" in line]

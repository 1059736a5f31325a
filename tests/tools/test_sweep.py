"""tools/sweep.py: a grid of trainings, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts import load_script

from detecture.benchmark.sweep import commands, plan, table
from detecture.config import make_config
from detecture.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
TOOL = [sys.executable, str(REPO / "tools/sweep.py")]

# The smallest training there is: a few steps of the grouping net on little images.
TINY = """
_BASE_: {base}
MODEL:
  DEVICE: cpu
  GROUPING:
    WIDTHS: [8, 8, 8, 8]
    CHANNELS: 8
    COMPONENTS: [4]
    CLASSICAL_WEIGHTS: [0.5]
    STARTS: 1
INPUT:
  TRAIN_SIZE: 64
DATASETS:
  TRAIN: ["synthetic_train"]
  TEST: ["synthetic_pair"]
DATALOADER:
  NUM_WORKERS: 0
SOLVER:
  MAX_ITER: 4
  IMS_PER_BATCH: 2
  CHECKPOINT_PERIOD: 1
TEST:
  LIMIT: 2
  SAVE_LABEL_MAPS: false
"""


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/sweep.py")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(base=REPO / "configs/recipes/grouping_net.yaml"))
    return path


def sweep(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TOOL, *map(str, words)], capture_output=True, text=True, env=environment
    )


@pytest.mark.slow
def test_a_grid_of_two_and_two_seeds(tmp_path, config):
    words = [config, "--grid", "SOLVER.BASE_LR", "0.001", "0.002", "--seeds", "2"]
    words += ["--root", tmp_path / "out"]
    done = sweep(*words)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| tiny")]
    assert [row[1].strip() for row in rows] == ["tiny BASE_LR=0.001", "tiny BASE_LR=0.002"]
    assert all(row[9].strip() == "2 of 2" and 0.0 < float(row[3]) <= 1.0 for row in rows)
    weights = sorted((tmp_path / "out").glob("*/seed-*/model_final.safetensors"))
    assert len(weights) == 4
    assert len({path.read_bytes() for path in weights}) == 4
    stamps = [path.stat().st_mtime_ns for path in weights]
    assert sweep(*words).stdout == done.stdout
    assert [path.stat().st_mtime_ns for path in weights] == stamps
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert [row["runs"] for row in table] == [2, 2]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on(tmp_path, config):
    root = tmp_path / "out"
    words = [str(config), "--root", str(root), "--opts", "SOLVER.MAX_ITER", "12"]
    process = subprocess.Popen(
        [*TOOL, *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 400
    while not list(root.glob("*/seed-1/model_00000*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = sweep(*words)
    assert done.returncode == 0, done.stderr
    (folder,) = root.glob("*/seed-1")
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    iterations = [line["iteration"] for line in lines]
    assert len(iterations) == len(set(iterations))
    assert not list(folder.glob("earlier_run_*"))  # resumed, not begun anew


@pytest.mark.slow
def test_a_run_that_fails_and_one_that_does_not(tmp_path, config):
    broken = tmp_path / "broken.yaml"
    broken.write_text(f"_BASE_: {config}\nMODEL:\n  WEIGHTS: {tmp_path}/none.safetensors\n")
    failed = sweep(config, broken, "--root", tmp_path / "out")
    assert failed.returncode == 1
    assert "none.safetensors" in failed.stderr
    rows = {line.split("|")[1].strip(): line for line in failed.stdout.splitlines()}
    assert "1 of 1" in rows["tiny"]
    assert "failed" in rows["broken"]


def test_what_is_run_is_what_was_planned(tmp_path, config):
    (run,) = plan(tmp_path, [config], {}, [], 1)
    config.write_text(config.read_text().replace("MAX_ITER: 4", "MAX_ITER: 9"))
    (changed,) = plan(tmp_path, [config], {}, [], 1)
    assert run.folder != changed.folder
    run.folder.mkdir(parents=True)
    run.config.write_text(run.settled)
    assert make_config(run.config).SOLVER.MAX_ITER == 4
    train, evaluation = commands(run, "python", Path("train_net.py"))
    assert str(run.config) in train
    assert str(run.config) in evaluation


def test_an_older_figure_is_none_of_a_run_that_failed(tmp_path, config):
    (run,) = plan(tmp_path, [config], {}, [], 0)
    folder = run.folder / "inference/synthetic_pair"
    folder.mkdir(parents=True)
    summary = {"headline": "mIoU", "mIoU": 0.5, "pIoU": 0.5, "ARI": 0.1, "K_accuracy": 1.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert table([run])[0]["runs"] == 1
    (run.folder / "failure.json").write_text(json.dumps({"note": "boom"}))
    (row,) = table([run])
    assert (row["runs"], row["failed"]) == (0, "boom")
    assert "mIoU" not in row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "SOLVER.BASE_LR"], "give at least one value"),
        (["--grid", "SOLVER.BASE_LT", "1"], "did you mean"),
        (["--seeds", "-1"], "must be 0 or more"),
        (["--opts", "DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["--opts", "SEED", "3"], "SEED is set by --seeds"),
        (["--grid", "SOLVER.BASE_LR", "0.001", "0.001"], "two runs of the sweep are the same"),
    ],
)
def test_wrong_input(tool, tmp_path, config, capsys, words, message):
    assert tool.main([str(config), "--root", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_planned(tmp_path, config):
    with pytest.raises(ConfigError, match="has no columns in these tables"):
        plan(tmp_path, [config], {}, ["DATASETS.TEST", "('bsds500_test',)"], 0)
    with pytest.raises(ConfigError, match="two configs have one name"):
        plan(tmp_path, [config, config], {}, [], 1)


def test_the_ablations_are_all_plannable(tmp_path):
    configs = sorted((REPO / "configs/ablations").glob("*.yaml"))
    runs = plan(tmp_path, configs, {}, [], 1)
    assert len({run.folder for run in runs}) == len(configs) == len(runs)


def test_a_table_of_somebody_else_is_kept(config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/table.json").write_text('{"mine": 1}')
    done = sweep(config, "--root", tmp_path / "out", "--dry-run")
    assert done.returncode == 2 and "no table of a sweep; say another --root" in done.stderr
    assert (tmp_path / "out/table.json").read_text() == '{"mine": 1}'

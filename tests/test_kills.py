"""SIGKILL in all long work but the miner's: run again, each ends as if it had not been.

And SIGTERM to a training alone, which saves what it has, in one process and in two.

Where the kills fall follows from the commit (without git: from 0): each commit tries others.
DETECTURE_SLOW_TESTS=1: one kill of each; DETECTURE_LONG_TESTS=1: ten, and of more kinds.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from semantic_toy import write_semantic_folder
from toy import write_toy_dataset

REPO = Path(__file__).resolve().parents[1]
LONG = os.environ.get("DETECTURE_LONG_TESTS") == "1"
KILLS = 10 if LONG else 1
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def seed_of_commit():
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "0"


def results_of(folder):
    """All that an evaluation leaves in the folder of its records."""
    files = [*folder.glob("*.json*"), *folder.glob("label_maps/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Evaluation:
    name = "evaluation"

    def __init__(self, root):
        pass

    def command(self, output):
        config = REPO / "configs/baselines/texture_clusters.yaml"
        tool = [REPO / "tools/train_net.py", "--config-file", config, "--eval-only"]
        return [*tool, "DATASETS.TEST", "('samples',)", "OUTPUT_DIR", output]

    def has_begun(self, output):
        return (output / "inference/samples/records.jsonl").exists()

    def content(self, output):
        return results_of(output / "inference/samples")


class EvaluationInTwo(Evaluation):
    name = "evaluation in two processes"

    def command(self, output):
        return [*super().command(output)[:-4], "--num-gpus", "2", *super().command(output)[-4:]]


class SemanticEvaluation:
    name = "semantic evaluation"

    def __init__(self, root):
        self.data = write_semantic_folder(root / "classes", val=12, size=(64, 96))

    def command(self, output):
        config = REPO / "configs/ahs_seg/tiny_shipped.yaml"
        tool = [REPO / "tools/train_net.py", "--config-file", config, "--eval-only"]
        return [*tool, "--semantic-root", self.data, "OUTPUT_DIR", output]

    def has_begun(self, output):
        return (output / "inference/classes/records.jsonl").exists()

    def content(self, output):
        return results_of(output / "inference/classes")


class Benchmark:
    name = "benchmark"

    def __init__(self, root):
        pass

    def command(self, output):
        words = ("--methods", "texture_clusters", "--datasets", "synthetic_pair", "--limit", "12")
        return [REPO / "tools/benchmark.py", *words, "--root", output]

    def has_begun(self, output):
        return any(output.glob("cells/*/*/*/inference/*/records.jsonl"))

    def content(self, output):
        (folder,) = output.glob("cells/*/*/*/inference/*")
        return results_of(folder) | {path.name: "" for path in output.iterdir()}


class DataSet:
    name = "data set"

    def __init__(self, root):
        pass

    def command(self, output):
        words = ("--count", "40", "--size", "64", "--workers", "2")
        return [REPO / "tools/make_dataset.py", *words, "--output", output]

    def has_begun(self, output):
        return (output / "settings.json").exists()

    def content(self, output):
        files = [path for path in output.rglob("*") if path.is_file()]
        return {str(path.relative_to(output)): path.read_bytes() for path in files}


class Demo:
    name = "demo"

    def __init__(self, root):
        pass

    def command(self, output):
        photos = REPO / "datasets/samples/photos"
        return [REPO / "tools/demo.py", "--input", photos, "--output", output]

    def has_begun(self, output):
        return any(output.glob("*"))

    def content(self, output):
        # A kill may leave a temporary file.
        return {
            path.name: path.read_bytes() for path in output.iterdir() if ".tmp" not in path.name
        }


class Training:
    name = "training"

    def __init__(self, root):
        self.data = write_toy_dataset(root / "toy", count=8)

    def command(self, output):
        words = [
            *("MODEL.META_ARCHITECTURE", "ToySegmenter", "MODEL.DEVICE", "cpu", "SEED", "1"),
            *("INPUT.TRAIN_SIZE", "32", "INPUT.MICRO_CROP.PROB", "0.0"),
            *("DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.5"),
            *("SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "60", "SOLVER.CHECKPOINT_PERIOD", "7"),
            *("SOLVER.LOG_PERIOD", "1", "TEST.BOOTSTRAP_SAMPLES", "5", "TEST.EVAL_PERIOD", "10"),
            *("TEST.BEST_METRIC", "texture/mIoU", "DATASETS.TEST", "('toy',)"),
        ]
        tool = [REPO / "tests/train_toy.py", "--resume", "--dataset-json", self.data]
        return [*tool, *words, "OUTPUT_DIR", output]

    def has_begun(self, output):
        return (output / "metrics.json").exists()

    def content(self, output):
        """Losses and results of each iteration, weights, and where a resumed run would go on."""
        lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
        kept = ("iteration", "total_loss", "loss", "texture/")
        found = {
            f"{number}": {k: v for k, v in line.items() if k.startswith(kept)}
            for number, line in enumerate(lines)
        }
        for path in output.glob("model_*.safetensors"):
            found[path.name] = {k: v.tolist() for k, v in load_file(path).items()}
        return found | {"last": (output / "last_checkpoint").read_text()}


class TrainingInTwo(Training):
    name = "training in two processes"

    def command(self, output):
        words = super().command(output)
        return [*words[:1], "--num-gpus", "2", *words[1:]]


def run(words, log, kill_when=None, how="SIGKILL"):
    """Run a command to its end, or kill it with all its processes; returns whether it was.

    `how` SIGTERM goes to its first process alone, which is to end them all, and well.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            start_new_session=True,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
        try:
            if kill_when is not None:
                kill_when(process)
            else:
                process.wait(timeout=600)
        finally:
            killed = process.poll() is None
            if killed and how == "SIGTERM":
                process.terminate()
                killed = process.wait(timeout=120) != 0  # else it came to its end before
                assert process.returncode in (0, 130, -signal.SIGTERM), log.read_text()[-3000:]
            elif killed:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert killed or process.returncode == 0, log.read_text(errors="replace")[-3000:]
    return killed


def differing(one, other, how):
    names = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    # Who is told to end saves where it stands: another iteration than those that are due.
    return [name for name in names if how == "SIGKILL" or not name.startswith("model_0")]


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param(Evaluation, "SIGKILL", marks=pytest.mark.slow),
        pytest.param(Demo, "SIGKILL", marks=pytest.mark.slow),
        pytest.param(Training, "SIGKILL", marks=pytest.mark.slow),
        pytest.param(Training, "SIGTERM", marks=pytest.mark.slow),
        pytest.param(EvaluationInTwo, "SIGKILL", marks=pytest.mark.long),
        pytest.param(SemanticEvaluation, "SIGKILL", marks=pytest.mark.long),
        pytest.param(Benchmark, "SIGKILL", marks=pytest.mark.long),
        pytest.param(DataSet, "SIGKILL", marks=pytest.mark.long),
        pytest.param(TrainingInTwo, "SIGKILL", marks=pytest.mark.long),
        pytest.param(TrainingInTwo, "SIGTERM", marks=pytest.mark.long),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_killed_anywhere(kind, how, tmp_path):
    seed = seed_of_commit()
    print(f"seed {seed}")
    work = kind(tmp_path)
    started = time.monotonic()
    begun = None

    def watch(process):
        nonlocal begun
        while process.poll() is None:
            if begun is None and work.has_begun(tmp_path / "whole"):
                begun = time.monotonic()
            time.sleep(0.005)

    log = tmp_path / "log.txt"
    assert not run(work.command(tmp_path / "whole"), log, watch)
    start, duration = begun - started, time.monotonic() - begun
    whole = work.content(tmp_path / "whole")
    draw = random.Random(f"{seed} {kind.name}" + ("" if how == "SIGKILL" else how))
    left = KILLS
    for attempt in range(4 * KILLS):
        output = tmp_path / f"cut{attempt}"
        # One in five before anything is written.
        early = draw.random() < 0.2
        seconds = draw.random() * (start if early else duration)

        def wait(process, output=output, early=early, seconds=seconds):
            while not early and process.poll() is None and not work.has_begun(output):
                time.sleep(0.002)
            deadline = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)

        if not run(work.command(output), log, wait, how):
            continue  # it was faster than the first one
        run(work.command(output), log)
        told = f"seed {seed}, attempt {attempt}: killed {seconds:.3f} s after its beginning"
        assert not differing(work.content(output), whole, how), told
        left -= 1
        if not left:
            return
    pytest.fail(f"{left} of {KILLS} kills came too late, seed {seed}")

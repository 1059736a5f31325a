"""SIGKILL at random moments of a training, saving included; resumed, it is the unbroken one.

`python tests/engine/test_training_kill.py ROOT KILLS` does it: it imports everything once and then
forks each training, because importing takes longer than the training.
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

pytestmark = pytest.mark.slow  # whole commands, killed or in several processes

KILLS = 20
ITERATIONS = 30


def train(root, output, resume):
    from detecture.config import make_config
    from detecture.engine import Trainer

    cfg = make_config(
        None,
        [
            *("MODEL.META_ARCHITECTURE", "StagedToy", "MODEL.DEVICE", "cpu", "SEED", "7"),
            *("MODEL.BRIDGE.DROPOUT", "0.3", "INPUT.TRAIN_SIZE", "24"),
            *("INPUT.MICRO_CROP.MIN_REGIONS", "1", "DATALOADER.NUM_WORKERS", "0"),
            *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.ACCUMULATION", "2", "SOLVER.BASE_LR", "0.01"),
            *("SOLVER.OPTIMIZER", "AdamW", "SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine"),
            *("SOLVER.CURRICULUM.STAGE2_ITER", "9", "SOLVER.WARMUP_ITERS", "3"),
            *("SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.CHECKPOINT_PERIOD", "2"),
            *("SOLVER.LOG_PERIOD", "1", "DATASETS.TRAIN", "('killed',)"),
            *("DATASETS.TEST", "('killed',)", "TEST.EVAL_PERIOD", "8"),
            *("TEST.BEST_METRIC", "texture/mIoU", "TEST.BOOTSTRAP_SAMPLES", "5"),
            *("OUTPUT_DIR", str(root / output)),
        ],
    )
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    trainer.train()


def forked(root, output, resume, seconds=None):
    """Train in a child process, killed after so many seconds; its exit status, None if killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train(root, output, resume)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if deadline is not None and time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.001)


def main(root, kills):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import staged_toy  # noqa: F401 - registers the model
    import torch
    import torch.utils.tensorboard  # imported once, before the forks
    from toy import write_toy_dataset

    from detecture import engine  # noqa: F401
    from detecture.data import register_texture_dataset

    torch.set_num_threads(1)
    path = write_toy_dataset(root / "data", count=6)
    register_texture_dataset("killed", path, path.parent, k_regime="pair")
    start = time.monotonic()
    if forked(root, "whole", False) != 0:
        raise SystemExit("the unbroken run failed")
    duration = time.monotonic() - start
    generator, killed, attempts = random.Random(0), 0, 0
    while True:
        attempts += 1
        # Short enough that a run of this many kills lasts, long enough that it gets on.
        seconds = generator.uniform(0.05, 0.5) * duration if killed < kills else None
        status = forked(root, "cut", attempts > 1, seconds)
        if status is None:
            killed += 1
        elif status != 0:
            raise SystemExit(f"a resumed run failed with status {status}")
        elif killed >= kills or attempts > 3 * kills:
            break
        else:  # done before all kills: another round of the same
            compare(root)
            (root / "cut").rename(root / f"cut{attempts}")
            forked(root, "cut", False, 0.3 * duration)
            killed += 1
    compare(root)
    print(json.dumps({"killed": killed, "seconds": time.monotonic() - start}))


def compare(root):
    whole, cut = losses(root / "whole"), losses(root / "cut")
    assert len(whole) == ITERATIONS, whole
    assert whole == cut, [pair for pair in zip(whole, cut, strict=False) if pair[0] != pair[1]][:3]
    one, other = ((root / f"{n}/last_checkpoint").read_text() for n in ("whole", "cut"))
    assert one == other == "model_final.safetensors"


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [
        (one["iteration"], {k: v for k, v in one.items() if "loss" in k or k == "grad_norm"})
        for one in lines
        if "total_loss" in one
    ]


def test_killed_at_random_moments(tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(KILLS)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["killed"] >= KILLS


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""A training that is told to end saves a checkpoint, and goes on from it as if it had not been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from engine.test_training import config, lines, losses, same, train, weights
from toy import write_toy_dataset

from detecture.d2 import hooks
from detecture.engine import Trainer, argument_parser, run
from detecture.jobs.signals import end_signals

REPO = Path(__file__).parents[2]
TRAIN_TOY = [sys.executable, str(REPO / "tests/train_toy.py")]


class Told(hooks.HookBase):
    """Tells the process to end, in the midst of an iteration."""

    def __init__(self, iteration, *signals):
        self.iteration = iteration
        self.signals = signals

    def before_step(self):
        if self.trainer.iter == self.iteration:
            for one in self.signals:
                signal.raise_signal(one)


def evaluated(data, folder, *overrides):
    test = ("DATASETS.TEST", repr(data[:1]), "TEST.EVAL_PERIOD", "4", "SOLVER.LOG_PERIOD", "3")
    return config(data, folder, *test, *overrides)


@pytest.fixture(autouse=True)
def _heeded():
    """As in a terminal: a shell may have started the tests with Ctrl-C or hang-ups ignored."""
    numbers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, usual) for number, usual in numbers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(evaluated(data, folder))
    return folder


def is_whole(folder, whole):
    """Line by line: losses by value, results by name (the toy draws them)."""
    mine, theirs = (
        [
            {k: k.startswith("texture") or v for k, v in line.items() if "time" not in k}
            for line in found
        ]
        for found in (lines(folder), lines(whole))
    )
    for line in (*mine, *theirs):
        line.pop("eta_seconds", None)
    assert mine == theirs
    assert same(weights(folder), weights(whole))


def stopped(cfg, *hooks_of_test):
    torch.manual_seed(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.register_hooks(list(hooks_of_test))
    with pytest.raises(KeyboardInterrupt) as told:
        trainer.train()
    return str(told.value)


@pytest.mark.parametrize(
    ("name", "iteration"),
    # An evaluation is due after 3.
    [("SIGTERM", 0), ("SIGTERM", 3), ("SIGTERM", 4), ("SIGINT", 4), ("SIGHUP", 4)],
)
def test_the_iteration_that_runs_is_saved(data, whole, tmp_path, name, iteration):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    told = stopped(evaluated(data, tmp_path), Told(iteration, number, number))
    assert signal.getsignal(number) == before
    newest = f"model_{iteration:07d}.safetensors"
    assert (tmp_path / "last_checkpoint").read_text() == newest
    assert f"{newest}, and the same command with --resume goes on from iteration" in told
    assert f"from iteration {iteration + 1} of 10" in told
    assert train(evaluated(data, tmp_path), resume=True).start_iter == iteration + 1
    is_whole(tmp_path, whole)


def test_a_second_signal_does_not_wait(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("detecture.jobs.signals._ONE_SIGNAL_SECONDS", 0.0)
    told = stopped(evaluated(data, tmp_path), Told(6, signal.SIGTERM, signal.SIGINT))
    assert "goes on from iteration 6 of 10" in told  # there is a checkpoint after three each
    train(evaluated(data, tmp_path), resume=True)
    is_whole(tmp_path, whole)


@pytest.mark.parametrize(("evaluation", "start"), [(1, "goes on from iteration 4"), (3, "evaluat")])
def test_an_evaluation_ends_at_once(data, whole, tmp_path, monkeypatch, evaluation, start):
    original, calls = Trainer.test, []

    def test(cfg, model):
        calls.append(1)
        if len(calls) == evaluation:
            signal.raise_signal(signal.SIGTERM)
        return original(cfg, model)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "test", staticmethod(test))
        assert f"with --resume {start}" in stopped(evaluated(data, tmp_path))
    assert len(calls) == evaluation
    train(evaluated(data, tmp_path), resume=True)
    is_whole(tmp_path, whole)


def test_before_the_first_iteration_nothing_is_saved(data, tmp_path):
    class Early(hooks.HookBase):
        def before_train(self):
            signal.raise_signal(signal.SIGINT)

    assert "the same command begins anew" in stopped(evaluated(data, tmp_path), Early())
    assert not (tmp_path / "last_checkpoint").exists()


def told_to_end(args):
    signal.raise_signal(signal.SIGTERM)


def test_a_command_that_is_told_to_end_says_so(caplog):
    before = signal.getsignal(signal.SIGTERM)
    assert run(told_to_end, argument_parser().parse_args([])) == 130
    assert "interrupted; the same command goes on from what is finished" in caplog.text
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with end_signals.heard():
            signal.raise_signal(signal.SIGHUP)
        assert not end_signals.is_asked
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- real ones -----------------------------------------------------------------------------------

WORDS = [
    *("MODEL.META_ARCHITECTURE", "ToySegmenter", "MODEL.DEVICE", "cpu", "SEED", "1"),
    *("INPUT.TRAIN_SIZE", "32", "INPUT.MICRO_CROP.PROB", "0.0", "SOLVER.CHECKPOINT_PERIOD", "5000"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.5", "SOLVER.WARMUP_ITERS", "0"),
    *("SOLVER.LOG_PERIOD", "1", "DATASETS.TEST", "()", "SOLVER.STEPS", "()"),
]


def heeds_signals():
    """In the child: a shell may have started the tests with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def command(toy, out, *words):
    return [*TRAIN_TOY, "--dataset-json", str(toy), *words, *WORDS, "OUTPUT_DIR", str(out)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "processes", "workers", "whom"),
    [
        ("SIGINT", 1, 2, "parent"),
        ("SIGTERM", 1, 2, "all"),
        ("SIGINT", 2, 0, "parent"),
        ("SIGTERM", 2, 2, "all"),
    ],
)
def test_processes_and_workers_are_reached(tmp_path, name, processes, workers, whom):
    toy, out = write_toy_dataset(tmp_path / "toy", count=8), tmp_path / "out"
    if processes > 1 and torch.accelerator.is_available():
        pytest.skip("two CPU processes: hide the accelerators to run this")
    words = ["--num-gpus", str(processes), "DATALOADER.NUM_WORKERS", str(workers)]
    long = [*words, "SOLVER.MAX_ITER", "1000000"]
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(toy, out, *long),
            stdout=file,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=heeds_signals,
        )
        try:
            deadline = time.monotonic() + 120
            while not (out / "metrics.json").exists() or not (out / "metrics.json").stat().st_size:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            send = os.kill if whom == "parent" else os.killpg
            send(process.pid, getattr(signal, name))
            assert process.wait(timeout=60) == 130, log.read_text()
            with pytest.raises(ProcessLookupError):  # nobody of them is left
                for _ in range(100):
                    os.killpg(process.pid, 0)
                    time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    told = log.read_text()
    assert "Traceback" not in told and told.count("interrupted;") == 1, told
    (saved,) = out.glob("model_*.safetensors")
    done = int(saved.stem.removeprefix("model_"))
    assert f"--resume goes on from iteration {done + 1} of 1000000" in told
    assert [i for i, _ in losses(out)] == list(range(done + 1))

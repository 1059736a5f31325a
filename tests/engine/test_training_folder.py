"""The folder of a training: who may write to it, and when its description changes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine.test_training import BASE, config, train
from toy import write_toy_dataset

from detecture.engine import Trainer, argument_parser, evaluate, load_model, setup
from detecture.engine import run_folder as module
from detecture.engine.run_folder import reserved, set_run_aside, trim_metrics
from detecture.errors import CheckpointError, ConfigError

REPO = Path(__file__).parents[2]
TRAIN_TOY = [sys.executable, str(REPO / "tests/train_toy.py")]


def without_mark(path):
    """What stands in a config, without the last line, which says who wrote it."""
    content, mark, end = path.read_text().rpartition("# written by detecture ")
    assert mark and end.count("\n") == 1
    return content


def words(data, folder, *overrides):
    """The command line of `config`."""
    where = ["DATASETS.TRAIN", repr(data), "OUTPUT_DIR", str(folder), "DATASETS.TEST", "()"]
    return [*BASE, *where, *map(str, overrides)]


def test_the_config_of_a_training_is_written_when_it_begins(data, tmp_path):
    args = argument_parser().parse_args(words(data, tmp_path, "SOLVER.MAX_ITER", 2))
    cfg = setup(args)
    assert not (tmp_path / "config.yaml").exists()
    assert (tmp_path / "log.txt").is_file()
    train(cfg)
    assert without_mark(tmp_path / "config.yaml") == cfg.dump()


def test_what_is_refused_leaves_the_config(data, tmp_path):
    train(config(data, tmp_path, "SOLVER.MAX_ITER", 2))
    before = (tmp_path / "config.yaml").read_bytes()
    more = ("SOLVER.MAX_ITER", 4)
    for error, overrides in (
        (ConfigError, ("SOLVER.OPTIMIZER", "SGD")),
        (CheckpointError, ("MODEL.META_ARCHITECTURE", "ToySegmenter")),
        (ConfigError, ("TEST.BEST_METRIC", "nothing")),
    ):
        plain = ("SOLVER.CURRICULUM.STAGE2_ITER", 0) if "ToySegmenter" in overrides else ()
        cfg = setup(argument_parser().parse_args(words(data, tmp_path, *more, *overrides, *plain)))
        with pytest.raises(error):
            train(cfg, resume=True)
        assert (tmp_path / "config.yaml").read_bytes() == before
    with reserved(tmp_path), pytest.raises(ConfigError, match="another training is running"):
        setup(argument_parser().parse_args(words(data, tmp_path, "SEED", 9)))
    with reserved(tmp_path), pytest.raises(ConfigError, match="another training is running"):
        train(config(data, tmp_path, "SEED", 9))
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_an_evaluation_is_refused_where_a_training_runs(data, tmp_path):
    train(config(data, tmp_path, "SOLVER.MAX_ITER", 2))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    test = ("DATASETS.TEST", repr(data[:1]))
    for flags in (["--eval-only"], ["--eval-only", "--resume"]):
        args = argument_parser().parse_args([*flags, *words(data, tmp_path, *test)])
        with (
            reserved(tmp_path),
            pytest.raises(ConfigError, match="a training is running in it") as told,
        ):
            setup(args)
        assert f"MODEL.WEIGHTS {tmp_path / 'model_final.safetensors'}" in str(told.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_evaluation_describes_itself_beside_its_records(data, tmp_path):
    train(config(data, tmp_path, "SOLVER.MAX_ITER", 2))
    before = (tmp_path / "config.yaml").read_bytes()
    folder = tmp_path / "inference" / data[0]
    for count in ("regime", "autonomous"):
        test = ("DATASETS.TEST", repr(data[:1]), "TEST.COUNT", count)
        args = argument_parser().parse_args(["--eval-only", *words(data, tmp_path, *test)])
        cfg = setup(args)
        evaluate(cfg, load_model(cfg))
        assert without_mark(folder / "config.yaml") == cfg.dump()
        assert f"COUNT: {count}" in cfg.dump()
    assert "COUNT: regime" in (folder / "config.stale-1.yaml").read_text()
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_the_newest_sound_checkpoint_is_evaluated(data, tmp_path, caplog):
    train(config(data, tmp_path, "SOLVER.MAX_ITER", 4))
    args = argument_parser().parse_args(["--eval-only", "--resume", *words(data, tmp_path)])
    final = str(tmp_path / "model_final.safetensors")
    assert final == setup(args).MODEL.WEIGHTS
    for content in (b"", b"\xff", b"../x", b"/etc/passwd", b"gone.safetensors"):
        (tmp_path / "last_checkpoint").write_bytes(content)
        assert final == setup(args).MODEL.WEIGHTS
    Path(final).write_bytes(b"")
    assert str(tmp_path / "model_0000002.safetensors") == setup(args).MODEL.WEIGHTS
    (tmp_path / "model_0000002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints is sound"):
        setup(args)
    Path(final).unlink()
    caplog.clear()
    assert setup(args).MODEL.WEIGHTS == ""


def test_an_earlier_run_is_set_aside_whole_over_every_kill(data, tmp_path, monkeypatch):
    source = tmp_path / "source"
    train(config(data, source, "SOLVER.MAX_ITER", 4))
    kill_at = 0
    while True:
        folder = tmp_path / f"killed{kill_at}"
        subprocess.run(["cp", "-r", str(source), str(folder)], check=True)
        names = {p.name for p in folder.iterdir() if p.is_file()} - {".training.lock"}
        count, rename = [], Path.rename
        with monkeypatch.context() as patch:

            def killed(self, target, count=count, at=kill_at, rename=rename):
                count.append(1)
                if len(count) > at:
                    raise KeyboardInterrupt
                return rename(self, target)

            patch.setattr(Path, "rename", killed)
            try:
                set_run_aside(folder)
                break
            except KeyboardInterrupt:
                pass
        # Nobody goes on with half of it, and it does not get lost.
        trainer = Trainer(config(data, folder, "SOLVER.MAX_ITER", 2))
        trainer.resume_or_load(True)
        if kill_at:
            assert trainer.start_iter == 0
            trainer.train()
            assert {p.name for p in (folder / "earlier_run_1").iterdir()} == names
            assert not (folder / module._HALF_ASIDE).exists()
        kill_at += 1
    assert kill_at >= 6


# ---- metrics.json --------------------------------------------------------------------------------


def test_lines_of_metrics_that_cannot_be_read_are_set_aside(tmp_path, caplog):
    path = tmp_path / "metrics.json"
    damaged = [b"\xff\xfe", b"[" * 100_000, b"[]", b'{"iteration": "1"}', b'{"iteration": 1e999}']
    sound = [b'{"iteration": 0, "loss": NaN}', b'{"iteration": 1}']
    path.write_bytes(b"\n".join([sound[0], *damaged, sound[1], b'{"iteration": 7}', b'{"iter']))
    trim_metrics(path, 3)
    assert path.read_bytes() == b"\n".join(sound) + b"\n"
    assert (tmp_path / "metrics.damaged-1.json").read_bytes() == b"\n".join(damaged) + b"\n"
    assert "5 lines cannot be read" in caplog.text


def test_metrics_that_are_no_file(data, tmp_path):
    (tmp_path / "metrics.json").mkdir()
    train(config(data, tmp_path), resume=True)
    assert (tmp_path / "metrics.foreign-1.json").is_dir()
    assert (tmp_path / "metrics.json").is_file()


# ---- a real one ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_evaluation_into_the_folder_of_a_running_training(tmp_path):
    toy = write_toy_dataset(tmp_path / "toy", count=6)
    common = ["--dataset-json", str(toy), *config_words()]
    out = tmp_path / "out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TRAIN_TOY, *common, "OUTPUT_DIR", str(out), "SOLVER.MAX_ITER", "3000"]
    training = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        deadline = time.monotonic() + 180
        while not (out / "last_checkpoint").exists():
            assert training.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        before = (out / "config.yaml").read_bytes()
        done = subprocess.run(
            [*TRAIN_TOY, "--eval-only", "--resume", *common, "OUTPUT_DIR", str(out)],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert training.poll() is None, "make it longer"
        assert done.returncode == 2, done.stdout + done.stderr
        assert "a training is running in it" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert (out / "config.yaml").read_bytes() == before
    finally:
        training.kill()
        training.wait()


def config_words():
    return [
        *("MODEL.META_ARCHITECTURE", "ToySegmenter", "MODEL.DEVICE", "cpu", "SEED", "1"),
        *("INPUT.TRAIN_SIZE", "32", "INPUT.MICRO_CROP.PROB", "0.0", "DATALOADER.NUM_WORKERS", "0"),
        *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.5", "SOLVER.WARMUP_ITERS", "0"),
        *("SOLVER.CHECKPOINT_PERIOD", "5", "TEST.BOOTSTRAP_SAMPLES", "50"),
        *("DATASETS.TEST", "('toy',)"),
    ]

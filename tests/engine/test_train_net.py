"""`tools/train_net.py` as a user runs it: evaluation, training, processes, kills, exit statuses."""

import importlib.util
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from toy import write_toy_dataset

from detecture import engine
from detecture.config import make_config
from detecture.d2 import MetadataCatalog
from detecture.errors import CheckpointError, ConfigError, DatasetError
from detecture.evaluation.records import records_lock

REPO = Path(__file__).parents[2]
TRAIN_NET = [sys.executable, str(REPO / "tools/train_net.py")]
TRAIN_TOY = [sys.executable, str(REPO / "tests/train_toy.py")]
CLUSTERS = str(REPO / "configs/baselines/texture_clusters.yaml")
HALVES = str(REPO / "configs/baselines/floor_half_split.yaml")

TOY_TRAINING = [
    *("MODEL.META_ARCHITECTURE", "ToySegmenter", "MODEL.DEVICE", "cpu", "SEED", "1"),
    *("INPUT.TRAIN_SIZE", "32", "INPUT.MICRO_CROP.PROB", "0.0", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.BASE_LR", "0.5", "SOLVER.WARMUP_ITERS", "0"),
    *("SOLVER.MAX_ITER", "20", "SOLVER.CHECKPOINT_PERIOD", "10", "TEST.BOOTSTRAP_SAMPLES", "50"),
]


def run(command, *args, status=0, **env):
    done = subprocess.run(
        [*command, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **env},
    )
    output = done.stdout + done.stderr
    assert done.returncode == status, output[-3000:]
    return output


@pytest.fixture
def toy(tmp_path):
    return write_toy_dataset(tmp_path / "toy", count=8)


def summary(folder, dataset="toy"):
    return json.loads((folder / f"inference/{dataset}/summary.json").read_text())


def test_own_data_and_expected_results(toy, tmp_path):
    args = ["--config-file", HALVES, "--eval-only", "--dataset-json", toy]
    output = run(TRAIN_NET, *args, "OUTPUT_DIR", tmp_path / "out")
    assert summary(tmp_path / "out")["n_ok"] == 8
    assert "copypaste: Task: texture" in output
    miou = summary(tmp_path / "out")["mIoU"]
    expect = '[["texture", "mIoU", {}, 0.01]]'
    args += ["OUTPUT_DIR", tmp_path / "out", "TEST.EXPECTED_RESULTS"]
    run(TRAIN_NET, *args, expect.format(miou))
    run(TRAIN_NET, *args, expect.format(miou + 0.1), status=1)


@pytest.mark.slow
def test_several_processes_give_the_same_summary(toy, tmp_path):
    common = ["--config-file", CLUSTERS, "--eval-only", "--dataset-json", toy, "OUTPUT_DIR"]
    run(TRAIN_NET, *common, tmp_path / "one")
    run(TRAIN_NET, "--num-gpus", 2, *common, tmp_path / "two")
    assert summary(tmp_path / "two") == summary(tmp_path / "one")
    names = sorted(p.name for p in (tmp_path / "two/inference/toy").iterdir())
    assert [n for n in names if n.endswith(".jsonl")] == ["records.jsonl"]


@pytest.mark.slow
def test_records_that_another_run_holds(toy, tmp_path):
    """Refused in all processes, none of which waits for the others; nothing is replaced."""
    common = ["--config-file", HALVES, "--eval-only", "--dataset-json", toy, "OUTPUT_DIR"]
    run(TRAIN_NET, *common, tmp_path)
    folder = tmp_path / "inference/toy"
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with records_lock(folder):
        for processes in (1, 2):
            output = run(TRAIN_NET, "--num-gpus", processes, *common, tmp_path, status=1)
            assert "another run is writing its records here" in output
            assert "Traceback" not in output
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.slow
def test_torchrun(toy, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    args = ["--config-file", HALVES, "--eval-only", "--dataset-json", toy, "OUTPUT_DIR"]
    run([*torchrun, "--standalone", TRAIN_NET[1]], *args, tmp_path / "two", OMP_NUM_THREADS="1")
    run(TRAIN_NET, *args, tmp_path / "one")
    assert summary(tmp_path / "two") == summary(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_started_again(tmp_path, processes):
    toy = write_toy_dataset(tmp_path / "toy", count=40, size=256)
    args = ["--config-file", CLUSTERS, "--eval-only", "--num-gpus", processes]
    args += ["--dataset-json", toy, "OUTPUT_DIR"]
    run(TRAIN_NET, *args, tmp_path / "whole")

    records = tmp_path / "cut/inference/toy"
    command = [*TRAIN_NET, *map(str, args), str(tmp_path / "cut")]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while sum(p.read_bytes().count(b"image_id") for p in records.glob("*.jsonl")) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (records / "summary.json").exists()

    output = run(TRAIN_NET, *args, tmp_path / "cut")
    kept = int(re.search(r"(\d+) finished samples are kept", output)[1])
    assert 10 <= kept < 40
    # The rest, and only the rest, was run.
    per_process = -(-(40 - kept) // processes)
    assert f"Start inference on {per_process} batches" in output
    assert summary(tmp_path / "cut") == summary(tmp_path / "whole")


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--config-file", "nowhere.yaml"], 2, "nowhere.yaml: no such config file"),
        (["MODEL.WEIGHS", "x"], 2, "unknown key MODEL.WEIGHS; did you mean MODEL.WEIGHTS?"),
        (["MODEL.META_ARCHITECTURE", "Nothing"], 2, "'Nothing'"),
        (["MODEL.WEIGHTS", "gone.pth"], 2, "gone.pth"),
        (["DATASETS.TEST", '("rwdt",)'], 2, "did you mean rwtd?"),
        (["DATASETS.TEST", "()"], 2, "DATASETS.TEST is empty"),
        (["TEST.COUNT", "many"], 2, "TEST.COUNT 'many': use regime"),
        (["DATASETS.TEST", '("rwtd",)'], 2, "DETECTURE_DATASETS_ROOT"),
        (["--dataset-json", "gone.json"], 2, "gone.json does not exist"),
        (["OUTPUT_DIR", __file__], 2, "cannot be written to"),
        (["--num-gpus", "0"], 2, "--num-gpus 0: at least 1 process"),
        (["TEST.BOOTSTRAP_SAMPLES", "0"], 2, "TEST.BOOTSTRAP_SAMPLES is 0"),
    ],
)
def test_wrong_input_ends_with_a_message_and_a_status(
    tmp_path, args, status, message, capfd, caplog, monkeypatch
):
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path))
    given = args if "--config-file" in args else ["--config-file", HALVES, *args]
    command = ["--eval-only", *given]
    if "OUTPUT_DIR" not in args:
        command += ["OUTPUT_DIR", str(tmp_path)]
    assert engine.run(train_net().main, engine.argument_parser().parse_args(command)) == status
    captured = capfd.readouterr()
    output = captured.out + captured.err + caplog.text
    assert message in output
    assert "Traceback" not in output


def train_net():
    spec = importlib.util.spec_from_file_location("train_net", TRAIN_NET[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_an_error_in_two_processes_has_the_same_status(tmp_path):
    args = ["--config-file", HALVES, "--eval-only", "--num-gpus", 2]
    output = run(TRAIN_NET, *args, "DATASETS.TEST", '("rwdt",)', "OUTPUT_DIR", tmp_path, status=2)
    assert "did you mean rwtd?" in output


ONE_FAILS = """
import sys
from detecture.d2 import comm
from detecture.engine.command_line import argument_parser, run
from detecture.errors import DatasetError

def main(args):
    if comm.get_rank() == 1:
        raise DatasetError("b.png: only this process reads it")
    comm.synchronize()

if __name__ == "__main__":
    sys.exit(run(main, argument_parser().parse_args()))
"""


@pytest.mark.slow
def test_an_error_that_only_one_process_has_is_told(tmp_path):
    (tmp_path / "one_fails.py").write_text(ONE_FAILS)
    output = run([sys.executable, str(tmp_path / "one_fails.py")], "--num-gpus", 2, status=2)
    assert "process 1: b.png: only this process reads it" in output


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("missing", ["weights", "images"])
def test_what_is_missing_is_said_without_pages_of_config(toy, tmp_path, missing, trains, caplog):
    # Data sets stay registered in this process: each needs a name of its own.
    data = toy.parent.rename(tmp_path / f"{missing}_{trains}") / toy.name
    words = ["--dataset-json", str(data), *([] if trains else ["--eval-only"])]
    words += ["OUTPUT_DIR", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"]
    if missing == "images":
        shutil.rmtree(data.parent / "images")
    else:
        words += ["MODEL.WEIGHTS", str(tmp_path / "none.safetensors")]
    due = {"weights": "no such checkpoint; check MODEL.WEIGHTS", "images": "none of its images"}
    with pytest.raises((CheckpointError, DatasetError), match=due[missing]):
        engine.setup(engine.argument_parser().parse_args(words))
    assert "Running with full config" not in caplog.text


def test_one_bad_image_does_not_end_the_run(toy, tmp_path):
    (toy.parent / "images/toy_3.png").write_bytes(b"")
    args = ["--config-file", HALVES, "--eval-only", "--dataset-json", toy, "SEED", 2**40]
    output = run(TRAIN_NET, *args, "OUTPUT_DIR", tmp_path / "out")
    assert summary(tmp_path / "out")["statuses"] == {"image_unreadable": 1, "ok": 7}
    assert "toy_3.png" in output
    last = output.strip().splitlines()[-1]
    assert "toy: 1 of 8 images FAILED (1 image_unreadable), so the figures" in last
    # More than numpy takes as a seed; what was asked for is what is written down.
    written = (tmp_path / "out/inference/toy/config.yaml").read_text()
    assert yaml.safe_load(written)["SEED"] == 2**40


def test_a_data_set_of_another_kind_is_refused(tmp_path):
    MetadataCatalog.get("others_val").set(evaluator_type="coco")
    try:
        with pytest.raises(ConfigError, match="'others_val', whose evaluator_type is 'coco'; kno"):
            engine.evaluate_dataset(make_config(None), None, "others_val")
    finally:
        MetadataCatalog.remove("others_val")


def test_commands_without_a_folder_show_our_log(capsys):
    engine.log_to_terminal()
    logging.getLogger("detecture.part").info("heard once")
    assert capsys.readouterr().out.count("heard once") == 1


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line]


@pytest.mark.slow
def test_training_lowers_the_loss_evaluates_and_resumes(toy, tmp_path):
    args = ["--dataset-json", toy, *TOY_TRAINING, "OUTPUT_DIR", tmp_path / "out"]
    output = run(TRAIN_TOY, *args, "SOLVER.MAX_ITER", 10, "DATASETS.TEST", '("toy",)')
    assert "saving checkpoint" in output
    assert summary(tmp_path / "out")["n_total"] == 8

    output = run(TRAIN_TOY, "--resume", *args, "SOLVER.MAX_ITER", 60, "DATASETS.TEST", '("toy",)')
    assert "Starting training from iteration 10" in output
    last = summary(tmp_path / "out")["mIoU"]
    assert last > 0.9
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]

    evaluated = run(
        TRAIN_TOY,
        *("--eval-only", "--config-file", tmp_path / "out/config.yaml"),
        *("--dataset-json", toy, "OUTPUT_DIR", tmp_path / "eval"),
        *("MODEL.WEIGHTS", tmp_path / "out/model_final.safetensors"),
    )
    assert "copypaste" in evaluated
    assert summary(tmp_path / "eval")["mIoU"] == pytest.approx(last)
    resumed = run(
        TRAIN_TOY,
        *("--eval-only", "--resume", "--config-file", tmp_path / "out/config.yaml"),
        *("--dataset-json", toy),
    )
    assert "model_final.safetensors" in resumed
    assert summary(tmp_path / "out")["mIoU"] == pytest.approx(last)


@pytest.mark.slow
def test_training_in_two_processes_equals_one(toy, tmp_path):
    args = ["--dataset-json", toy, *TOY_TRAINING, "OUTPUT_DIR"]
    run(TRAIN_TOY, *args, tmp_path / "one", "SOLVER.MAX_ITER", 5)
    run(TRAIN_TOY, "--num-gpus", 2, *args, tmp_path / "two", "SOLVER.MAX_ITER", 5)
    one, two = (load_file(tmp_path / f"{name}/model_final.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    # Other images go into a batch on two processes (the sampler deals them out), but both runs
    # see batches of four and must end near each other, and far from where they started.
    assert losses(tmp_path / "two")[-1] < 0.7
    assert losses(tmp_path / "one")[-1] < 0.7


def test_a_method_without_parameters_is_not_trained(toy, tmp_path):
    output = run(
        TRAIN_NET,
        *("--config-file", HALVES, "--dataset-json", toy, "OUTPUT_DIR", tmp_path),
        status=2,
    )
    assert "HalfSplit has no parameters to train; use --eval-only" in output


@pytest.mark.slow
def test_a_config_that_somebody_wrote_is_not_replaced(toy, tmp_path):
    """As where OUTPUT_DIR is the folder of the config itself."""
    text = f"_BASE_: {HALVES}\nTEST:\n  COUNT: '2'\n"
    (tmp_path / "config.yaml").write_text(text)
    words = ["--eval-only", "--config-file", tmp_path / "config.yaml", "--dataset-json", toy]
    output = run(TRAIN_NET, *words, "OUTPUT_DIR", tmp_path, status=2)
    assert f"{tmp_path / 'config.yaml'}: is there already, and no run wrote it" in output
    assert (tmp_path / "config.yaml").read_text() == text
    for _ in range(2):
        run(TRAIN_NET, *words, "OUTPUT_DIR", tmp_path / "out")

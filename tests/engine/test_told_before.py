"""What can be known of a training or an evaluation is told before it, or where it goes on."""

import json
import logging
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from engine.test_training import config, train
from staged_toy import StagedToy
from torch.nn.parallel import DistributedDataParallel
from toy import register_toy_dataset, write_toy_dataset

from detecture.d2 import DatasetCatalog, EventStorage, TensorboardXWriter
from detecture.engine import Trainer, argument_parser, evaluate, load_model, setup
from detecture.engine.accumulation import AccumulatingTrainer
from detecture.errors import ConfigError, DatasetError


@pytest.fixture
def toys(tmp_path):
    """Makes registered data sets in a folder of this test; gives the JSON files and the names."""
    made = []

    def make(name, count=4, k=2):
        path = write_toy_dataset(tmp_path / name, count=count, k=k)
        made.append(register_toy_dataset(path))
        return path, made[-1]

    yield make
    for name in made:
        DatasetCatalog.remove(name)


def evaluating(train_name, folder, test_name, *overrides):
    test = ("DATASETS.TEST", repr((test_name,)), "TEST.BOOTSTRAP_SAMPLES", "5")
    return config((train_name,), folder, *test, "SOLVER.MAX_ITER", "2", *overrides)


@pytest.mark.parametrize(
    ("task", "metric", "told"),
    [
        ("texture", "mIuO", "did you mean texture/mIoU"),
        ("textures", "mIoU", "did you mean texture/mIoU"),
        ("sem_seg", "mIoU", "is not measured"),
    ],
)
def test_an_expected_result_that_nothing_measures(toys, tmp_path, task, metric, told):
    _, name = toys("set")
    expected = ("TEST.EXPECTED_RESULTS", repr([[task, metric, 0, 1]]))
    cfg = evaluating(name, tmp_path / "out", name, *expected)
    with pytest.raises(ConfigError, match=rf"TEST\.EXPECTED_RESULTS '{task}/{metric}'.*{told}"):
        Trainer(cfg)
    with pytest.raises(ConfigError, match=r"TEST\.EXPECTED_RESULTS"):
        evaluate(cfg, load_model(cfg))
    assert not (tmp_path / "out").exists()


def test_results_are_expected_of_no_data_set(toys, tmp_path):
    _, name = toys("set")
    expected = ("TEST.EXPECTED_RESULTS", "[['texture', 'mIoU', 0, 1]]")
    with pytest.raises(ConfigError, match=r"because DATASETS\.TEST is empty"):
        Trainer(config((name,), tmp_path / "out", *expected))


@pytest.mark.parametrize(("gone", "what"), [("images", "images"), ("textures_mask", "masks")])
def test_a_data_set_without_any_of_its_files(toys, tmp_path, gone, what):
    _, sound = toys("sound")
    path, broken = toys("broken")
    shutil.rmtree(path.parent / gone)
    for names in ((broken, sound), (sound, broken)):
        with pytest.raises(DatasetError, match=f"none of its {what}"):
            Trainer(evaluating(names[0], tmp_path / "out", names[1]))
    cfg = evaluating(sound, tmp_path / "out", sound, "DATASETS.TEST", repr((sound, broken)))
    with pytest.raises(DatasetError, match=f"none of its {what}"):
        evaluate(cfg, load_model(cfg))
    assert not (tmp_path / "out").exists()  # the sound one neither
    (path.parent / gone).mkdir()
    first = json.loads(path.read_text())[3]
    first = first["image_path"] if gone == "images" else first["textures"][1]["mask_path"]
    (path.parent / first).write_bytes(b"")  # one file, sound or not, is a matter of its image
    Trainer(evaluating(sound, tmp_path / "out", broken))


def test_records_without_a_word_are_told(toys, tmp_path, caplog):
    path, name = toys("silent")
    entries = json.loads(path.read_text())
    for entry in entries[1:]:
        for texture in entry["textures"]:
            texture["description"] = " "
    path.write_text(json.dumps(entries))
    Trainer(config((name,), tmp_path / "out"))
    assert "all descriptions are empty in 3 of its 4 records (the first: toy_1)" in caplog.text
    caplog.clear()
    cfg = evaluating(name, tmp_path / "out", name)
    evaluate(cfg, load_model(cfg))
    assert "descriptions are empty" not in caplog.text
    cfg = evaluating(name, tmp_path / "oracle", name, "TEST.ORACLE", "True")
    evaluate(cfg, load_model(cfg))
    assert caplog.text.count("all descriptions are empty in 3 of its 4 records") == 1
    assert "TEST.ORACLE tells the method nothing" in caplog.text


# ---- weights of the folder's own run -------------------------------------------------------------


@pytest.mark.parametrize(
    "file", ["model_final.safetensors", "last_checkpoint", ".", "link.safetensors"]
)
def test_weights_that_the_training_would_replace(toys, tmp_path, file):
    _, name = toys("set")
    out = tmp_path / "out"
    train(config((name,), out, "SOLVER.MAX_ITER", "4"))
    (tmp_path / "link.safetensors").symlink_to(out / "model_final.safetensors")
    weights = (tmp_path if file.startswith("link") else out) / file
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    again = ("SOLVER.MAX_ITER", "4", "MODEL.WEIGHTS", str(weights))
    with pytest.raises(
        ConfigError, match=r"MODEL\.WEIGHTS .* another OUTPUT_DIR, or copy the file"
    ):
        train(config((name,), out, *again))
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    train(config((name,), tmp_path / "other", *again))  # the pointer of another folder too
    train(config((name,), out, *again), resume=True)  # it goes on, and does not read it
    moved = tmp_path / "out/earlier_run_1"
    moved.mkdir()
    shutil.copy(out / "model_final.safetensors", moved)
    train(config((name,), out, "MODEL.WEIGHTS", str(moved / "model_final.safetensors")))


# ---- going on with something else ----------------------------------------------------------------


def test_what_has_changed_since_is_told(toys, tmp_path, caplog):
    (_, one), (path, other) = toys("one"), toys("other")
    out, names = tmp_path / "out", (one, other)
    train(config(names, out), stop=5)
    same = ("DATALOADER.NUM_WORKERS", 1, "TEST.LIMIT", 3, "SOLVER.LOG_PERIOD", 2)
    caplog.clear()
    train(config(names, out, *same, "SOLVER.CHECKPOINT_PERIOD", 50), resume=True, stop=5)
    assert "goes on with" not in caplog.text
    changed = {
        "LOSS.NORMALIZER": "published",
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.MAX_ITER": 12,
        "MODEL.BRIDGE.DROPOUT": 0.25,
        "INPUT.TRAIN_SIZE": 20,
        "DATASETS.TRAIN": repr((one,)),
    }
    overrides = [word for pair in changed.items() for word in pair]
    before = config(names, out)
    train(config(names, out, *overrides), resume=True, stop=5)
    for key, value in changed.items():
        old = before
        for part in key.split("."):
            old = old[part]
        told = f"another {key}: " + (f"['{one}']" if key == "DATASETS.TRAIN" else f"{value!r}")
        assert told in caplog.text, key
        if key != "DATASETS.TRAIN":
            assert f"{value!r} now, {old!r} in the checkpoint" in caplog.text
    assert caplog.text.count("goes on with") == len(changed)
    caplog.clear()
    entries = json.loads(path.read_text())
    path.write_text(json.dumps(entries[1:]))
    train(config(names, out), resume=True, stop=5)
    assert f"other data: {other} has 3 records" in caplog.text
    assert "'4 records (" in caplog.text and f"other data: {one}" not in caplog.text


def test_the_best_of_another_metric_is_forgotten(toys, tmp_path, caplog):
    _, name = toys("set")
    test = ("DATASETS.TEST", repr((name,)), "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC")
    train(config((name,), tmp_path, *test, "texture/mIoU"), stop=3)
    caplog.clear()
    trainer = Trainer(config((name,), tmp_path, *test, "loss_mask"))
    trainer.resume_or_load(True)
    assert "TEST.BEST_METRIC is 'loss_mask' now, 'texture/mIoU' in the checkpoint" in caplog.text
    assert trainer._validation.best is None
    trainer = Trainer(config((name,), tmp_path, *test, "texture/mIoU"))
    trainer.resume_or_load(True)
    assert trainer._validation.best is not None


# ---- several processes ---------------------------------------------------------------------------


class WithUnused(StagedToy):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.spare = torch.nn.Linear(2, 2)
        self.sometimes = torch.nn.Parameter(torch.ones(()))
        self.calls = 0

    def forward(self, batch, normalizers=None):
        losses = super().forward(batch, normalizers)
        self.calls += 1
        if self.calls % 2:  # in the first micro-batch alone
            losses["loss_mask"] = losses["loss_mask"] * self.sometimes
        return losses


def test_a_layer_without_a_part_in_the_losses_is_named(toys, tmp_path):
    _, name = toys("set")
    cfg = config((name,), tmp_path, "SOLVER.ACCUMULATION", "2")
    torch.manual_seed(0)
    loader = iter(Trainer.build_train_loader(cfg))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", world_size=1, rank=0)
    try:

        def step(model):
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            trainer = AccumulatingTrainer(
                DistributedDataParallel(model), loader, optimizer, cfg=cfg, seed=0
            )
            with EventStorage():
                for trainer.iter in range(2):
                    trainer.run_step()

        step(StagedToy(cfg))
        with pytest.raises(
            ConfigError, match=r"WithUnused: 3 parameters .* of iteration 0"
        ) as told:
            step(WithUnused(cfg))
        for parameter in ("spare.weight", "spare.bias", "sometimes", "requires_grad_(False)"):
            assert parameter in str(told.value)
        mended = WithUnused(cfg)
        for parameter in (*mended.spare.parameters(), mended.sometimes):
            parameter.requires_grad_(False)
        step(mended)
    finally:
        dist.destroy_process_group()


# ---- a full disk ---------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_on_a_full_disk_is_told_once(toys, tmp_path, capsys):
    _, name = toys("set")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/log.txt").symlink_to("/dev/full")
    words = [*("DATASETS.TEST", repr((name,)), "OUTPUT_DIR", str(tmp_path / "out"))]
    words += ["MODEL.META_ARCHITECTURE", "StagedToy", "MODEL.DEVICE", "cpu"]
    cfg = setup(argument_parser().parse_args(["--eval-only", *words]))
    evaluate(cfg, load_model(cfg))
    for name_of_logger in ("fvcore", "detectron2", "detecture"):
        for handler in logging.getLogger(name_of_logger).handlers:
            with suppress(OSError):  # the rest of the log, which logging too leaves at the end
                handler.close()
    told = capsys.readouterr().err
    assert "Logging error" not in told and "Traceback" not in told
    assert (
        f"{tmp_path / 'out/log.txt'}: cannot be written (" in told
        and "No space left on device" in told
    )
    assert told.count("the work goes on") <= 3  # one for each logger's handler
    assert (tmp_path / f"out/inference/{name}/summary.json").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_metrics_and_tensorboard_on_a_full_disk(toys, tmp_path, monkeypatch, capfd, caplog):
    _, name = toys("set")
    opened = TensorboardXWriter.write

    def full(self):
        opened(self)
        record_writer = self._writer.file_writer.event_writer._async_writer._worker._record_writer
        record_writer._writer.filename = "/dev/full"

    monkeypatch.setattr(TensorboardXWriter, "write", full)
    hook = threading.excepthook
    train(config((name,), tmp_path))
    assert threading.excepthook == hook
    assert caplog.text.count("TensorboardXWriter cannot write") == 1
    assert "Traceback" not in capfd.readouterr().err + caplog.text
    assert (tmp_path / "model_final.safetensors").is_file()

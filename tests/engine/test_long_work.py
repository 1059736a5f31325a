"""What goes wrong beside a training costs none of it; what can be known before is told before."""

import json
import sys
from pathlib import Path

import pytest
import torch
from engine.test_training import Stop, config, losses, same, train, weights
from staged_toy import StagedToy

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.d2 import DatasetCatalog, JSONWriter, MetadataCatalog, hooks
from detecture.data import register_texture_dataset
from detecture.engine import Trainer
from detecture.errors import CheckpointError, ConfigError, DatasetError, EvaluationError
from detecture.evaluation.records import records_lock

REPO = Path(__file__).parents[2]
TRAIN_TOY = [sys.executable, str(REPO / "tests/train_toy.py")]


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(config(data, folder))
    return folder


def evaluated(data, folder, *overrides):
    """A config that evaluates after every second iteration; checkpoints are due after three."""
    test = ("DATASETS.TEST", repr(data[:1]), "TEST.EVAL_PERIOD", "2")
    return config(data, folder, *test, *overrides)


def measured_at(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [one["iteration"] for one in lines if "texture/mIoU" in one]


def is_unbroken(folder, unbroken):
    return losses(folder) == losses(unbroken) and same(weights(folder), weights(unbroken))


ERRORS = [
    EvaluationError("the method failed on 10 images in a row"),
    DatasetError("metadata.json is gone"),
    OSError(28, "No space left on device"),
    RuntimeError("out of memory"),
    KeyError("sem_seg"),
    torch.OutOfMemoryError("out of memory"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_evaluation_that_fails_costs_no_training(
    unbroken, data, tmp_path, monkeypatch, caplog, error
):
    original = Trainer.test
    seen = []

    def test(cfg, model):
        pointer = (tmp_path / "last_checkpoint").read_text()
        seen.append(pointer)
        if len(seen) == 2:
            raise error
        return original(cfg, model)

    monkeypatch.setattr(Trainer, "test", staticmethod(test))
    trainer = train(evaluated(data, tmp_path, "TEST.BEST_METRIC", "texture/mIoU"))
    # A checkpoint of the very iteration was written before each of them.
    assert seen == [
        *(f"model_000000{i}.safetensors" for i in (1, 3, 5, 7)),
        "model_final.safetensors",
    ]
    assert is_unbroken(tmp_path, unbroken)
    assert measured_at(tmp_path) == [1, 5, 7, 10]
    assert trainer.model.training
    assert "EVALUATION FAILED, and is left out, after iteration 3" in caplog.text
    assert str(error) in caplog.text


def test_a_model_that_fails_on_every_image_goes_on_training(
    unbroken, data, tmp_path, monkeypatch, caplog
):
    def fail(self, sample):
        raise ValueError("no answer")

    monkeypatch.setattr(StagedToy, "_output", fail)
    with pytest.raises(EvaluationError, match=r"its weights are saved.*--resume"):
        train(evaluated(data, tmp_path, "TEST.MAX_FAILURES_IN_A_ROW", "2"))
    assert is_unbroken(tmp_path, unbroken)
    assert caplog.text.count("EVALUATION FAILED") == 5
    monkeypatch.undo()
    # As the error says: nothing is trained again, and the finished weights are evaluated.
    train(evaluated(data, tmp_path), resume=True)
    assert is_unbroken(tmp_path, unbroken)
    assert measured_at(tmp_path)[-1] == 10


def test_a_failed_evaluation_is_no_step_to_an_early_stop(data, tmp_path, monkeypatch):
    values = {1: 0.5, 3: None, 5: None, 7: 0.4, 9: 0.3}
    running = []

    def fake(cfg, model):
        if (value := values[running[-1].iter]) is None:
            raise RuntimeError("out of memory")
        return {"texture": {"mIoU": value}}

    monkeypatch.setattr(Trainer, "test", staticmethod(fake))
    overrides = ("TEST.BEST_METRIC", "texture/mIoU", "TEST.EARLY_STOPPING_PATIENCE", "2")
    running.append(Trainer(evaluated(data, tmp_path, *overrides, "SOLVER.MAX_ITER", "20")))
    running[-1].train()
    assert running[-1].iter == 9
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.safetensors"


def test_records_that_another_run_holds_are_left_to_it(unbroken, data, tmp_path, caplog):
    folder = tmp_path / "inference" / data[0]
    lock = records_lock(folder)
    lock.acquire()

    class Release(hooks.HookBase):
        def before_step(self):
            if self.trainer.iter == 5:
                lock.release()

    trainer = Trainer(evaluated(data, tmp_path))
    trainer.register_hooks([Release()])
    trainer.train()
    assert "an evaluation is running there" in caplog.text
    assert caplog.text.count("another run is writing its records here") == 2
    assert is_unbroken(tmp_path, unbroken)
    assert measured_at(tmp_path) == [5, 7, 10]


def test_a_checkpoint_that_cannot_be_written_costs_no_training(
    unbroken, data, tmp_path, monkeypatch, caplog
):
    save = Checkpointer.save

    def full(self, name, **values):
        if name in ("model_0000003", "model_0000005"):
            raise CheckpointError(f"{name}: cannot be written (No space left on device)")
        save(self, name, **values)

    monkeypatch.setattr(Checkpointer, "save", full)
    train(evaluated(data, tmp_path))
    assert is_unbroken(tmp_path, unbroken)
    assert "CHECKPOINT NOT SAVED: model_0000003" in caplog.text

    def always_full(self, name, **values):
        raise CheckpointError(f"{name}: cannot be written (No space left on device)")

    monkeypatch.setattr(Checkpointer, "save", always_full)
    with pytest.raises(CheckpointError, match="model_final"):
        train(evaluated(data, tmp_path / "full"))


def test_a_best_model_that_cannot_be_written_is_tried_again(data, tmp_path, monkeypatch, caplog):
    save = Checkpointer.save_weights
    tried = []

    def full_once(self, name, **values):
        tried.append(name)
        if len(tried) == 1:
            raise CheckpointError(f"{name}: cannot be written (No space left on device)")
        save(self, name, **values)

    monkeypatch.setattr(Checkpointer, "save_weights", full_once)
    monkeypatch.setattr(
        Trainer, "test", staticmethod(lambda cfg, model: {"texture": {"mIoU": 0.5}})
    )
    train(evaluated(data, tmp_path, "TEST.BEST_METRIC", "texture/mIoU"))
    assert tried == ["model_best", "model_best"]
    assert (tmp_path / "model_best.safetensors").exists()
    assert "EVALUATION FAILED" in caplog.text


def test_a_log_that_cannot_be_written_costs_no_training(
    unbroken, data, tmp_path, monkeypatch, caplog
):
    write, calls = JSONWriter.write, []

    def full(self):
        calls.append(1)
        if 3 <= len(calls) <= 5:
            raise OSError(28, "No space left on device")
        write(self)

    monkeypatch.setattr(JSONWriter, "write", full)
    train(config(data, tmp_path))
    assert same(weights(tmp_path), weights(unbroken))
    assert [i for i, _ in losses(tmp_path)] == [0, 1, 5, 6, 7, 8, 9]
    assert caplog.text.count("JSONWriter cannot write") == 1


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("texture/mIuO", "did you mean texture/mIoU?"),
        ("mIoU", "did you mean texture/mIoU?"),
        ("sem_seg/mIoU", "measured are texture/ARI"),
        ("accuracy", "is not measured"),
    ],
)
def test_a_metric_that_nothing_measures_is_refused_before(data, tmp_path, metric, told):
    with pytest.raises(ConfigError, match=r"TEST\.BEST_METRIC") as caught:
        Trainer(evaluated(data, tmp_path, "TEST.BEST_METRIC", metric))
    assert told in str(caught.value)


def test_of_several_sets_each_has_names_of_its_own(data, tmp_path):
    both = ("DATASETS.TEST", repr(data))
    Trainer(evaluated(data, tmp_path, *both, "TEST.BEST_METRIC", f"{data[1]}/texture/ARI"))
    with pytest.raises(ConfigError, match="did you mean"):
        Trainer(evaluated(data, tmp_path, *both, "TEST.BEST_METRIC", "texture/ARI"))
    with pytest.raises(ConfigError, match=r"losses alone, because DATASETS\.TEST is empty"):
        Trainer(config(data, tmp_path, "TEST.BEST_METRIC", "texture/ARI"))


def test_a_loss_that_the_model_does_not_have_is_told_after_one_iteration(data, tmp_path):
    train(evaluated(data, tmp_path / "a", "TEST.BEST_METRIC", "loss_mask"))
    assert (tmp_path / "a/model_best.safetensors").exists()
    trainer = Trainer(evaluated(data, tmp_path / "b", "TEST.BEST_METRIC", "loss_masks"))
    with pytest.raises(ConfigError, match="'loss_masks' was not measured; measured are "):
        trainer.train()
    assert trainer.iter == 0


def test_all_that_is_said_to_be_measured_is(data, tmp_path):
    from detecture.engine.evaluate import evaluate, load_model, measured_names
    from detecture.evaluation.texture_sam_metric import TOUCHING_METRICS

    cfg = evaluated(data, tmp_path)
    found = {f"texture/{name}" for name in evaluate(cfg, load_model(cfg))["texture"]}
    assert measured_names(cfg) == found | {f"texture/{name}" for name in TOUCHING_METRICS}


def test_a_missing_test_set_is_told_before(data, tmp_path):
    register_texture_dataset("nowhere_set", tmp_path / "x/metadata.json", tmp_path / "x")
    try:
        with pytest.raises(DatasetError, match="does not exist"):
            Trainer(config(data, tmp_path / "out", "DATASETS.TEST", "('nowhere_set',)"))
    finally:
        DatasetCatalog.remove("nowhere_set")
        MetadataCatalog.remove("nowhere_set")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_for_records_is_told_before(data, tmp_path):
    (tmp_path / "inference").write_text("a file of that name")
    trainer = Trainer(evaluated(data, tmp_path))
    with pytest.raises(EvaluationError, match="cannot be written to"):
        trainer.train()
    assert trainer.iter == 0 and not (tmp_path / "config.yaml").exists()


def test_a_stop_inside_an_evaluation_is_gone_on_from(unbroken, data, tmp_path):
    """The evaluation was owed by the checkpoint before it, though none was due by then."""
    cfg = evaluated(data, tmp_path, "SOLVER.CHECKPOINT_PERIOD", "100")
    trainer = Trainer(cfg)
    trainer.register_hooks([Stop(6)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.safetensors"
    assert train(cfg, resume=True).start_iter == 6
    assert losses(tmp_path) == losses(unbroken)
    assert measured_at(tmp_path) == [1, 3, 5, 7, 10]

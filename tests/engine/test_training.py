"""The training loop, with a toy model that has stages, parts and losses that depend on K."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from staged_toy import StagedToy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detecture.config import make_config
from detecture.d2 import hooks
from detecture.engine import Trainer
from detecture.engine.run_folder import reserved, trim_metrics
from detecture.engine.trainer import autocast_precision
from detecture.errors import ConfigError

BASE = [
    *("MODEL.META_ARCHITECTURE", "StagedToy", "MODEL.DEVICE", "cpu", "SEED", "3"),
    *("MODEL.BRIDGE.DROPOUT", "0.3", "INPUT.TRAIN_SIZE", "24", "INPUT.MICRO_CROP.PROB", "0.5"),
    *("INPUT.MICRO_CROP.MIN_REGIONS", "1", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.ACCUMULATION", "2", "SOLVER.BASE_LR", "0.05"),
    *("SOLVER.OPTIMIZER", "AdamW", "SOLVER.LR_FACTOR.VLM", "0.5", "SOLVER.WARMUP_ITERS", "2"),
    *("SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine", "SOLVER.CURRICULUM.STAGE2_ITER", "5"),
    *("SOLVER.MAX_ITER", "10", "SOLVER.CHECKPOINT_PERIOD", "3", "SOLVER.LOG_PERIOD", "1"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
    *("TEST.BOOTSTRAP_SAMPLES", "5", "TEST.SAVE_LABEL_MAPS", "False"),
]


def config(data, folder, *overrides):
    where = ("DATASETS.TRAIN", repr(data), "OUTPUT_DIR", str(folder), "DATASETS.TEST", "()")
    return make_config(None, [*BASE, *where, *map(str, overrides)])


class Stop(hooks.HookBase):
    """Ends a training as a kill would, before the iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


def train(cfg, *, resume=False, stop=None):
    torch.manual_seed(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    if stop is None:
        trainer.train()
    else:
        trainer.register_hooks([Stop(stop)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    return trainer


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def losses(folder):
    """(iteration, losses) of every line that has any."""
    found = [
        (one["iteration"], {k: v for k, v in one.items() if "loss" in k or k == "grad_norm"})
        for one in lines(folder)
    ]
    return [one for one in found if one[1]]


def weights(folder, name="model_final"):
    return load_file(folder / f"{name}.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    train(config(data, folder))
    return folder


def test_an_unbroken_run(unbroken):
    found = losses(unbroken)
    assert [iteration for iteration, _ in found] == list(range(10))
    assert set(found[4][1]) == {"total_loss", "loss_mask", "grad_norm"}
    assert set(found[5][1]) == {"total_loss", "loss_mask", "loss_lm", "grad_norm"}
    assert found[9][1]["total_loss"] == found[9][1]["loss_mask"] + found[9][1]["loss_lm"]
    assert {"lr", "lr/bridge", "lr/vlm"} <= set(lines(unbroken)[0])
    assert lines(unbroken)[5]["lr/bridge"] < 0.2 * lines(unbroken)[4]["lr/bridge"]
    files = sorted(p.name for p in unbroken.glob("model_*"))
    assert files == [
        f"{name}.{ending}"
        for name in ("model_0000005", "model_0000008", "model_final")
        for ending in ("safetensors", "training.pth")
    ]


@pytest.mark.parametrize(("stop", "workers"), [(4, 0), (2, 0), (8, 2)])
def test_resumed_equals_uninterrupted_bit_by_bit(unbroken, data, tmp_path, stop, workers):
    cfg = config(data, tmp_path, "DATALOADER.NUM_WORKERS", workers)
    train(cfg, stop=stop)
    resumed = train(cfg, resume=True)
    assert resumed.start_iter == stop // 3 * 3
    assert losses(tmp_path) == losses(unbroken)
    assert same(weights(tmp_path), weights(unbroken))


def test_a_seed_of_its_own_is_kept(data, tmp_path):
    """With SEED -1, another process resumes with the seed of the first one."""
    cfg = config(data, tmp_path, "SEED", -1)
    cut, whole = cfg.clone(), cfg.clone()
    for one, name in ((cut, "cut"), (whole, "whole")):
        one.defrost()
        one.OUTPUT_DIR = str(tmp_path / name)
    first = Trainer(cut)
    first.resume_or_load(False)
    first.register_hooks([Stop(5)])
    with pytest.raises(KeyboardInterrupt):
        first.train()
    trainer = Trainer(cut)
    assert trainer.seed != first.seed
    trainer.resume_or_load(True)
    assert trainer.seed == first.seed
    trainer.train()
    again = Trainer(whole)
    again.seed = again._trainer.seed = again._stream.seed = first.seed
    again.train()
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_micro_batches_are_one_batch(data, tmp_path):
    """With a different number of regions in each, in double precision."""
    exact = ["MODEL.DTYPE", "float64", "MODEL.BRIDGE.DROPOUT", "0.0", "SOLVER.IMS_PER_BATCH", 4]
    exact += ["SOLVER.CURRICULUM.STAGE2_ITER", 2, "SOLVER.MAX_ITER", 4, "SOLVER.OPTIMIZER", "SGD"]
    runs = {}
    for parts in (1, 2, 4):
        folder = tmp_path / str(parts)
        train(config(data, folder, *exact, "SOLVER.ACCUMULATION", parts))
        runs[parts] = (losses(folder), weights(folder))
    for parts in (2, 4):
        for (_, one), (_, other) in zip(runs[1][0], runs[parts][0], strict=True):
            assert one == pytest.approx(other, rel=1e-9)
        for name, tensor in runs[1][1].items():
            assert torch.allclose(tensor, runs[parts][1][name], rtol=1e-9, atol=1e-12)
    folder = tmp_path / "published"
    train(config(data, folder, *exact, "SOLVER.ACCUMULATION", 4, "LOSS.NORMALIZER", "published"))
    published = [one["total_loss"] for _, one in losses(folder)]
    assert published != pytest.approx([one["total_loss"] for _, one in runs[4][0]], rel=1e-9)


def test_frozen_parts_have_no_gradient_and_no_state(data, tmp_path):
    class Look(hooks.HookBase):
        seen = ()

        def after_step(self):
            trainer = self.trainer
            model, state = trainer._trainer.model, trainer.optimizer.state
            for name, parameter in model.named_parameters():
                trains = name.startswith("bridge") or (name.startswith("vlm") and trainer.iter >= 5)
                assert (parameter.grad is not None) == trains, (name, trainer.iter)
                assert (parameter in state) == trains, (name, trainer.iter)
            self.seen = (*self.seen, trainer.iter)

    trainer = Trainer(config(data, tmp_path))
    look = Look()
    trainer.register_hooks([look])
    trainer.train()
    assert look.seen == tuple(range(10))


def test_a_nan_stops_before_the_update_and_names_the_file(data, tmp_path, monkeypatch):
    monkeypatch.setattr(StagedToy, "poisoned", "toy_3")
    trainer = Trainer(config(data, tmp_path))
    before = []

    class Keep(hooks.HookBase):
        def before_step(self):
            before.append({k: v.clone() for k, v in trainer.model.state_dict().items()})

    trainer.register_hooks([Keep()])
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    assert f"in iteration {len(before) - 1}, before the update: loss_mask is nan for" in str(
        error.value
    )
    assert "toy_3.png" in str(error.value)
    assert same(before[-1], trainer.model.state_dict())


def test_evaluation_disturbs_nothing(unbroken, data, tmp_path):
    test = ("DATASETS.TEST", repr(data[:1]), "TEST.EVAL_PERIOD", "2")
    cfg = config(data, tmp_path, *test, "TEST.VALIDATION_IMAGES", "2")
    trainer = train(cfg)
    assert losses(tmp_path) == losses(unbroken)
    assert trainer.model.training
    evaluated = [one["iteration"] for one in lines(tmp_path) if "texture/mIoU" in one]
    assert evaluated == [1, 3, 5, 7, 10]
    events = EventAccumulator(str(tmp_path), {"images": 0}).Reload()
    names = [f"{data[0]}/toy_{number}" for number in range(2)]
    assert sorted(events.Tags()["images"]) == names
    drawn = [event.step for event in events.Images(names[0])]
    assert drawn == evaluated
    height, width = (getattr(events.Images(names[0])[0], side) for side in ("height", "width"))
    assert width == 2 * height  # the prediction, and the truth beside it


def test_best_and_early_stopping_survive_a_resume(data, tmp_path, monkeypatch):
    values = {1: 0.5, 3: 0.9, 5: 0.7, 7: 0.9, 9: 0.1}

    def fake(cfg, model):
        return {"texture": {"mIoU": values[running[-1].iter]}}

    monkeypatch.setattr(Trainer, "test", staticmethod(fake))
    running = []
    cfg = config(
        *(data, tmp_path, "TEST.EVAL_PERIOD", "2", "TEST.BEST_METRIC", "texture/mIoU"),
        *("TEST.EARLY_STOPPING_PATIENCE", "2", "SOLVER.MAX_ITER", "20"),
    )
    running.append(Trainer(cfg))
    running[-1].register_hooks([Stop(6)])
    with pytest.raises(KeyboardInterrupt):
        running[-1].train()
    best = weights(tmp_path, "model_best")
    running.append(Trainer(cfg))
    running[-1].resume_or_load(True)
    running[-1].train()  # stops after iteration 7: neither 0.7 nor 0.9 is better than 0.9
    assert lines(tmp_path)[-1]["iteration"] == 7
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.safetensors"
    assert same(best, weights(tmp_path, "model_best"))
    running.append(Trainer(cfg))
    running[-1].resume_or_load(True)
    running[-1].train()  # it stays stopped
    assert [one["iteration"] for one in lines(tmp_path)][-1] == 7


def test_an_evaluation_that_was_cut_off_is_made_up_for(unbroken, data, tmp_path, monkeypatch):
    test = ("DATASETS.TEST", repr(data[:1]), "TEST.EVAL_PERIOD", "3")
    cfg = config(data, tmp_path, *test, "TEST.BEST_METRIC", "texture/mIoU")
    original = Trainer.test

    def kill(cfg, model):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "test", staticmethod(kill))
    trainer = Trainer(cfg)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.safetensors"
    monkeypatch.setattr(Trainer, "test", original)
    resumed = train(cfg, resume=True)
    assert resumed.start_iter == 3
    assert losses(tmp_path) == losses(unbroken)
    evaluated = [one["iteration"] for one in lines(tmp_path) if "texture/mIoU" in one]
    assert evaluated == [2, 5, 8, 10]


def test_metrics_are_trimmed(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 1}\n{"iteration": 3}\nnonsense\n{"iteration": 2}\n{"itera')
    trim_metrics(path, 3)
    assert path.read_text() == '{"iteration": 1}\n{"iteration": 2}\n'
    trim_metrics(tmp_path / "none.json", 3)


def test_a_new_run_sets_an_earlier_one_aside(data, tmp_path):
    train(config(data, tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    train(config(data, tmp_path, "SOLVER.MAX_ITER", 2))
    assert [one["iteration"] for one in lines(tmp_path)] == [0, 1]
    aside = {p.name: p.read_bytes() for p in (tmp_path / "earlier_run_1").iterdir()}
    before.pop(".training.lock")
    assert aside == before
    names = sorted(p.name for p in tmp_path.glob("model_*"))
    assert names == ["model_final.safetensors", "model_final.training.pth"]


def test_one_training_at_a_time(data, tmp_path):
    trainer = Trainer(config(data, tmp_path))
    with (
        reserved(tmp_path),
        pytest.raises(ConfigError, match="another training is running"),
    ):
        trainer.train()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["SOLVER.IMS_PER_BATCH", "5"], "SOLVER.IMS_PER_BATCH 5 cannot be split evenly"),
        (["TEST.EARLY_STOPPING_PATIENCE", "2"], "needs TEST.EVAL_PERIOD above 0"),
        (["TEST.EARLY_STOPPING_PATIENCE", "2", "TEST.EVAL_PERIOD", "2"], "needs TEST.BEST_METRIC"),
        (["SOLVER.MAX_EPOCHS", "0.01"], "SOLVER.MAX_EPOCHS comes to 0 iterations"),
        (["OUTPUT_DIR", ""], "OUTPUT_DIR is empty"),
        (
            [
                *("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "float16"),
                *("MODEL.DTYPE", "bfloat16"),
            ],
            "float16 does not go with MODEL.DTYPE bfloat16",
        ),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", "9.0"],
            "BASE_LR_END",
        ),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["LOSS.NORMALIZER", "globl"], "LOSS.NORMALIZER is 'globl'"),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.RESTART.ITER", "5"],
            "SOLVER.RESTART needs",
        ),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.COSINE_ITERS", "5"],
            "SOLVER.COSINE_ITERS or _EPOCHS needs",
        ),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.FIRST_STEP_AT_PEAK", "True"],
            "SOLVER.FIRST_STEP_AT_PEAK needs",
        ),
        (["MODEL.META_ARCHITECTURE", "ToySegmenter"], "ToySegmenter has no stages"),
    ],
)
def test_what_cannot_be_trained_with(data, tmp_path, overrides, told):
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        Trainer(config(data, tmp_path, *overrides))


def test_another_optimizer_cannot_go_on(data, tmp_path):
    cfg = config(data, tmp_path, "SOLVER.MAX_ITER", 2)
    train(cfg)
    other = Trainer(config(data, tmp_path, "SOLVER.MAX_ITER", 4, "SOLVER.OPTIMIZER", "SGD"))
    with pytest.raises(ConfigError, match=r"SOLVER\.OPTIMIZER is SGD.*trained with AdamW"):
        other.resume_or_load(True)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision(data, tmp_path, precision):
    amp = ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", precision)
    train(config(data, tmp_path, *amp), stop=5)
    train(config(data, tmp_path, *amp), resume=True)
    assert [iteration for iteration, _ in losses(tmp_path)] == list(range(10))


def test_a_device_without_bfloat16_trains_in_full_precision(data, tmp_path, monkeypatch, caplog):
    class Old:
        @staticmethod
        def is_bf16_supported(including_emulation=True):
            return including_emulation

    cfg = config(data, tmp_path, "SOLVER.AMP.ENABLED", "True")
    device = torch.device("cpu")
    assert autocast_precision(cfg, device) == torch.bfloat16
    monkeypatch.setattr(torch, "get_device_module", lambda device: Old)
    assert autocast_precision(cfg, device) is None
    assert "training goes on in float32" in caplog.text


@pytest.mark.parametrize("kind", ["full_model", "norm", "value"])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_clipping(data, tmp_path, kind, optimizer):
    limit = 1e-3
    cfg = config(
        *(data, tmp_path, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind, "SOLVER.MAX_ITER", 1),
        *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", limit, "SOLVER.OPTIMIZER", optimizer),
        *("SOLVER.CURRICULUM.STAGE2_ITER", 0),
    )
    trainer = train(cfg)
    gradients = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert lines(tmp_path)[0]["grad_norm"] > limit
    whole = torch.nn.utils.get_total_norm(gradients)
    if kind == "full_model":
        assert whole == pytest.approx(limit, rel=1e-3)
    elif kind == "norm":
        assert all(g.norm() <= limit * 1.001 for g in gradients) and whole > limit
    else:
        assert all(g.abs().max() <= limit * 1.001 for g in gradients)


def test_only_the_trained_weights_are_kept(unbroken):
    assert set(weights(unbroken)) == {"bridge.weight", "bridge.bias", "vlm.weight", "vlm.bias"}


def test_a_model_without_any_of_this_still_trains(data, tmp_path):
    plain = ["MODEL.META_ARCHITECTURE", "ToySegmenter", "SOLVER.CURRICULUM.STAGE2_ITER", 0]
    for optimizer in ("SGD", "AdamW"):
        folder = tmp_path / optimizer
        plain += ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.OPTIMIZER", optimizer]
        train(config(data, folder, *plain), stop=5)
        train(config(data, folder, *plain), resume=True)
        train(config(data, tmp_path / f"{optimizer}2", *plain))
        assert losses(folder) == losses(tmp_path / f"{optimizer}2")


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("WarmupMultiStepLR", [1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("WarmupCosineLR", None),
        ("WarmupStepWithFixedGammaLR", [1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_detectron2s_schedules_reach_the_end(data, tmp_path, schedule, factors):
    cfg = config(
        *(data, tmp_path, "SOLVER.LR_SCHEDULER_NAME", schedule, "SOLVER.MAX_ITER", 7),
        *("MODEL.META_ARCHITECTURE", "ToySegmenter", "SOLVER.CURRICULUM.STAGE2_ITER", 0),
        *("SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS", "(3, 5)", "SOLVER.NUM_DECAYS", 2),
    )
    train(cfg)
    rates = [line["lr"] / cfg.SOLVER.BASE_LR for line in lines(tmp_path)]
    if factors is None:
        factors = [(1 + math.cos(math.pi * i / 7)) / 2 for i in range(7)]
    assert rates == pytest.approx(factors)


def test_metrics_that_no_run_wrote_get_another_name(tmp_path):
    path = tmp_path / "metrics.json"
    for number, text in enumerate(('{"mine": 1}', "not even JSON\n"), 1):
        path.write_text(text)
        trim_metrics(path, 3)
        assert not path.exists()
        assert (tmp_path / f"metrics.foreign-{number}.json").read_text() == text

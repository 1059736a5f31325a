"""The default trainer and predictor, the command line's arguments, the set-up of a process.

It is over 400 lines: trainer, predictor and command line stand in one module.
"""

import argparse
import json
import logging
import math
import random

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from detecture.d2 import (
    META_ARCH_REGISTRY,
    DatasetCatalog,
    DatasetEvaluator,
    DefaultPredictor,
    DefaultTrainer,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    comm,
    default_argument_parser,
    default_setup,
    get_cfg,
    hooks,
    launch,
)

RECORDS = [{"x": float(x), "y": 2.0 * x + 1.0, "width": 1, "height": 1} for x in range(-2, 2)]


@META_ARCH_REGISTRY.register()
class LineModel(nn.Module):
    """Fits a line to the records of a batch; tells what it was called with in evaluation mode."""

    def __init__(self, cfg):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.dtypes = set()

    def forward(self, batch):
        if not self.training:
            return [{"input": record, "weight": self.layer.weight.item()} for record in batch]
        x = torch.tensor([[record["x"]] for record in batch])
        y = torch.tensor([[record["y"]] for record in batch])
        predicted = self.layer(x)
        self.dtypes.add(predicted.dtype)
        return {
            "loss_line": (predicted.float() - y).square().mean(),
            "loss_size": 1e-3 * self.layer.weight.square().sum(),
        }


class WeightEvaluator(DatasetEvaluator):
    def reset(self):
        self.count = 0

    def process(self, inputs, outputs):
        self.count += len(outputs)
        self.weight = outputs[0]["weight"]

    def evaluate(self):
        return {"line": {"weight": self.weight, "count": self.count}}


class LineTrainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(
            RECORDS,
            mapper=lambda record: record,
            # Every batch of all processes together is the whole data set, in any order.
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=False,
            num_workers=0,
        )

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return build_detection_test_loader(RECORDS, mapper=lambda record: record, num_workers=0)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return WeightEvaluator()


def make_cfg(folder, max_iter=6, **solver):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "LineModel"
    cfg.MODEL.DEVICE = "cpu"
    cfg.OUTPUT_DIR = str(folder)
    cfg.DATASETS.TEST = ("line_test",)
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.MAX_ITER = max_iter
    cfg.SOLVER.BASE_LR = 0.2
    cfg.SOLVER.WARMUP_ITERS = 2
    cfg.SOLVER.IMS_PER_BATCH = len(RECORDS)
    cfg.SOLVER.CHECKPOINT_PERIOD = 3
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def scalars(trainer, name):
    return [value for value, _ in trainer.storage.history(name).values()]


def parameters(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_training_from_start_to_end(tmp_path):
    trainer = LineTrainer(make_cfg(tmp_path, max_iter=40))
    trainer.resume_or_load(resume=False)
    assert trainer.train() is None  # results are returned where some are expected
    losses = scalars(trainer, "loss_line")
    assert len(losses) == 40
    assert losses[-1] < 0.05 * losses[0]
    assert trainer.model.layer.weight.item() == pytest.approx(2.0, abs=0.3)
    for name in ("model_0000002.pth", "model_final.pth", "last_checkpoint", "metrics.json"):
        assert (tmp_path / name).is_file(), name
    assert list(tmp_path.glob("events.out.tfevents.*"))
    rows = metrics(tmp_path)
    assert [row["iteration"] for row in rows] == [19, 39, 40]
    assert rows[-1]["line/count"] == 4.0
    assert {"total_loss", "lr", "time", "data_time", "eta_seconds"} <= set(rows[0])


def test_hooks_in_their_order(tmp_path):
    trainer = LineTrainer(make_cfg(tmp_path))
    assert [type(hook).__name__ for hook in trainer._hooks] == [
        "IterationTimer",
        "LRScheduler",
        "PeriodicCheckpointer",
        "EvalHook",
        "PeriodicWriter",
    ]


def test_evaluation_during_training(tmp_path):
    cfg = make_cfg(tmp_path)
    cfg.TEST.EVAL_PERIOD = 2
    trainer = LineTrainer(cfg)
    trainer.train()
    evaluated = trainer.storage.history("line/weight").values()
    assert [iteration for _, iteration in evaluated] == [1, 3, 6]
    assert evaluated[-1][0] == pytest.approx(trainer.model.layer.weight.item())
    assert trainer.model.training


class FailAt(hooks.HookBase):
    def after_step(self):
        if self.trainer.iter == 4:
            raise RuntimeError("on purpose")


def test_resumed_equals_uninterrupted(tmp_path):
    whole = LineTrainer(make_cfg(tmp_path / "whole", max_iter=8))
    whole.train()

    interrupted = LineTrainer(make_cfg(tmp_path / "parts", max_iter=8))
    interrupted.register_hooks([FailAt()])
    with pytest.raises(RuntimeError, match="on purpose"):
        interrupted.train()

    resumed = LineTrainer(make_cfg(tmp_path / "parts", max_iter=8))
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 3  # the checkpoint is of iteration 2
    resumed.train()
    assert scalars(resumed, "lr") == scalars(whole, "lr")[3:]
    assert scalars(resumed, "loss_line") == pytest.approx(scalars(whole, "loss_line")[3:])
    for one, other in zip(parameters(resumed), parameters(whole), strict=True):
        torch.testing.assert_close(one, other)


def test_a_finished_training_is_not_continued(tmp_path):
    LineTrainer(make_cfg(tmp_path)).train()
    again = LineTrainer(make_cfg(tmp_path))
    again.resume_or_load(resume=True)
    before = parameters(again)
    again.train()
    assert again.start_iter == 6
    assert all(map(torch.equal, before, parameters(again)))


def test_weights_without_resuming(tmp_path):
    first = LineTrainer(make_cfg(tmp_path / "first"))
    first.train()
    cfg = make_cfg(tmp_path / "second")
    cfg.MODEL.WEIGHTS = str(tmp_path / "first/model_final.pth")
    for resume in (False, True):  # there is no checkpoint to resume from
        second = LineTrainer(cfg)
        second.resume_or_load(resume=resume)
        assert second.start_iter == second.iter == 0
        assert all(map(torch.equal, parameters(first), parameters(second)))
        assert second.optimizer.param_groups[0]["lr"] == first.cfg.SOLVER.BASE_LR * 0.001


def test_attributes_are_those_of_the_inner_trainer(tmp_path):
    trainer = LineTrainer(make_cfg(tmp_path))
    inner = trainer._trainer
    assert trainer.model is inner.model
    assert trainer.optimizer is inner.optimizer
    assert trainer.data_loader is inner.data_loader
    trainer.data_loader = [[RECORDS[0]]]
    assert inner.data_loader == [[RECORDS[0]]]


@pytest.mark.lite_only  # detectron2's needs an accelerator
# The scaler skips the first step, because its first scale is too large on purpose.
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_mixed_precision_is_switched_on_by_the_config(tmp_path):
    cfg = make_cfg(tmp_path)
    cfg.SOLVER.AMP.ENABLED = True
    trainer = LineTrainer(cfg)
    trainer.train()
    assert trainer.model.dtypes == {torch.float16}
    trainer = LineTrainer(cfg)
    trainer._trainer.precision = torch.bfloat16
    trainer.train()
    assert trainer.model.dtypes == {torch.bfloat16}


def expecting(tmp_path, *expected):
    cfg = make_cfg(tmp_path, max_iter=2)
    cfg.TEST.EXPECTED_RESULTS = list(expected)
    return LineTrainer(cfg)


def test_expected_results_are_verified(tmp_path):
    results = expecting(tmp_path, ["line", "count", 4, 0]).train()
    assert results["line"]["count"] == 4
    with pytest.raises(SystemExit) as caught:
        expecting(tmp_path, ["line", "weight", 2.0, 0.1]).train()
    assert caught.value.code == 1


@pytest.mark.lite_only  # detectron2 raises something else
def test_expected_results_without_an_evaluation_are_missed(tmp_path):
    class NoEvaluation(LineTrainer):
        def build_hooks(self):
            return []

    cfg = make_cfg(tmp_path, max_iter=2)
    cfg.TEST.EXPECTED_RESULTS = [["line", "count", 4, 0]]
    with pytest.raises(SystemExit) as caught:
        NoEvaluation(cfg).train()
    assert caught.value.code == 1


def test_test_of_one_and_of_several_data_sets(tmp_path):
    cfg = make_cfg(tmp_path)
    model = LineTrainer.build_model(cfg)
    line = {"line": {"weight": 0.0, "count": 4}}
    assert LineTrainer.test(cfg, model) == line
    assert LineTrainer.test(cfg, model, evaluators=WeightEvaluator()) == line
    cfg.DATASETS.TEST = ("a", "b")
    assert LineTrainer.test(cfg, model) == {"a": line, "b": line}
    assert LineTrainer.test(cfg, model, [WeightEvaluator(), WeightEvaluator()])["b"] == line
    with pytest.raises((ValueError, AssertionError)):
        LineTrainer.test(cfg, model, [WeightEvaluator()])


def test_without_an_evaluator(tmp_path, caplog):
    class NoEvaluator(LineTrainer):
        build_evaluator = DefaultTrainer.build_evaluator

    with pytest.raises(NotImplementedError, match="build_evaluator"):
        DefaultTrainer.build_evaluator(make_cfg(tmp_path), "line_test")
    cfg = make_cfg(tmp_path)
    assert NoEvaluator.test(cfg, NoEvaluator.build_model(cfg)) == {}
    assert "valuator" in caplog.text


def test_scaling_to_another_number_of_processes(tmp_path):
    cfg = make_cfg(tmp_path, max_iter=100, STEPS=(40, 80), WARMUP_ITERS=10, CHECKPOINT_PERIOD=20)
    cfg.TEST.EVAL_PERIOD = 50
    assert DefaultTrainer.auto_scale_workers(cfg, 4) is cfg
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 2
    cfg.freeze()
    assert DefaultTrainer.auto_scale_workers(cfg, 2) is cfg
    scaled = DefaultTrainer.auto_scale_workers(cfg, 4)
    assert cfg.SOLVER.MAX_ITER == 100
    assert scaled.is_frozen()
    solver = scaled.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.REFERENCE_WORLD_SIZE) == (8, 0.4, 4)
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (50, (20, 40), 5)
    assert (solver.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (10, 25)


def test_scaling_is_applied_by_the_trainer(tmp_path):
    trainer = LineTrainer(make_cfg(tmp_path, max_iter=10, REFERENCE_WORLD_SIZE=2))
    assert trainer.max_iter == 20
    with pytest.raises((ValueError, AssertionError), match="REFERENCE_WORLD_SIZE"):
        LineTrainer(make_cfg(tmp_path, REFERENCE_WORLD_SIZE=3))


def predictor_cfg(tmp_path, order):
    cfg = make_cfg(tmp_path)
    cfg.INPUT.FORMAT = order
    cfg.INPUT.MIN_SIZE_TEST = 0  # no resizing
    model = LineTrainer.build_model(cfg)
    nn.init.constant_(model.layer.weight, 7.0)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    return cfg


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_predictor(tmp_path, order):
    MetadataCatalog.get("line_test").set(mood="good")
    predictor = DefaultPredictor(predictor_cfg(tmp_path, order))
    assert predictor.metadata.mood == "good"
    bgr = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    output = predictor(bgr)
    assert output["weight"] == 7.0
    record = output["input"]
    assert (record["height"], record["width"]) == (2, 5)
    assert record["image"].dtype is torch.float32
    expected = bgr[:, :, ::-1] if order == "RGB" else bgr
    assert np.array_equal(record["image"].numpy(), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("size", "shorter", "most", "due"),
    [
        ((20, 30), 10, 1000, (10, 15)),
        ((31, 20), 37, 1000, (57, 37)),
        ((20, 30), 100, 60, (40, 60)),
        ((7, 7), 7, 7, (7, 7)),
    ],
)
def test_predictor_resizes_as_the_config_says(tmp_path, dtype, size, shorter, most, due):
    cfg = predictor_cfg(tmp_path, "RGB")
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = shorter, most
    ramp = np.linspace(0, 250, size[1]).astype(dtype)
    bgr = np.broadcast_to(ramp[None, :, None], (*size, 3)).copy()
    bgr[:, :, 2] = 7  # red
    record = DefaultPredictor(cfg)(bgr)["input"]
    assert (record["height"], record["width"]) == size
    image = record["image"]
    assert image.dtype is torch.float32 and image.shape == (3, *due)
    assert torch.allclose(image[0], torch.tensor(7.0))
    if due == size:
        assert np.array_equal(image[2].numpy(), bgr[:, :, 0])
    assert torch.allclose(image[1], torch.linspace(0, 250, due[1]), atol=250 / min(size[1], due[1]))


def test_predictor_wants_a_known_channel_order(tmp_path):
    with pytest.raises((ValueError, AssertionError), match="GRB"):
        DefaultPredictor(predictor_cfg(tmp_path, "GRB"))


def test_arguments():
    parser = default_argument_parser()
    args = parser.parse_args([])
    assert (args.config_file, args.resume, args.eval_only, args.opts) == ("", False, False, [])
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (1, 1, 0)
    assert args.dist_url.startswith("tcp://127.0.0.1:")
    assert 49152 <= int(args.dist_url.rsplit(":", 1)[1]) < 65536
    given = "--config-file a.yaml --resume --eval-only --num-gpus 2 --num-machines 3"
    given += " --machine-rank 1 --dist-url tcp://host:1 SOLVER.BASE_LR 0.1 --odd"
    args = parser.parse_args(given.split())
    assert (args.config_file, args.resume, args.eval_only) == ("a.yaml", True, True)
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (2, 3, 1)
    assert args.dist_url == "tcp://host:1"
    assert args.opts == ["SOLVER.BASE_LR", "0.1", "--odd"]
    assert "tcp://HOST" in parser.format_help() or "<URL>" in parser.format_help()
    assert "my text" in default_argument_parser("my text").format_help()


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002


@pytest.fixture
def global_state():
    """default_setup seeds and switches things of the whole process."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    benchmark, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    torch.backends.cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision(precision)


@pytest.mark.usefixtures("global_state")
class TestSetup:
    def test_folder_logs_and_config(self, tmp_path):
        config = tmp_path / "given.yaml"
        config.write_text("SEED: 3  # a remark\n")
        cfg = make_cfg(tmp_path / "new" / "out")
        default_setup(cfg, argparse.Namespace(config_file=str(config), eval_only=False))
        out = tmp_path / "new" / "out"
        saved = get_cfg()
        saved.merge_from_file(str(out / "config.yaml"))
        assert yaml.safe_load(saved.dump()) == yaml.safe_load(cfg.dump())
        log = (out / "log.txt").read_text()
        for part in ("World size: 1", "a remark", "given.yaml", "LineModel", "torch"):
            assert part in log
        logging.getLogger("fvcore").info("a word of fvcore")
        assert "a word of fvcore" in (out / "log.txt").read_text()

    def test_seed(self, tmp_path):
        cfg, args = make_cfg(tmp_path), argparse.Namespace()
        cfg.SEED = 5
        default_setup(cfg, args)
        first = draws()
        default_setup(cfg, args)
        assert draws() == first
        cfg.SEED = 6
        default_setup(cfg, args)
        assert not set(draws()) & set(first)
        cfg.SEED = -1
        default_setup(cfg, args)
        one = draws()
        default_setup(cfg, args)
        assert not set(draws()) & set(one)

    def test_switches(self, tmp_path):
        cfg = make_cfg(tmp_path)
        cfg.CUDNN_BENCHMARK = True
        default_setup(cfg, argparse.Namespace(eval_only=True))
        assert torch.backends.cudnn.benchmark is False
        before = torch.get_float32_matmul_precision()
        cfg.FLOAT32_PRECISION = "medium"
        default_setup(cfg, argparse.Namespace(eval_only=False))
        assert torch.backends.cudnn.benchmark is True
        # For CUDA alone: a CPU computes with full precision always.
        due = "medium" if torch.cuda.is_available() else before
        assert torch.get_float32_matmul_precision() == due


class BadInRankOne(LineTrainer):
    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg)
        if comm.get_rank() == 1:
            # Of the true loss, so that every parameter takes part in the exchange of gradients.
            model.register_forward_hook(lambda *call: {k: v * math.nan for k, v in call[2].items()})
        return model


def train_in_two_processes(folder):
    rank = comm.get_rank()
    cfg = make_cfg(folder)
    cfg.SEED = 1
    default_setup(cfg, argparse.Namespace())
    seed_dependent = draws()
    trainer = LineTrainer(cfg)
    trainer.train()
    error = None
    try:
        BadInRankOne(make_cfg(folder / "bad")).train()
    except FloatingPointError as raised:
        error = str(raised)
    result = {"parameters": parameters(trainer), "error": error, "draws": seed_dependent}
    torch.save(result, folder / f"rank{rank}.pth")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    launch(train_in_two_processes, 2, dist_url="auto", args=(folder,))
    return folder, [torch.load(folder / f"rank{rank}.pth") for rank in range(2)]


@pytest.mark.lite_only  # detectron2's launch needs accelerators
@pytest.mark.skipif(torch.cuda.is_available(), reason="with accelerators, launch uses those")
class TestTwoProcesses:
    def test_same_parameters_in_both_and_as_in_one_process(self, trained, tmp_path):
        folder, (first, second) = trained
        assert all(map(torch.equal, first["parameters"], second["parameters"]))
        # Both halves of a batch together are the whole data set: the mean of the gradients, and of
        # the losses, is the same.
        alone = LineTrainer(make_cfg(tmp_path))
        alone.train()
        for one, other in zip(first["parameters"], parameters(alone), strict=True):
            torch.testing.assert_close(one, other)
        for name in ("total_loss", "loss_line", "loss_size"):
            assert metrics(folder)[0][name] == pytest.approx(metrics(tmp_path)[0][name]), name

    def test_finite_losses_written_once(self, trained):
        folder, _ = trained
        rows = metrics(folder)
        assert [row["iteration"] for row in rows] == [5, 6]
        assert math.isfinite(rows[0]["total_loss"])
        assert rows[1]["line/count"] == 2.0  # WeightEvaluator gathers nothing
        assert len(list(folder.glob("events.out.tfevents.*"))) == 1

    def test_every_process_has_a_log_and_a_seed(self, trained):
        folder, (first, second) = trained
        assert "World size: 2" in (folder / "log.txt").read_text()
        assert "current process: 1" in (folder / "log.txt.rank1").read_text()
        assert not set(first["draws"]) & set(second["draws"])

    def test_a_non_finite_loss_in_one_stops_both(self, trained):
        _, results = trained
        for result in results:
            assert "iteration=0" in result["error"]
            assert "loss_line" in result["error"]


def test_default_loaders_read_the_catalog(tmp_path):
    """Without an override the trainer goes through build_detection_*_loader(cfg)."""
    DatasetCatalog.register("line_default", lambda: RECORDS)
    try:
        cfg = make_cfg(tmp_path)
        cfg.DATASETS.TRAIN = ("line_default",)
        with pytest.raises((TypeError, KeyError)):  # records of this kind need a mapper
            next(iter(DefaultTrainer.build_train_loader(cfg)))
    finally:
        DatasetCatalog.remove("line_default")

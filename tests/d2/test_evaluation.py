"""Evaluators, inference over a data set, and the check of expected results."""

import logging
from collections import OrderedDict

import pytest
import torch
from torch import nn

from detecture.d2 import (
    DatasetEvaluator,
    DatasetEvaluators,
    get_cfg,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        return [self.factor * x for x in batch]


class Sum(DatasetEvaluator):
    def __init__(self, name="sum"):
        self.name = name
        self.total = 1e9  # reset must clear this

    def reset(self):
        self.total = 0.0

    def process(self, inputs, outputs):
        assert len(inputs) == len(outputs)
        self.total += sum(float(y) for y in outputs)

    def evaluate(self):
        return {self.name: {"total": self.total}}


LOADER = [[1.0, 2.0], [3.0], [4.0]]


def test_inference_feeds_the_evaluator_and_restores_the_mode():
    model = Double()
    assert inference_on_dataset(model, LOADER, Sum()) == {"sum": {"total": 20.0}}
    assert model.training
    assert torch.is_grad_enabled()
    model.eval()
    inference_on_dataset(model, LOADER, Sum())
    assert not model.training


@pytest.mark.lite_only  # detectron2 leaves the model in evaluation mode
def test_mode_is_restored_after_an_exception():
    class Fails(Sum):
        def process(self, inputs, outputs):
            raise RuntimeError("on purpose")

    model = Double()
    with pytest.raises(RuntimeError, match="on purpose"):
        inference_on_dataset(model, LOADER, Fails())
    assert model.training


def test_several_evaluators():
    results = inference_on_dataset(Double(), LOADER, [Sum("a"), Sum("b")])
    assert list(results.items()) == [("a", {"total": 20.0}), ("b", {"total": 20.0})]


def test_no_evaluator():
    assert inference_on_dataset(Double(), LOADER, None) == {}


def test_an_evaluator_without_results():
    class Quiet(Sum):
        def evaluate(self):
            return None

    assert inference_on_dataset(Double(), LOADER, Quiet()) == {}
    assert inference_on_dataset(Double(), LOADER, [Quiet(), Sum()]) == {"sum": {"total": 20.0}}


def test_a_model_may_be_any_function():
    assert inference_on_dataset(lambda batch: batch, LOADER, Sum()) == {"sum": {"total": 10.0}}


def test_callbacks():
    calls = []
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {name: lambda name=name: calls.append(name) for name in names}
    inference_on_dataset(Double(), LOADER, Sum(), callbacks=callbacks)
    assert calls == ["on_start", *(["before_inference", "after_inference"] * 3), "on_end"]


def test_times_are_logged(caplog):
    with caplog.at_level(logging.INFO):
        inference_on_dataset(Double(), LOADER * 5, Sum())
    assert "Total inference time" in caplog.text
    assert "s / " in caplog.text


def slow_clock(monkeypatch, seconds):
    """Lets `seconds` pass between any two looks at the clock."""
    import itertools
    import time

    ticks = itertools.count(0.0, seconds)
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))


@pytest.mark.lite_only  # looks at the clock as often as lite does
def test_progress_is_logged_with_the_time_to_go(caplog, monkeypatch):
    slow_clock(monkeypatch, 2.0)  # data, model and evaluator: 6 seconds a batch
    with caplog.at_level(logging.INFO):
        inference_on_dataset(lambda batch: batch, [[1.0, 2.0]] * 20, Sum())
    # 5 batches of warm-up; at batch 10 ten batches of 6 seconds are left, of two images each.
    assert "Inference done 10/20" in caplog.text
    line = next(r.getMessage() for r in caplog.records if "done 10/20" in r.getMessage())
    assert "inference: 1.0000" in line
    assert "ETA=0:01:00" in line
    assert "Total inference time: 0:01:30 (3.000000 s / img" in caplog.text
    assert "Total inference pure compute time: 0:00:30 (1.000000 s / img" in caplog.text


def test_empty_loader():
    assert inference_on_dataset(Double(), [], Sum()) == {"sum": {"total": 0.0}}


def test_same_key_twice_is_refused():
    evaluators = DatasetEvaluators([Sum("a"), Sum("a")])
    evaluators.reset()
    with pytest.raises(AssertionError, match="a"):
        evaluators.evaluate()


def test_csv_format(caplog):
    results = OrderedDict(texture={"mIoU": 83.125, "IoU-wood": 1.0, "ARI": 0.5}, speed=12)
    with caplog.at_level(logging.INFO):
        print_csv_format(results)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == [
        "copypaste: Task: texture",
        "copypaste: mIoU,ARI",
        "copypaste: 83.1250,0.5000",
    ]
    assert "speed=12" in lines[3]


def verify(expected, results):
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = expected
    return verify_results(cfg, results)


RESULTS = OrderedDict(texture={"mIoU": 83.0, "ARI": float("nan")})


def test_results_as_expected():
    assert verify([], {}) is True
    assert verify([["texture", "mIoU", 83.4, 0.5]], RESULTS) is True


@pytest.mark.parametrize(
    "expected",
    [
        ["texture", "mIoU", 83.6, 0.5],
        ["texture", "mIoU", 82.4, 0.5],
        ["texture", "PQ", 1.0, 1.0],
        ["texture", "ARI", 1.0, 1e9],
    ],
)
def test_a_miss_exits_with_status_one(expected, caplog):
    with pytest.raises(SystemExit) as caught:
        verify([["texture", "mIoU", 83.0, 0.5], expected], RESULTS)
    assert caught.value.code == 1
    assert "failed" in caplog.text


@pytest.mark.lite_only  # detectron2 raises a KeyError
@pytest.mark.parametrize("results", [{}, {"texture": None}, {"texture": 3.0}])
def test_a_missing_task_is_a_miss(results, caplog):
    with pytest.raises(SystemExit) as caught:
        verify([["texture", "mIoU", 83.0, 0.5]], results)
    assert caught.value.code == 1
    assert "texture/mIoU is missing" in caplog.text

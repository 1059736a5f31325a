"""The hooks, each on a small trainer."""

import itertools
import logging
import re
import time

import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from detecture.d2 import DetectionCheckpointer, JSONWriter, SimpleTrainer, hooks


def make_trainer(*registered, lr=0.5):
    model = nn.Linear(1, 1)
    loss = nn.Module()
    loss.model = model
    loss.forward = lambda batch: {"loss": model(batch).square().mean()}
    trainer = SimpleTrainer(
        loss, itertools.repeat(torch.ones(2, 1)), torch.optim.SGD(model.parameters(), lr=lr)
    )
    trainer.register_hooks(registered)
    return trainer


class PutAt(hooks.HookBase):
    """Puts one value of `metric` in each iteration that has one; None: after training."""

    def __init__(self, values):
        self.values = values

    def _put(self, key):
        if key in self.values:
            self.trainer.storage.put_scalar("metric", self.values[key], smoothing_hint=False)

    def after_step(self):
        self._put(self.trainer.iter)

    def after_train(self):
        self._put(None)


class FailAt(hooks.HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise RuntimeError("on purpose")


def test_callback_hook():
    calls = []
    names = ("before_train", "before_step", "after_step", "after_train")
    callbacks = {n: lambda trainer, n=n: calls.append((n, trainer.iter)) for n in names}
    make_trainer(hooks.CallbackHook(**callbacks), hooks.CallbackHook()).train(0, 2)
    assert calls == [
        ("before_train", 0),
        ("before_step", 0),
        ("after_step", 0),
        ("before_step", 1),
        ("after_step", 1),
        ("after_train", 2),
    ]


def test_iteration_timer(caplog):
    class Slow(hooks.HookBase):
        def after_backward(self):
            time.sleep(0.01)

        def after_step(self):
            time.sleep(0.05)

    trainer = make_trainer(hooks.IterationTimer(warmup_iter=2), Slow())
    with caplog.at_level(logging.INFO):
        trainer.train(0, 5)
    times = [value for value, _ in trainer.storage.history("time").values()]
    assert 3 <= len(times) <= 4  # detectron2 counts the last iteration of its warm-up, too
    # The sleep of the other hook's after_step is no part of the iteration.
    assert all(0.01 <= t < 0.05 for t in times)
    assert re.search(r"Overall training speed: [34] iterations", caplog.text)  # likewise
    assert "Total training time" in caplog.text


def test_iteration_timer_of_a_run_without_iterations(caplog):
    with caplog.at_level(logging.INFO):
        make_trainer(hooks.IterationTimer()).train(7, 7)
    assert "Total training time" in caplog.text
    assert "Overall training speed" not in caplog.text


class CountingWriter(JSONWriter):
    def __init__(self, path):
        super().__init__(str(path))
        self.calls = []

    def write(self):
        super().write()
        self.calls.append("write")

    def close(self):
        super().close()
        self.calls.append("close")


def test_periodic_writer(tmp_path):
    writer, written = CountingWriter(tmp_path / "a.json"), []
    watch = hooks.CallbackHook(after_step=lambda _: written.append(len(writer.calls)))
    make_trainer(hooks.PeriodicWriter([writer], period=3), watch).train(0, 8)
    assert written == [0, 0, 1, 1, 1, 2, 2, 3]  # after 3, 6 and the last
    assert writer.calls == ["write"] * 4 + ["close"]


def test_periodic_writer_writes_what_other_hooks_put_at_the_end(tmp_path):
    path = tmp_path / "a.json"
    writer = hooks.PeriodicWriter([JSONWriter(str(path))])
    make_trainer(PutAt({None: 4.0}), writer).train(0, 2)
    assert '{"iteration": 2, "metric": 4.0}' in path.read_text().splitlines()


def test_periodic_writer_wants_writers():
    with pytest.raises((TypeError, AssertionError)):
        hooks.PeriodicWriter([print])


def names(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def test_periodic_checkpointer(tmp_path):
    checkpointer = DetectionCheckpointer(nn.Linear(1, 1), str(tmp_path))
    make_trainer(hooks.PeriodicCheckpointer(checkpointer, 2)).train(0, 5)
    assert names(tmp_path) == ["model_0000001.pth", "model_0000003.pth", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def best(tmp_path, values, mode="max", max_iter=6, period=2):
    """Iterations at which the best checkpoint was saved."""

    class Remembers(DetectionCheckpointer):
        def save(self, name, **kwargs):
            assert name == "model_best"
            saved.append(kwargs["iteration"])
            super().save(name, **kwargs)

    saved = []
    checkpointer = Remembers(nn.Linear(1, 1), str(tmp_path))
    hook = hooks.BestCheckpointer(period, checkpointer, "metric", mode)
    make_trainer(PutAt(values), hook).train(0, max_iter)
    return saved


def test_best_checkpointer(tmp_path):
    assert best(tmp_path, {1: 5.0, 3: 4.0, None: 6.0}) == [1, 6]
    assert names(tmp_path) == ["model_best.pth"]
    assert best(tmp_path, {1: 5.0, 3: 4.0, None: 6.0}, mode="min") == [1, 3]
    # Not in its period:
    assert best(tmp_path, {0: 5.0, 2: 9.0, 4: 4.0}, period=3) == [2]


def test_best_checkpointer_never_takes_nan_for_the_best(tmp_path):
    assert best(tmp_path, {1: float("nan"), 3: 4.0, None: 5.0}) == [3, 6]


def test_best_checkpointer_without_the_metric(tmp_path, caplog):
    assert best(tmp_path, {}) == []
    assert "metric" in caplog.text


def test_best_checkpointer_mode(tmp_path):
    with pytest.raises((ValueError, AssertionError), match="most"):
        best(tmp_path, {}, mode="most")


def rates(hook_arguments, start=0, max_iter=4, **trainer_arguments):
    trainer = make_trainer(lr=0.5)
    hook = hooks.LRScheduler(**hook_arguments(trainer))
    trainer.register_hooks([hook])
    for key, value in trainer_arguments.items():
        setattr(trainer, key, value(trainer))
    trainer.train(start, max_iter)
    return [value for value, _ in trainer.storage.history("lr").values()]


def halving(trainer):
    return torch.optim.lr_scheduler.ExponentialLR(trainer.optimizer, 0.5)


def test_lr_scheduler_writes_the_rate_of_each_iteration():
    expected = [0.5, 0.25, 0.125, 0.0625]
    assert rates(lambda t: {"scheduler": halving(t)}) == expected
    assert rates(lambda t: {}, scheduler=halving) == expected
    assert rates(lambda t: {"optimizer": t.optimizer, "scheduler": halving(t)}) == expected


def test_lr_scheduler_takes_a_schedule_of_factors():
    schedule = LinearParamScheduler(1.0, 0.0)
    assert rates(lambda t: {"scheduler": schedule}) == [0.5, 0.375, 0.25, 0.125]


def test_lr_scheduler_reports_the_group_that_stands_for_all():
    def groups(*rates_and_sizes):
        return torch.optim.SGD(
            [
                {"params": [nn.Parameter(torch.zeros(1)) for _ in range(size)], "lr": rate}
                for rate, size in rates_and_sizes
            ],
            lr=1.0,
        )

    best_group = hooks.LRScheduler.get_best_param_group_id
    assert best_group(groups((0.1, 1), (0.2, 3), (0.3, 2))) == 1
    assert best_group(groups((0.1, 1), (0.2, 1), (0.2, 1))) == 1


def test_lr_scheduler_has_the_state_of_its_scheduler():
    def trained(start, stop, state=None):
        trainer = make_trainer()
        trainer.scheduler = halving(trainer)
        trainer.register_hooks([hooks.LRScheduler()])
        if state:
            trainer.load_state_dict(state)
        trainer.train(start, stop)
        return trainer

    state = trained(0, 2).state_dict()
    assert trained(2, 3, state).storage.history("lr").latest() == 0.125


def evaluations(period, max_iter=6, fail_at=None, **kwargs):
    """Iterations in which the evaluation ran, and the trainer."""
    ran = []

    def evaluate():
        ran.append(trainer.iter)
        return {"texture": {"mIoU": 80 + len(ran), "ARI": torch.tensor(0.5)}}

    trainer = make_trainer(hooks.EvalHook(period, evaluate, **kwargs))
    if fail_at is None:
        trainer.train(0, max_iter)
    else:
        trainer.register_hooks([FailAt(fail_at)])
        with pytest.raises(RuntimeError, match="on purpose"):
            trainer.train(0, max_iter)
    return ran, trainer


@pytest.mark.parametrize(
    ("period", "expected"), [(0, [6]), (2, [1, 3, 6]), (4, [3, 6]), (6, [6]), (9, [6])]
)
def test_eval_hook_runs_in_its_period_and_at_the_end(period, expected):
    assert evaluations(period)[0] == expected


def test_eval_hook_puts_flat_scalars():
    _, trainer = evaluations(2)
    latest = trainer.storage.latest()
    assert latest["texture/mIoU"] == (83.0, 6)
    assert latest["texture/ARI"] == (0.5, 6)
    assert trainer.storage.smoothing_hints()["texture/mIoU"] is False


def test_eval_hook_can_leave_the_end_out():
    assert evaluations(2, eval_after_train=False)[0] == [1, 3]


def test_eval_hook_does_not_run_after_a_failure():
    assert evaluations(0, fail_at=3)[0] == []


@pytest.mark.lite_only  # detectron2 takes a failure of the last iteration for the end
def test_eval_hook_does_not_run_after_a_failure_in_the_last_iteration():
    assert evaluations(0, fail_at=5)[0] == []


@pytest.mark.parametrize("nothing", [None, {}])
def test_eval_hook_without_results(nothing):
    trainer = make_trainer(hooks.EvalHook(1, lambda: nothing))
    trainer.train(0, 2)
    assert not any("/" in name for name in trainer.storage.latest())


def test_eval_hook_wants_numbers():
    with pytest.raises(ValueError, match="texture/mIoU"):
        make_trainer(hooks.EvalHook(1, lambda: {"texture": {"mIoU": "good"}})).train(0, 2)
    with pytest.raises((TypeError, AssertionError)):
        make_trainer(hooks.EvalHook(1, lambda: [1.0])).train(0, 2)

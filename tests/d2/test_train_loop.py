"""The training loop: hooks and their order, losses, state, the non-finite stop, autocast."""

import itertools
import math

import pytest
import torch
from torch import nn

from detecture.d2 import AMPTrainer, SimpleTrainer, TrainerBase, hooks
from detecture.errors import DatasetError


class Line(nn.Module):
    """Fits y = 2 x + 1 with two losses; `scale` multiplies them."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.scale = scale
        self.seen_dtype = None

    def forward(self, batch):
        predicted = self.layer(batch)
        self.seen_dtype = predicted.dtype
        error = predicted.float() - (2 * batch + 1)
        return {
            "loss_square": error.square().mean() * self.scale,
            "loss_abs": 0.1 * error.abs().mean(),
        }


def batches():
    return itertools.repeat(torch.linspace(-1, 1, 8)[:, None])


def make_trainer(kind=SimpleTrainer, scale=1.0, lr=0.1, **kwargs):
    model = Line(scale)
    return kind(model, batches(), torch.optim.SGD(model.parameters(), lr=lr), **kwargs)


class Recorder(hooks.HookBase):
    def __init__(self):
        self.calls = []

    def before_train(self):
        self.calls.append("before_train")

    def before_step(self):
        self.calls.append(f"before_step {self.trainer.iter}")

    def after_backward(self):
        self.calls.append(f"after_backward {self.trainer.iter}")

    def after_step(self):
        self.calls.append(f"after_step {self.trainer.iter}")

    def after_train(self):
        self.calls.append("after_train")


class Scalars(hooks.HookBase):
    """Copies the newest scalars after each step."""

    def __init__(self):
        self.rows = []

    def after_step(self):
        assert self.trainer.storage.iter == self.trainer.iter
        self.rows.append({k: v for k, (v, _) in self.trainer.storage.latest().items()})


class FailAt(hooks.HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise RuntimeError("on purpose")


def test_hooks_are_called_in_order():
    trainer, recorder = make_trainer(), Recorder()
    trainer.register_hooks([None, recorder])
    trainer.train(3, 5)
    assert recorder.calls == [
        "before_train",
        "before_step 3",
        "after_backward 3",
        "after_step 3",
        "before_step 4",
        "after_backward 4",
        "after_step 4",
        "after_train",
    ]


def test_several_hooks_run_in_the_order_of_registration():
    trainer, calls = make_trainer(), []
    trainer.register_hooks([hooks.CallbackHook(after_step=lambda _: calls.append("first"))])
    trainer.register_hooks([hooks.CallbackHook(after_step=lambda _: calls.append("second"))])
    trainer.train(0, 2)
    assert calls == ["first", "second", "first", "second"]


def test_after_backward_sees_gradients_before_the_update():
    class Look(hooks.HookBase):
        def after_backward(self):
            layer = self.trainer.model.layer
            self.seen = (layer.weight.item(), layer.weight.grad.item())

    trainer, look = make_trainer(), Look()
    trainer.register_hooks([look])
    trainer.train(0, 1)
    weight, gradient = look.seen
    assert weight == 0.0
    assert gradient < 0.0
    assert trainer.model.layer.weight.item() == pytest.approx(-0.1 * gradient)


def test_something_that_is_no_hook_is_refused():
    with pytest.raises((TypeError, AssertionError)):
        make_trainer().register_hooks([object()])


def test_base_trainer_has_no_step():
    with pytest.raises(NotImplementedError):
        TrainerBase().run_step()


def test_iteration_after_success_and_after_an_exception():
    trainer = make_trainer()
    trainer.train(0, 4)
    assert (trainer.start_iter, trainer.iter, trainer.max_iter) == (0, 4, 4)

    trainer, recorder = make_trainer(), Recorder()
    trainer.register_hooks([recorder, FailAt(2)])
    with pytest.raises(RuntimeError, match="on purpose"):
        trainer.train(0, 4)
    assert trainer.iter == 2
    assert recorder.calls[-1] == "after_train"


@pytest.mark.parametrize(("error", "traced"), [(DatasetError, False), (ValueError, True)])
def test_what_a_user_can_mend_is_logged_without_a_traceback(caplog, error, traced):
    class Refuse(hooks.HookBase):
        def before_step(self):
            raise error("labels/a.png: is empty")

    trainer = make_trainer()
    trainer.register_hooks([Refuse()])
    with pytest.raises(error, match="is empty"):
        trainer.train(0, 4)
    (record,) = [r for r in caplog.records if "Training stopped" in r.message]
    assert bool(record.exc_info) == traced
    assert traced or "labels/a.png: is empty" in record.message


def test_loss_goes_down():
    trainer, scalars = make_trainer(), Scalars()
    trainer.register_hooks([scalars])
    trainer.train(0, 60)
    losses = [row["total_loss"] for row in scalars.rows]
    assert losses[-1] < 0.05 * losses[0]
    assert all(math.isfinite(loss) for loss in losses)


def test_losses_are_written():
    trainer, scalars = make_trainer(), Scalars()
    trainer.register_hooks([scalars])
    trainer.train(0, 1)
    row = scalars.rows[0]
    x = torch.linspace(-1, 1, 8)
    square, absolute = (2 * x + 1).square().mean().item(), 0.1 * (2 * x + 1).abs().mean().item()
    assert row["loss_square"] == pytest.approx(square)
    assert row["loss_abs"] == pytest.approx(absolute)
    assert row["total_loss"] == pytest.approx(square + absolute)
    assert row["data_time"] >= 0.0


def test_a_scalar_loss_is_enough():
    class OneLoss(Line):
        def forward(self, batch):
            return super().forward(batch)["loss_square"]

    model, scalars = OneLoss(), Scalars()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([scalars])
    trainer.train(0, 20)
    assert "data_time" in scalars.rows[0]
    assert [name for name in scalars.rows[0] if "loss" in name] == ["total_loss"]
    assert scalars.rows[-1]["total_loss"] < 0.5 * scalars.rows[0]["total_loss"]


def test_losses_are_written_every_gather_metric_period():
    trainer, scalars = make_trainer(gather_metric_period=3), Scalars()
    trainer.register_hooks([scalars])
    trainer.train(0, 6)
    assert ["total_loss" in row for row in scalars.rows] == [False, False, True, True, True, True]
    assert scalars.rows[2]["total_loss"] == scalars.rows[4]["total_loss"]
    assert scalars.rows[5]["total_loss"] < scalars.rows[4]["total_loss"]


@pytest.mark.parametrize("before", [False, True])
def test_gradients_are_cleared_once_per_step(before):
    order = []

    class Watched(Line):
        def forward(self, batch):
            order.append("forward")
            return super().forward(batch)

    class WatchedSGD(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            order.append("zero")
            super().zero_grad(set_to_none)

    model = Watched()
    optimizer = WatchedSGD(model.parameters(), lr=0.1)
    SimpleTrainer(model, batches(), optimizer, zero_grad_before_forward=before).train(0, 2)
    assert order == (["zero", "forward"] if before else ["forward", "zero"]) * 2


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_loss_stops_before_the_update(bad):
    class GoesBad(Line):
        def forward(self, batch):
            losses = super().forward(batch)
            if trainer.iter == 2:
                losses["loss_abs"] = losses["loss_abs"] * bad
                self.before = self.layer.weight.item()
            return losses

    model, recorder = GoesBad(), Recorder()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([recorder])
    with pytest.raises(FloatingPointError, match="iteration=2") as caught:
        trainer.train(0, 5)
    assert "loss_abs" in str(caught.value)
    assert "loss_square" in str(caught.value)
    assert model.layer.weight.item() == model.before != 0.0
    assert recorder.calls[-2:] == ["after_backward 2", "after_train"]


def test_model_must_be_in_training_mode():
    model = Line().eval()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    assert model.training
    trainer.model.eval()
    with pytest.raises((RuntimeError, AssertionError), match="eval"):
        trainer.train(0, 1)


@pytest.mark.lite_only
def test_a_model_without_losses_is_named():
    class Silent(Line):
        def forward(self, batch):
            return {}

    model = Silent()
    trainer = SimpleTrainer(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="Silent returned no loss"):
        trainer.train(0, 1)


def test_loader_is_iterated_once_and_can_be_replaced():
    trainer = make_trainer()
    trainer.data_loader = [torch.zeros(2, 1), torch.ones(2, 1)]
    trainer.train(0, 2)
    with pytest.raises(StopIteration):
        trainer.train(2, 3)
    trainer.reset_data_loader(lambda: [torch.ones(2, 1)])
    trainer.train(2, 3)


class Counter(hooks.HookBase):
    """A hook with state."""

    def __init__(self):
        self.count = 0

    def after_step(self):
        self.count += 1

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_state_of_trainer_optimizer_and_hooks():
    def momentum_trainer():
        model = Line()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        trainer = SimpleTrainer(model, batches(), optimizer)
        trainer.register_hooks([Recorder(), Counter()])
        return trainer

    whole = momentum_trainer()
    whole.train(0, 8)

    first = momentum_trainer()
    first.train(0, 3)
    second = momentum_trainer()
    second.model.load_state_dict(first.model.state_dict())
    second.load_state_dict(first.state_dict())
    assert second.iter == first.iter == 3
    second.train(3, 8)
    assert second._hooks[1].count == 8
    assert torch.equal(whole.model.layer.weight, second.model.layer.weight)
    assert torch.equal(whole.model.layer.bias, second.model.layer.bias)


def test_state_of_a_hook_that_is_gone_is_reported(caplog):
    trainer = make_trainer()
    trainer.register_hooks([Counter()])
    trainer.train(0, 1)
    other = make_trainer()
    other.load_state_dict(trainer.state_dict())
    assert "Counter" in caplog.text


@pytest.mark.lite_only  # detectron2's needs an accelerator
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_autocast_on_a_cpu(precision):
    trainer, scalars = make_trainer(AMPTrainer, precision=precision), Scalars()
    trainer.register_hooks([scalars])
    trainer.train(0, 60)
    assert trainer.model.seen_dtype is precision
    assert trainer.model.layer.weight.dtype is torch.float32
    assert scalars.rows[-1]["total_loss"] < 0.05 * scalars.rows[0]["total_loss"]


@pytest.mark.lite_only
def test_gradients_are_scaled_for_half_precision_only():
    class Look(hooks.HookBase):
        def after_backward(self):
            self.gradient = self.trainer.model.layer.bias.grad.item()

    def first_gradient(trainer):
        look = Look()
        trainer.register_hooks([look])
        trainer.train(0, 1)
        return look.gradient

    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    half = first_gradient(make_trainer(AMPTrainer, grad_scaler=scaler))
    brain = first_gradient(make_trainer(AMPTrainer, precision=torch.bfloat16))
    assert half == pytest.approx(8.0 * brain, rel=0.01)
    assert make_trainer(AMPTrainer).grad_scaler.is_enabled()


@pytest.mark.lite_only
def test_state_of_the_scaler_is_kept():
    trainer = make_trainer(
        AMPTrainer, grad_scaler=torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
    )
    trainer.train(0, 2)
    other = make_trainer(AMPTrainer)
    other.load_state_dict(trainer.state_dict())
    assert other.grad_scaler.get_scale() == trainer.grad_scaler.get_scale() == 32.0

"""The training loop with hooks, and one optimiser step in full or mixed precision."""

import logging
import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from detecture.errors import DetectureError

from . import comm
from .events import EventStorage, get_event_storage

logger = logging.getLogger(__name__)


class HookBase:
    """Something that a trainer calls at fixed points of the loop.

    The order is `before_train`, then for each iteration `before_step`, (forward, backward)
    `after_backward`, (update) `after_step`, and at the end, after an exception too, `after_train`.
    `before_step` should take next to no time; put work into `after_step`.
    """

    trainer: Any = None
    """Weak proxy of the trainer, set when the hook is registered."""

    def before_train(self) -> None:
        """Called before the first iteration."""

    def after_train(self) -> None:
        """Called after the last iteration; `trainer.iter == trainer.max_iter` if all went well."""

    def before_step(self) -> None:
        """Called before each iteration."""

    def after_backward(self) -> None:
        """Called between the backward pass and the update."""

    def after_step(self) -> None:
        """Called after each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep of this hook; empty for a hook without state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class TrainerBase:
    """A loop over iterations that calls hooks; a subclass says what one iteration is.

    Attributes:
        iter: the iteration that runs, or the one that ran last.
        start_iter, max_iter: the loop runs over `range(start_iter, max_iter)`.
        storage: open while `train` runs.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int
        self.storage: EventStorage

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Append hooks, to be called in this order; None is skipped."""
        for hook in hooks:
            if hook is None:
                continue
            if not isinstance(hook, HookBase):
                raise TypeError(f"{hook!r} is no HookBase")
            # Weak, so that trainer and hooks do not own each other and the model's memory is freed.
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the iterations `start_iter` to `max_iter - 1`.

        An exception is logged and raised again, after every hook's `after_train`.
        """
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                # iter == max_iter tells after_train that no exception ended the loop.
                self.iter += 1
            except DetectureError as error:  # for the user to fix: a traceback would not help
                logger.error("Training stopped in iteration %d: %s", self.iter, error)
                raise
            except Exception:
                logger.exception("Training stopped in iteration %d:", self.iter)
                raise
            finally:
                self.after_train()

    def before_train(self) -> None:
        """Call the hooks' `before_train`."""
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        """Call the hooks' `after_train`."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        """Call the hooks' `before_step`; from here on the storage has the trainer's iteration."""
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        """Call the hooks' `after_backward`."""
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        """Call the hooks' `after_step`."""
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        """One iteration."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The iteration and the state of the hooks, by class name.

        Of several hooks of one class only the first is kept, as in Detectron2.
        """
        state: dict[str, Any] = {"iteration": self.iter}
        hooks: dict[str, Any] = {}
        for hook in self._hooks:
            hook_state = hook.state_dict()
            if hook_state:
                hooks.setdefault(type(hook).__qualname__, hook_state)
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; the state of a hook that is not there is reported."""
        self.iter = state_dict["iteration"]
        for name, hook_state in state_dict.get("hooks", {}).items():
            for hook in self._hooks:
                if type(hook).__qualname__ == name:
                    hook.load_state_dict(hook_state)
                    break
            else:
                logger.warning("No hook %r is registered; its state is ignored", name)


class SimpleTrainer(TrainerBase):
    """One model, one data loader, one optimiser: forward, backward, update.

    Args:
        model: called with what the loader yields, returns a dict of scalar losses (their sum is
            minimised) or one scalar loss; it is set to training mode here.
        data_loader: endless iterable.
        optimizer: of the model's parameters.
        gather_metric_period: write the losses every so many iterations. Only then is a non-finite
            loss found, too.
        zero_grad_before_forward: clear the gradients before the forward pass, not after it.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
    ) -> None:
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward

    def run_step(self) -> None:
        """One iteration; a non-finite loss stops it before the update.

        Raises:
            FloatingPointError: the total loss is not finite, in any process; raised in all.
            RuntimeError: the model is in evaluation mode.
            TypeError: the model returned no loss.
        """
        if not self.model.training:
            raise RuntimeError(
                f"{type(self).__name__}: the model is in evaluation mode; call model.train()"
            )
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        loss_dict = self._forward(data)
        total = sum(loss_dict.values())
        if not isinstance(total, torch.Tensor):
            raise TypeError(f"{type(self.model).__name__} returned no loss: {loss_dict!r}")
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._backward(total)
        self.after_backward()
        self._write_metrics(loss_dict, data_time)
        self._update()

    def _forward(self, data: Any) -> Mapping[str, torch.Tensor]:
        """The losses of a batch by name, scalars."""
        losses = self.model(data)
        return {"total_loss": losses} if isinstance(losses, torch.Tensor) else losses

    def _backward(self, total: torch.Tensor) -> None:
        """Gradients of the total loss, a scalar."""
        total.backward()

    def _update(self) -> None:
        self.optimizer.step()

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        # Made at first use: worker processes start here, and a trainer may never train.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Drop the loader first, then replace it by what `data_loader_builder()` returns."""
        del self.data_loader
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        """Write scalar losses where it is their turn; see `write_metrics`."""
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            SimpleTrainer.write_metrics(loss_dict, data_time, iteration, prefix)

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        cur_iter: int,
        prefix: str = "",
    ) -> None:
        """Average the losses over the processes and put them into the open storage.

        Args:
            loss_dict: scalar losses of this process.
            data_time: seconds this process waited for data; the greatest of all is written,
                because the others wait for that process.
            cur_iter: iteration they belong to.
            prefix: goes in front of `total_loss`.

        Raises:
            FloatingPointError: the total is not finite. Every process raises it, because one that
                went on would wait for the others for ever.
        """
        get_event_storage().put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        mine = {name: loss.detach().item() for name, loss in loss_dict.items()}
        everyone = comm.all_gather((mine, data_time))
        mean = {name: float(np.mean([losses[name] for losses, _ in everyone])) for name in mine}
        total = sum(mean.values())
        if not math.isfinite(total):
            raise FloatingPointError(
                f"Loss became infinite or NaN at iteration={cur_iter}! loss_dict = {mean}"
            )
        if comm.is_main_process():
            storage = get_event_storage()
            storage.put_scalar("data_time", max(t for _, t in everyone), cur_iter=cur_iter)
            storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
            if len(mean) > 1:
                for name, value in mean.items():
                    storage.put_scalar(name, value, cur_iter=cur_iter)

    def state_dict(self) -> dict[str, Any]:
        """The state of the base class and the optimiser's."""
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])


class AMPTrainer(SimpleTrainer):
    """`SimpleTrainer` whose forward pass runs under autocast on the model's own device type.

    Args:
        model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward: see there.
        grad_scaler: scales the loss against underflow; by default one that is active for float16
            and does nothing for bfloat16, whose range is that of float32.
        precision: `torch.float16` or `torch.bfloat16`.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
    ) -> None:
        super().__init__(
            model, data_loader, optimizer, gather_metric_period, zero_grad_before_forward
        )
        self.precision = precision
        self._device_type = next(model.parameters()).device.type
        self.grad_scaler = grad_scaler or torch.amp.GradScaler(
            self._device_type, enabled=precision == torch.float16
        )

    def _forward(self, data: Any) -> Mapping[str, torch.Tensor]:
        """The losses of a batch by name, scalars, under autocast."""
        with torch.autocast(self._device_type, dtype=self.precision):
            return super()._forward(data)

    def _backward(self, total: torch.Tensor) -> None:
        """Scaled gradients of the total loss, a scalar."""
        self.grad_scaler.scale(total).backward()

    def _update(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The state of the base class and the scaler's."""
        state = super().state_dict()
        state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])

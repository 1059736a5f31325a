"""The usual hooks of a training loop."""

import datetime
import logging
import math
import operator
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as FvcorePeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from torch.optim.lr_scheduler import LRScheduler as TorchLRScheduler

from . import comm
from .evaluation import flatten_results_dict
from .events import EventWriter
from .solver import LRMultiplier
from .train_loop import HookBase

__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
]

logger = logging.getLogger(__name__)

Callback = Callable[[Any], None]


class CallbackHook(HookBase):
    """A hook made of functions; each is called with the trainer."""

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
    ) -> None:
        self._before_train = before_train
        self._after_train = after_train
        self._before_step = before_step
        self._after_step = after_step

    def before_train(self) -> None:
        """Call the function given for this point."""
        if self._before_train:
            self._before_train(self.trainer)

    def after_train(self) -> None:
        """Call the function given for this point."""
        if self._after_train:
            self._after_train(self.trainer)

    def before_step(self) -> None:
        """Call the function given for this point."""
        if self._before_step:
            self._before_step(self.trainer)

    def after_step(self) -> None:
        """Call the function given for this point."""
        if self._after_step:
            self._after_step(self.trainer)


class IterationTimer(HookBase):
    """Puts the scalar `time`, seconds of each iteration, and logs the sum at the end.

    Register it first: what lies between its `before_step` and its `after_step` counts as the
    iteration, everything else as hooks.

    Args:
        warmup_iter: number of iterations at the beginning that are not counted.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._total_timer = Timer()
        self._start_time = time.perf_counter()

    def before_train(self) -> None:
        """Start the clocks."""
        self._start_time = time.perf_counter()
        self._total_timer.reset()
        self._total_timer.pause()

    def after_train(self) -> None:
        """Log the speed and the total time."""
        total = time.perf_counter() - self._start_time
        in_steps = self._total_timer.seconds()
        # After a full run the iteration stands one past the last; after an exception on it.
        iterations = self.trainer.iter - self.trainer.start_iter - self._warmup_iter
        if iterations > 0 and in_steps > 0:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                iterations,
                datetime.timedelta(seconds=int(in_steps)),
                in_steps / iterations,
            )
        logger.info(
            "Total training time: %s (%s on hooks)",
            datetime.timedelta(seconds=int(total)),
            datetime.timedelta(seconds=int(total - in_steps)),
        )

    def before_step(self) -> None:
        """Start the clock of this iteration."""
        self._step_timer.reset()
        self._total_timer.resume()

    def after_step(self) -> None:
        """Put `time`, or start anew while warming up."""
        done = self.trainer.iter - self.trainer.start_iter + 1
        if done > self._warmup_iter:
            self.trainer.storage.put_scalars(time=self._step_timer.seconds())
        else:
            self._start_time = time.perf_counter()
            self._total_timer.reset()
        self._total_timer.pause()


class PeriodicWriter(HookBase):
    """Calls writers every `period` iterations, after the last one and after training.

    Args:
        writers: what to call; they are closed after training.
        period: in iterations.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise TypeError(f"{writer!r} is no EventWriter")
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        """Write if it is time."""
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        """Write what other hooks' `after_train` put, and close."""
        for writer in self._writers:
            writer.write()
            writer.close()


class PeriodicCheckpointer(FvcorePeriodicCheckpointer, HookBase):
    """Saves `model_0000099` and so on every period, and `model_final` after the last iteration."""

    def before_train(self) -> None:
        """Learn from the trainer which iteration is the last."""
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        """Save if it is time."""
        self.step(self.trainer.iter)


class BestCheckpointer(HookBase):
    """Saves a checkpoint whenever a metric is better than ever before in this run.

    Register it after the hook that puts the metric.

    Args:
        eval_period: that of the `EvalHook`, in iterations.
        checkpointer: what saves.
        val_metric: name of the scalar, such as "texture/mIoU".
        mode: "max" if greater is better, "min" if less is.
        file_prefix: name of the checkpoint.

    Raises:
        ValueError: unknown `mode`.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"BestCheckpointer mode is {mode!r}; use 'max' or 'min'")
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._is_better = operator.gt if mode == "max" else operator.lt
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _check(self) -> None:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            logger.warning("No metric %r was put; no best checkpoint saved", self._val_metric)
            return
        metric, iteration = latest
        if not math.isfinite(metric):
            logger.warning("%s is %s; no best checkpoint saved", self._val_metric, metric)
        elif self.best_metric is None or self._is_better(metric, self.best_metric):
            self._checkpointer.save(self._file_prefix, iteration=iteration)
            logger.info(
                "%s is %.5f at iteration %d, before: %s; saved as %s",
                self._val_metric,
                metric,
                iteration,
                self.best_metric,
                self._file_prefix,
            )
            self.best_metric, self.best_iter = metric, iteration
        else:
            logger.info(
                "%s is %.5f, not better than %.5f of iteration %s",
                self._val_metric,
                metric,
                self.best_metric,
                self.best_iter,
            )

    def after_step(self) -> None:
        """Compare, in the iterations in which `EvalHook` evaluates."""
        if _is_evaluated(self.trainer, self._period):
            self._check()

    def after_train(self) -> None:
        """Compare once more, if training came to its end."""
        if self.trainer.iter >= self.trainer.max_iter:
            self._check()


class LRScheduler(HookBase):
    """Steps the learning-rate schedule after every iteration and puts the scalar `lr`.

    Args:
        optimizer: the trainer's if None.
        scheduler: a torch scheduler, or an fvcore schedule of factors on the optimiser's learning
            rates; the trainer's if None.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: TorchLRScheduler | ParamScheduler | None = None,
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._group = 0

    def before_train(self) -> None:
        """Take what was not given from the trainer, and choose the group to report."""
        if self._optimizer is None:
            self._optimizer = self.trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer,
                self.scheduler,
                self.trainer.max_iter,
                last_iter=self.trainer.iter - 1,
            )
        self._group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Index of the group whose learning rate stands for all.

        The one with the most parameters; where each has one parameter, the first with the most
        common learning rate.
        """
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [float(group["lr"]) for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        """Put the learning rate of this iteration, then set that of the next."""
        lr = self._optimizer.param_groups[self._group]["lr"]  # type: ignore[union-attr]
        self.trainer.storage.put_scalar("lr", lr, smoothing_hint=False)
        self.scheduler.step()

    @property
    def scheduler(self) -> Any:
        """The schedule given here, or else the trainer's."""
        return self.trainer.scheduler if self._scheduler is None else self._scheduler

    def state_dict(self) -> dict[str, Any]:
        """State of a torch scheduler; an fvcore schedule has none."""
        if isinstance(self.scheduler, TorchLRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if isinstance(self.scheduler, TorchLRScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluates every `eval_period` iterations and after the last one, in all processes or none.

    Args:
        eval_period: in iterations; 0: only after training.
        eval_function: returns a nested dict of metrics; each becomes a scalar "task/metric". In a
            process that has none, it returns None or an empty dict.
        eval_after_train: whether to evaluate after a training that came to its end.
    """

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping[str, Any] | None],
        eval_after_train: bool = True,
    ) -> None:
        self._period = eval_period
        self._func = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._func()
        if results:
            if not isinstance(results, Mapping):
                raise TypeError(f"the evaluation function must return a dict, not {results!r}")
            scalars = {}
            for name, value in flatten_results_dict(results).items():
                try:
                    scalars[name] = float(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        "the evaluation function must return a nested dict of numbers, "
                        f"but {name!r} is {value!r}"
                    ) from error
            self.trainer.storage.put_scalars(smoothing_hint=False, **scalars)
        # Processes finish evaluating at different times; let them go on together.
        comm.synchronize()

    def after_step(self) -> None:
        """Evaluate if it is time; the last iteration is left to `after_train`."""
        if _is_evaluated(self.trainer, self._period):
            self._do_eval()

    def after_train(self) -> None:
        """Evaluate, if training came to its end and not if an exception ended it."""
        if self._eval_after_train and self.trainer.iter >= self.trainer.max_iter:
            self._do_eval()


def _is_evaluated(trainer: Any, period: int) -> bool:
    done = trainer.iter + 1
    return period > 0 and done % period == 0 and done != trainer.max_iter

"""What happens between iterations: log, evaluate, keep the best, stop early, save."""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.d2 import CfgNode, comm, hooks
from detecture.engine.curriculum import unwrap
from detecture.engine.evaluate import require_measured
from detecture.engine.run_folder import RunWriters
from detecture.errors import CheckpointError, ConfigError, DetectureError, EvaluationError
from detecture.evaluation.validation_images import validation_images
from detecture.jobs.signals import end_signals
from detecture.jobs.together import in_all_processes

logger = logging.getLogger(__name__)

_BEST, _FINAL = "model_best", "model_final"
_OF_TRAINING = ("grad_norm", "data_time", "time", "lr")


class EarlyStop(BaseException):
    """Ends the training loop cleanly; not an error, so not an `Exception`."""


class ValidationHook(hooks.HookBase):
    """Logs, evaluates, keeps the best model, stops early and saves, in this order.

    A checkpoint holds all of this state, so that a killed run continues as if nothing had happened.
    One is written before each evaluation, marked as still pending, and another one after it.

    None of this ends a running training. A failed evaluation is reported and skipped, and counts
    neither for nor against early stopping. If a checkpoint cannot be written, this is reported, and
    the next one is tried when due. Only for the last one, of the finished model, is it an error.

    If one process is asked to stop, all stop after the current iteration, and a checkpoint is
    saved. A running evaluation stops at once and stays pending.

    Args:
        cfg: SOLVER.CHECKPOINT_PERIOD, SOLVER.LOG_PERIOD, TEST.EVAL_PERIOD, TEST.BEST_METRIC,
            TEST.EARLY_STOPPING_PATIENCE and TEST.VALIDATION_IMAGES.
        evaluate: returns a nested dict of metrics in the main process, nothing in the others.
        checkpointer: what saves.
        writers: what logs.
        measured: names of the metrics, such as `texture/mIoU`; None: not known in advance.

    Attributes:
        failure: what went wrong in the newest evaluation; empty if nothing did.
        saved: the iteration of the newest checkpoint that this training has saved; None: none yet.

    Raises:
        ConfigError: TEST.BEST_METRIC is not among the metrics measured.
    """

    def __init__(
        self,
        cfg: CfgNode,
        evaluate: Callable[[], Mapping[str, Any] | None],
        checkpointer: Checkpointer,
        writers: RunWriters,
        measured: frozenset[str] | None = None,
    ) -> None:
        self._cfg = cfg
        self._evaluate = evaluate
        self._checkpointer = checkpointer
        self._writers = writers
        self._metric, self._patience = cfg.TEST.BEST_METRIC, cfg.TEST.EARLY_STOPPING_PATIENCE
        self._log_period = cfg.SOLVER.LOG_PERIOD
        if self._patience and not self._metric:
            raise ConfigError(
                "TEST.EARLY_STOPPING_PATIENCE needs TEST.BEST_METRIC, such as texture/mIoU"
            )
        self._is_of_training = False
        if self._metric and measured is not None and self._metric not in measured:
            if not _may_be_of_training(self._metric):
                require_measured("TEST.BEST_METRIC", self._metric, measured)
            self._is_of_training = True
        self.best: float | None = None
        self.best_iteration: int | None = None
        self.without_progress = 0
        self.failure = ""
        self.saved: int | None = None
        self._owed: dict[str, Any] | None = None

    def owed_iteration(self) -> int | None:
        """The iteration whose evaluation was cut off, if any."""
        return self._owed["iteration"] if self._owed else None

    def before_train(self) -> None:
        """Run the pending evaluation of a killed run; end at once if it had stopped early."""
        if self._owed is not None:
            logger.info("Evaluating iteration %d, which was cut off", self._owed["iteration"])
            storage = self.trainer.storage
            storage.iter = self._owed["iteration"]
            for name, value in self._owed["scalars"].items():
                storage.put_scalar(name, value, smoothing_hint=False)
            self._validate()
            self._writers.write()
            storage.iter = self.trainer.start_iter
        if self._is_exhausted():
            self.trainer.iter = self.trainer.start_iter - 1  # no more training
            self._stop_early()

    def before_step(self) -> None:
        """From the first iteration on, requests to stop wait until the iteration is done."""
        end_signals.hold()

    def after_step(self) -> None:
        """Do what is due after this iteration."""
        done = self.trainer.iter + 1
        last = done >= self.trainer.max_iter
        evaluates = not last and _is_due(done, self._cfg.TEST.EVAL_PERIOD)
        saves = not last and _is_due(done, self._cfg.SOLVER.CHECKPOINT_PERIOD)
        ends = not last and any(comm.all_gather(end_signals.is_asked))  # all in one iteration
        if self._is_of_training and self.trainer.iter == self.trainer.start_iter:
            self._latest()  # reports an unknown metric name before there is anything to lose
        if evaluates:
            self._owed = {"iteration": done - 1, "scalars": self._scalars()}
            self._save_if_possible(f"model_{done - 1:07d}")
            if ends:  # the resumed run evaluates first, and writes this iteration's line
                self._writers.leave_rest()
                raise KeyboardInterrupt
            self._validate()
        if evaluates or last or _is_due(done, self._log_period):
            self._writers.write()
        if last:
            self._save(_FINAL)
        elif evaluates or saves or ends:
            self._save_if_possible(f"model_{done - 1:07d}")
        if ends:
            self._writers.leave_rest()
            raise KeyboardInterrupt
        if evaluates and self._is_exhausted():
            self._stop_early()

    def after_train(self) -> None:
        """Evaluate if training reached its end, but not if an exception ended it."""
        if self.trainer.iter >= self.trainer.max_iter:
            # It is one more if nothing was left to train.
            self.trainer.storage.iter = self.trainer.max_iter
            self._validate()

    def _save(self, name: str) -> None:
        with in_all_processes(CheckpointError):
            self._checkpointer.save(name, iteration=self.trainer.iter)
        self.saved = self.trainer.iter

    def _save_if_possible(self, name: str) -> None:
        try:
            self._save(name)
        except CheckpointError as error:
            logger.error("CHECKPOINT NOT SAVED: %s. The training goes on meanwhile", error)

    def _scalars(self) -> dict[str, float]:
        """This iteration's losses, for the line of metrics.json that is still to be written."""
        hints = self.trainer.storage.smoothing_hints()
        latest = self.trainer.storage.latest()
        return {
            name: value
            for name, (value, iteration) in latest.items()
            if iteration == self.trainer.iter and not hints[name]
        }

    def _validate(self) -> None:
        """Evaluate; a failure in any process is reported, and all processes skip the evaluation."""
        self.failure = ""
        with end_signals.let_through():
            self._evaluate_all()

    def _evaluate_all(self) -> None:
        try:
            with in_all_processes(EvaluationError):  # processes finish it at different times
                self._measure()
            if self._metric:
                self._compare()
            with in_all_processes(EvaluationError):
                self._draw()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            logger.error(
                "EVALUATION FAILED, and is left out, after iteration %d: %s",
                *(self.trainer.storage.iter, self.failure),
                exc_info=None if isinstance(error, DetectureError) else error,
            )
        finally:
            self.trainer.model.train()
        self._owed = None

    def _measure(self) -> None:
        for name, value in _flat(self._evaluate() or {}).items():
            self.trainer.storage.put_scalar(name, value, smoothing_hint=False)

    def _draw(self) -> None:
        if comm.is_main_process() and self._cfg.TEST.VALIDATION_IMAGES:
            for name, image in validation_images(self._cfg, unwrap(self.trainer.model)):
                self.trainer.storage.put_image(name, image)

    def _latest(self) -> float:
        """The newest value of TEST.BEST_METRIC, the same in all processes.

        Raises:
            ConfigError: no metric of this name was measured.
        """
        latest = self.trainer.storage.latest() if comm.is_main_process() else {}
        value, _ = latest.get(self._metric, (None, None))
        # Only the main process knows the results, but all must make the same decision.
        (value, known), *_ = comm.all_gather((value, sorted(latest)))
        if value is None:
            raise ConfigError(
                f"TEST.BEST_METRIC {self._metric!r} was not measured; measured are "
                f"{', '.join(known)}"
            )
        return float(value)

    def _compare(self) -> None:
        value, iteration = self._latest(), self.trainer.storage.iter
        sign = -1.0 if _less_is_better(self._metric) else 1.0
        if math.isfinite(value) and (self.best is None or sign * value > sign * self.best):
            logger.info("%s is %.5f, before: %s; saved as %s", *self._told(value), _BEST)
            with in_all_processes(CheckpointError):
                self._checkpointer.save_weights(
                    _BEST, iteration=iteration, metric=self._metric, value=value
                )
            self.best, self.best_iteration, self.without_progress = value, iteration, 0
        else:
            self.without_progress += 1
            logger.info("%s is %.5f, not better than %s", *self._told(value))

    def _told(self, value: float) -> tuple[str, float, float | None]:
        return self._metric, value, self.best

    def _is_exhausted(self) -> bool:
        return 0 < self._patience <= self.without_progress

    def _stop_early(self) -> None:
        logger.info(
            "Training ends early: %d evaluations in a row without a better %s than %s",
            self.without_progress,
            *(self._metric, self.best),
        )
        self._save(_FINAL)
        raise EarlyStop

    def state_dict(self) -> dict[str, Any]:
        """Best value, evaluations without progress, and a pending evaluation."""
        return {
            "metric": self._metric,
            "best": self.best,
            "best_iteration": self.best_iteration,
            "without_progress": self.without_progress,
            "owed": self._owed,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the best value of another metric is ignored."""
        self._owed = state_dict["owed"]
        if (before := state_dict.get("metric", self._metric)) != self._metric:
            logger.warning(
                "TEST.BEST_METRIC is %r now, %r in the checkpoint: the best so far is forgotten",
                *(self._metric, before),
            )
            return
        self.best = state_dict["best"]
        self.best_iteration = state_dict["best_iteration"]
        self.without_progress = state_dict["without_progress"]


def _may_be_of_training(metric: str) -> bool:
    """Whether a scalar of this name may come from a training step, the only source of it."""
    return "loss" in metric.lower() or metric in _OF_TRAINING


def _less_is_better(metric: str) -> bool:
    """Whether a scalar is a loss, an error such as K_MAE, or a variation of information (VI)."""
    is_vi = metric.rsplit("/", 1)[-1].split("_")[0] == "VI"
    return is_vi or any(word in metric.lower() for word in ("loss", "mae"))


def _is_due(done: int, period: int) -> bool:
    return period > 0 and done % period == 0


def _flat(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Turn `{"texture": {"mIoU": 0.8}}` into `{"texture/mIoU": 0.8}`."""
    flat: dict[str, float] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = float(value)
    return flat

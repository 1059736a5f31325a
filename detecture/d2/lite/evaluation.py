"""Running a model over a data set, and checking what comes out."""

import datetime
import logging
import math
import pprint
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from detecture.device import synchronize
from detecture.errors import EXIT_FAILED

from . import comm
from .config import CfgNode

logger = logging.getLogger(__name__)

_LOG_SECONDS = 5.0
_WARMUP_BATCHES = 5


class DatasetEvaluator:
    """Sees every pair of inputs and outputs, and makes metrics out of them."""

    def reset(self) -> None:
        """Forget everything; called before each round."""

    def process(self, inputs: Any, outputs: Any) -> None:
        """Take in one batch.

        Args:
            inputs: what the model was called with, a list of dicts.
            outputs: what it returned, a list of the same length.
        """

    def evaluate(self) -> Mapping[str, Any] | None:
        """Metrics by task, `{"texture": {"mIoU": 83.1}}`; None if another process has them."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one.

    Args:
        evaluators: may be empty, to measure speed only.
    """

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        self._evaluators = evaluators

    def reset(self) -> None:
        """Reset every evaluator."""
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        """Give the batch to every evaluator."""
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> "OrderedDict[str, Any]":
        """The results of all evaluators in one dict; empty outside the main process.

        Raises:
            AssertionError: two of them use the same key (the type that Detectron2 raises).
        """
        merged: OrderedDict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            results = evaluator.evaluate()
            if results is None or not comm.is_main_process():
                continue
            for key, value in results.items():
                if key in merged:
                    raise AssertionError(f"two evaluators produce results under the key {key!r}")
                merged[key] = value
        return merged


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], Any]] | None = None,
) -> Mapping[str, Any]:
    """Run a model over a loader and let an evaluator judge it.

    Gradients are off. A `torch.nn.Module` is in evaluation mode meanwhile and back in its own mode
    afterwards, also after an exception.

    Args:
        model: called with what the loader yields.
        data_loader: an iterable with a length.
        evaluator: one, a list of them, or None to measure speed only.
        callbacks: functions without arguments to call at "on_start", "before_inference" and
            "after_inference" (around each batch) and "on_end".

    Returns:
        What the evaluator's `evaluate()` returned, `{}` for None.
    """
    if evaluator is None:
        evaluator = DatasetEvaluators([])
    elif isinstance(evaluator, list):
        evaluator = DatasetEvaluators(evaluator)
    evaluator.reset()
    callbacks = callbacks or {}
    clock = _InferenceClock(len(data_loader))
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        _call(callbacks, "on_start")
        clock.start()
        for inputs in data_loader:
            clock.data_is_here()
            _call(callbacks, "before_inference")
            outputs = model(inputs)
            _call(callbacks, "after_inference")
            synchronize()  # or the time of this batch would count for the next
            clock.outputs_are_here(len(inputs) if hasattr(inputs, "__len__") else 1)
            evaluator.process(inputs, outputs)
            clock.batch_is_done()
        _call(callbacks, "on_end")
    # Logged before evaluate, which waits for the other processes.
    clock.log_total()
    results = evaluator.evaluate()
    return {} if results is None else results


def _call(callbacks: Mapping[str, Callable[[], Any]], name: str) -> None:
    if name in callbacks:
        callbacks[name]()


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the block, and then back into the mode it had."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class _InferenceClock:
    """Times of data, compute and evaluation; the first batches are slow and are left out."""

    def __init__(self, total_batches: int) -> None:
        self._total = total_batches
        self._warmup = min(_WARMUP_BATCHES, max(total_batches - 1, 0))
        self._done = 0

    def start(self) -> None:
        logger.info("Start inference on %d batches", self._total)
        self._last_log = self._mark = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self._images = self._timed_batches = 0
        self._data = self._compute = self._evaluation = 0.0

    def _lap(self) -> float:
        now = time.perf_counter()
        lap, self._mark = now - self._mark, now
        return lap

    def data_is_here(self) -> None:
        if self._done == self._warmup:
            self._reset()
        self._data += self._lap()

    def outputs_are_here(self, images: int) -> None:
        self._compute += self._lap()
        self._images += images

    def batch_is_done(self) -> None:
        self._evaluation += self._lap()
        self._done += 1
        self._timed_batches += 1
        if self._mark - self._last_log < _LOG_SECONDS:
            return
        self._last_log = self._mark
        seconds = self._data + self._compute + self._evaluation
        to_go = int(seconds / self._timed_batches * (self._total - self._done))
        logger.info(
            "Inference done %d/%d. Data: %.4f, inference: %.4f, evaluation: %.4f s / img. ETA=%s",
            self._done,
            self._total,
            self._data / max(self._images, 1),
            self._compute / max(self._images, 1),
            self._evaluation / max(self._images, 1),
            datetime.timedelta(seconds=to_go),
        )

    def log_total(self) -> None:
        images = max(self._images, 1)
        for what, seconds in (
            ("time", self._data + self._compute + self._evaluation),
            ("pure compute time", self._compute),
        ):
            logger.info(
                "Total inference %s: %s (%.6f s / img per device, on %d devices)",
                what,
                datetime.timedelta(seconds=int(seconds)),
                seconds / images,
                comm.get_world_size(),
            )


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the main metrics in lines that begin with "copypaste:", for a spreadsheet.

    Metrics with a "-" in their name (those of single classes) are left out.

    Args:
        results: `{task: {metric: number}}`; a task may also be a plain value.
    """
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(main))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in main.values()))


def verify_results(cfg: CfgNode, results: Mapping[str, Any]) -> bool:
    """Compare results with TEST.EXPECTED_RESULTS, `[[task, metric, expected, tolerance], ...]`.

    A task or metric that is missing, and a value that is not finite, is a miss.

    Returns:
        True. A miss does not return.

    Raises:
        SystemExit: with status 1, after logging each miss.
    """
    expectations = cfg.TEST.EXPECTED_RESULTS
    if not expectations:
        return True
    misses = []
    for task, metric, expected, tolerance in expectations:
        metrics = results.get(task)
        actual = metrics.get(metric) if isinstance(metrics, Mapping) else None
        if actual is None:
            misses.append(f"{task}/{metric} is missing, expected {expected} +- {tolerance}")
        elif not math.isfinite(actual) or abs(actual - expected) > tolerance:
            misses.append(f"{task}/{metric} is {actual}, expected {expected} +- {tolerance}")
    if misses:
        logger.error("Result verification failed!\n%s", "\n".join(misses))
        logger.error("Actual results:\n%s", pprint.pformat(results))
        sys.exit(EXIT_FAILED)
    logger.info("Results verification passed.")
    return True


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"texture": {"mIoU": 83.1}}` into `{"texture/mIoU": 83.1}`, at any depth."""
    flat = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{k}": v for k, v in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat

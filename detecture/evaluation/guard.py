"""Runs a method so that one bad image does not end an evaluation, and a broken method does."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from detecture.data.k_hint import require_room
from detecture.errors import EvaluationError

logger = logging.getLogger(__name__)


class GuardedModel(nn.Module):
    """Wraps a method: what it raises becomes a recorded status.

    Images that the mapper could not read (`error` in the mapped dict) never reach the method.
    """

    def __init__(self, model: nn.Module, max_failures_in_a_row: int) -> None:
        """Wrap `model`; after `max_failures_in_a_row` consecutive exceptions, give up."""
        super().__init__()
        self.model = model
        self.max_failures_in_a_row = max_failures_in_a_row
        self._failures_in_a_row = 0

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts to standard outputs, or to `{"status", "error"}` where there is none.

        Raises:
            EvaluationError: the method failed on too many images in a row; the last exception
                is its cause.
        """
        outputs: dict[int, dict[str, Any]] = {}
        readable = [i for i, sample in enumerate(batched_inputs) if "error" not in sample]
        for i, sample in enumerate(batched_inputs):
            if "error" in sample:
                outputs[i] = {"status": sample["status"], "error": sample["error"]}
        found = run_each(self._answer, [batched_inputs[i] for i in readable])
        for i, output in zip(readable, found, strict=True):
            if isinstance(output, Exception):
                outputs[i] = self._failed(batched_inputs[i], output)
            else:
                outputs[i] = output
                self._failures_in_a_row = 0
        return [outputs[i] for i in range(len(batched_inputs))]

    def _answer(self, samples: list[dict[str, Any]]) -> Any:
        for sample in samples:
            require_room(sample)
        return self.model(samples)

    def _failed(self, sample: dict[str, Any], error: Exception) -> dict[str, Any]:
        logger.warning("%s: the method failed", sample["file_name"], exc_info=error)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self.max_failures_in_a_row:
            raise EvaluationError(
                f"the method failed on {self._failures_in_a_row} images in a row, the last one "
                f"{sample['file_name']} ({type(error).__name__}: {error}); see the log. Finished "
                "samples are kept (TEST.MAX_FAILURES_IN_A_ROW sets the limit)"
            ) from error
        return {"status": "exception", "error": f"{type(error).__name__}: {error}"}


def run_each(
    model: Callable[[list[dict[str, Any]]], Any], samples: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any] | Exception]:
    """For each image, the method's output or what it raised.

    Args:
        model: maps a list of mapped dicts to a list of outputs.
        samples: mapped dicts, which it gets together or, where that fails, one by one.
    """
    if not samples:
        return
    outputs: list[dict[str, Any] | Exception] | None = None
    try:
        outputs = list(_checked(model(list(samples)), len(samples)))
    except Exception as error:  # noqa: BLE001 - any failure of any method is its image's alone
        if len(samples) == 1:
            outputs = [error]
    if outputs is not None:
        yield from outputs
        return
    # Find out which images of the batch fail; what the exception held on to is freed by now.
    for sample in samples:
        yield from run_each(model, [sample])


def _checked(results: Any, count: int) -> list[dict[str, Any]]:
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise TypeError(f"a method must return a list of dicts, got {type(results).__name__}")
    if len(results) != count:
        raise ValueError(f"{len(results)} outputs for {count} images")
    return results

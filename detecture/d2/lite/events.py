"""Scalars and images of a training run, and the writers that bring them to a file or a log."""

import datetime
import json
import logging
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from fvcore.common.history_buffer import HistoryBuffer

from detecture.device import peak_memory_bytes

_storage_stack: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """The innermost storage that is open.

    Raises:
        AssertionError: no storage is open (the type that Detectron2 raises here).
    """
    if not _storage_stack:
        raise AssertionError(
            "get_event_storage() works only inside a 'with EventStorage(...)' block; "
            "a trainer opens one in train()"
        )
    return _storage_stack[-1]


class EventStorage:
    """Keeps the history of named scalars, and images until a writer takes them.

    Used as a context manager, it becomes what `get_event_storage()` returns.

    Args:
        start_iter: iteration number to begin with.
    """

    def __init__(self, start_iter: int = 0) -> None:
        self._history: dict[str, HistoryBuffer] = {}
        self._smoothing_hints: dict[str, bool] = {}
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._current_prefix = ""
        self._vis_data: list[tuple[str, torch.Tensor | np.ndarray, int]] = []

    def put_image(self, img_name: str, img_tensor: torch.Tensor | np.ndarray) -> None:
        """Keep an image until `TensorboardXWriter`, the only writer that removes images, writes it.

        Args:
            img_name: tag of the image.
            img_tensor: (3,H,W) RGB, float in [0, 1] or uint8.
        """
        self._vis_data.append((img_name, img_tensor, self._iter))

    def clear_images(self) -> None:
        """Forget the images."""
        self._vis_data = []

    def put_scalar(
        self,
        name: str,
        value: Any,
        smoothing_hint: bool = True,
        cur_iter: int | None = None,
    ) -> None:
        """Append one value to the history of `name` (with the current name scope in front).

        Args:
            name: name of the scalar.
            value: anything that `float()` takes.
            smoothing_hint: whether writers should show a median over a window.
            cur_iter: iteration the value belongs to; the storage's own if None.

        Raises:
            AssertionError: `name` was put before with another hint (the type of Detectron2).
        """
        name = self._current_prefix + name
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(
                f"scalar {name!r} was put with smoothing_hint={not smoothing_hint} before "
                f"and with smoothing_hint={smoothing_hint} now; use one of them"
            )
        iteration = self._iter if cur_iter is None else cur_iter
        number = float(value)
        self._history.setdefault(name, HistoryBuffer()).update(number, iteration)
        self._latest_scalars[name] = (number, iteration)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any
    ) -> None:
        """Put several scalars: `put_scalars(loss=0.3, accuracy=0.9)`."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def history(self, name: str) -> HistoryBuffer:
        """History of one scalar.

        Raises:
            KeyError: nothing was put under that name.
        """
        if name not in self._history:
            raise KeyError(f"no scalar {name!r}; there are: {sorted(self._history)}")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """All histories by name."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Newest value of each scalar and the iteration it was put at."""
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like `latest`, but where the hint is set the median over the last iterations.

        Args:
            window_size: number of iterations; it equals the number of values only if one was put in
                each.
        """
        return {
            name: (
                float(self._history[name].median(self.count_samples(name, window_size)))
                if self._smoothing_hints[name]
                else value,
                iteration,
            )
            for name, (value, iteration) in self._latest_scalars.items()
        }

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Number of values that were put in the last `window_size` iterations of a scalar."""
        values = self.history(name).values()
        oldest = values[-1][1] - window_size
        return sum(1 for _ in takewhile(lambda put: put[1] > oldest, reversed(values)))

    def smoothing_hints(self) -> dict[str, bool]:
        """Whether each scalar is to be smoothed when shown."""
        return self._smoothing_hints

    def step(self) -> None:
        """Advance the iteration by one, where no trainer sets it."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration; under a trainer always the trainer's own."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put `name/` in front of every scalar that is put inside the block."""
        previous = self._current_prefix
        self._current_prefix = name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = previous

    def __enter__(self) -> "EventStorage":
        _storage_stack.append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if _storage_stack[-1] is not self:
            raise AssertionError("EventStorage blocks must be left in the reverse order of entry")
        _storage_stack.pop()


class EventWriter:
    """Base of what reads the open storage and writes it somewhere."""

    def write(self) -> None:
        """Write what is new in the open storage."""
        raise NotImplementedError

    def close(self) -> None:
        """Release files; nothing is written after this."""


class JSONWriter(EventWriter):
    """Appends scalars to a file, one JSON object per line and iteration.

    A non-finite value is written as null, because NaN is not JSON.

    Args:
        json_file: path; its folder is made, and an existing file is appended to.
        window_size: width of the median, in iterations.
    """

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        path = Path(json_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file_handle = path.open("a", encoding="utf-8")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        """Write the scalars that were put since the last call, and sync the file to the disk."""
        lines: dict[int, dict[str, float | int | None]] = defaultdict(dict)
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        for name, (value, iteration) in latest.items():
            if iteration > self._last_write:
                lines[iteration][name] = value if math.isfinite(value) else None
        for iteration in sorted(lines):
            line = {**lines[iteration], "iteration": iteration}
            self._file_handle.write(json.dumps(line, sort_keys=True) + "\n")
            self._last_write = iteration
        self._file_handle.flush()
        os.fsync(self._file_handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file_handle.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars and images for tensorboard; the file appears at the first write.

    Args:
        log_dir: folder of the event files.
        window_size: width of the median, in iterations.
        kwargs: passed on to `torch.utils.tensorboard.SummaryWriter`.
    """

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._window_size = window_size
        self._writer_args = {"log_dir": log_dir, **kwargs}
        self._writer: Any = None
        self._last_write = -1

    def write(self) -> None:
        """Write the scalars and images that were put since the last call."""
        if self._writer is None:
            # Imported late: it takes seconds, and not every run writes for tensorboard.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(**self._writer_args)
        storage = get_event_storage()
        newest = self._last_write
        for name, (value, iteration) in storage.latest_with_smoothing_hint(
            self._window_size
        ).items():
            if iteration > self._last_write:
                self._writer.add_scalar(name, value, iteration)
                newest = max(newest, iteration)
        self._last_write = newest
        for name, image, iteration in storage._vis_data:
            self._writer.add_image(name, image, iteration)
        storage.clear_images()

    def close(self) -> None:
        """Close the event file, if one was begun."""
        if self._writer is not None:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line: time to go, iteration, losses, times, learning rate, device memory.

    Args:
        max_iter: number of iterations of the run; without it no time to go is shown.
        window_size: width of the median of the losses, in iterations.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger(__name__)
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None

    def _eta_seconds(self, storage: EventStorage) -> float | None:
        if self._max_iter is None:
            return None
        to_go = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            eta = float(storage.history("time").median(1000)) * to_go
            storage.put_scalar("eta_seconds", eta, smoothing_hint=False)
            return eta
        # No IterationTimer among the hooks, or its warm-up is not over: measure between writes.
        now, previous = time.perf_counter(), self._last_write
        self._last_write = (storage.iter, now)
        if previous is None or previous[0] >= storage.iter:
            return None
        return (now - previous[1]) / (storage.iter - previous[0]) * to_go

    def write(self) -> None:
        """Log the line; nothing once the last iteration is done."""
        storage = get_event_storage()
        if self._max_iter is not None and storage.iter >= self._max_iter:
            return
        histories = storage.histories()
        parts = []
        eta = self._eta_seconds(storage)
        if eta is not None:
            parts.append(f"eta: {datetime.timedelta(seconds=int(eta))}")
        parts.append(f"iter: {storage.iter}")
        parts += [
            f"{name}: {history.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, history in histories.items()
            if "loss" in name
        ]
        for name in ("time", "data_time"):
            if name in histories:
                values = histories[name]
                in_window = values.avg(storage.count_samples(name, self._window_size))
                mean = values.global_avg() if name == "time" else in_window
                parts.append(f"{name}: {mean:.4f}")
                parts.append(f"last_{name}: {values.latest():.4f}")
        parts.append(f"lr: {histories['lr'].latest():.5g}" if "lr" in histories else "lr: N/A")
        memory = peak_memory_bytes()
        if memory is not None:
            parts.append(f"max_mem: {memory / 2**20:.0f}M")
        self.logger.info("  ".join(parts))

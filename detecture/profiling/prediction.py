"""Time and memory of whole predictions: an image in, regions and sentences out."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detecture.config import make_config
from detecture.device import resolve_device
from detecture.errors import ConfigError
from detecture.profiling.clock import StageClock, peak_memory, percentiles

if TYPE_CHECKING:
    import torch

    from detecture import TexturePredictor

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SEED = 21


@dataclass(frozen=True)
class Work:
    """What one process measures.

    Attributes:
        config: yaml file; empty: the method shipped with the package.
        overrides: alternating keys and values.
        size: side of the images in pixels.
        regions: number in each image.
        threads: number for torch and for the libraries that numpy uses.
        repeats: number of timed images, all different.
    """

    config: str
    overrides: tuple[str, ...]
    size: int
    regions: int
    threads: int
    repeats: int


def prediction_suite(
    config: str,
    overrides: Sequence[str],
    *,
    sizes: Sequence[int],
    regions: int,
    threads: Sequence[int],
    repeats: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Measure every size with every number of threads, each in a fresh process.

    In one process, peak memory would be that of the largest image so far, and libraries read their
    number of threads only once.

    Args:
        config, overrides, regions, repeats: see `Work`.
        sizes: sides of the images in pixels.
        threads: numbers of threads.
        report: gets a line for each process.

    Returns:
        `prediction`: a list of what the processes found, see `_measure`.

    Raises:
        ConfigError: more threads than this machine has cores.
    """
    cores = os.cpu_count() or 1
    if max(threads) > cores:
        raise ConfigError(f"--threads {max(threads)}: this machine has {cores} cores")
    rows = []
    for size in sizes:
        for number in threads:
            work = Work(config, tuple(overrides), size, regions, number, repeats)
            rows.append(_in_a_fresh_process(work))
            report(_line(rows[-1]))
    return {"prediction": rows}


def _in_a_fresh_process(work: Work) -> dict[str, Any]:
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, str(work.threads)))
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_measure, (work,))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure(work: Work) -> dict[str, Any]:
    """Load the model, predict one image untimed, then `repeats` others, K unknown and known.

    Returns:
        `size`, `threads`, `load_seconds`, `known` and `unknown` (`p50_ms`, `p95_ms`), with `stages`
        likewise, `peak_mib` of the whole process, `parameters` and `dtype` by part of the model.
    """
    import torch

    from detecture import TexturePredictor
    from detecture.data.synthetic import render_scene

    torch.set_num_threads(work.threads)
    images = [
        render_scene(_SEED, index, work.size, work.regions, edition=2).image
        for index in range(work.repeats + 1)
    ]
    start = time.perf_counter()
    predictor = TexturePredictor.from_config(work.config or None, list(work.overrides))
    loaded = time.perf_counter() - start
    result: dict[str, Any] = {
        "size": work.size,
        "threads": work.threads,
        "load_seconds": loaded,
        "parameters": {
            name: sum(p.numel() for p in part.parameters())
            for name, part in predictor.model.named_children()
        },
        "dtype": {
            name: ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in held}))
            for name, part in predictor.model.named_children()
            if (held := list(part.parameters()))
        },
    }
    cfg = make_config(work.config or None, list(work.overrides))
    stages = _Stages(predictor.model, resolve_device(cfg.MODEL.DEVICE))
    for key, count in (("unknown", None), ("known", work.regions)):
        passes = [stages.of(predictor, image, count) for image in images][1:]
        result[key] = percentiles([sum(one.values()) for one in passes])
        result[key]["stages"] = {
            stage: percentiles([one.get(stage, 0.0) for one in passes])
            for stage in dict.fromkeys(stage for one in passes for stage in one)
        }
    result["peak_mib"] = peak_memory(on_accelerator=False) / 2**20
    return result


class _Stages:
    """Times the steps of a prediction, whatever the method."""

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        self._clock = StageClock(device)
        self._device = device
        describer: Any = dict(model.named_children()).get("describer")
        if describer is not None:
            describer.describe = self._noted(describer.describe)

    def _noted(self, describe: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            self._clock.enter("describe")
            try:
                return describe(*arguments, **options)
            finally:
                self._clock.enter("segment")

        return noted

    def of(
        self, predictor: TexturePredictor, image: np.ndarray, count: int | None
    ) -> dict[str, float]:
        """Seconds of each stage for an image uint8 (H,W,3)."""
        self._clock = StageClock(self._device)
        self._clock.enter("encode")
        predictor.set_image(image)
        self._clock.enter("segment")
        predictor.predict(count)
        self._clock.leave()
        return self._clock.seconds


def _line(row: dict[str, Any]) -> str:
    times = ", ".join(
        f"K {key}: p50 {row[key]['p50_ms']:.0f} ms, p95 {row[key]['p95_ms']:.0f} ms"
        for key in ("known", "unknown")
    )
    return (
        f"{row['size']}x{row['size']}, {row['threads']} threads: {times}, "
        f"peak {row['peak_mib']:.0f} MiB, loaded in {row['load_seconds']:.1f} s"
    )

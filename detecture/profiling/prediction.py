"""Time and memory of whole predictions: an image in, regions and sentences out."""

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from detecture.errors import ConfigError
from detecture.profiling.clock import peak_memory, percentiles

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_SEED = 21


@dataclass(frozen=True)
class Work:
    """What one process measures.

    Attributes:
        config: yaml file; empty: the method that ships.
        overrides: alternating keys and values.
        size: side of the images in pixels.
        regions: in each image.
        threads: of torch and of the libraries below numpy.
        repeats: timed images, each another one.
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

    In one process the peak of the memory would be that of the largest image so far, and libraries
    read their number of threads once.

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
        `size`, `threads`, `load_seconds`, `known` and `unknown` (`p50_ms`, `p95_ms`), `peak_mib` of
        the whole process, and `parameters` by part of the model.
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
    }
    for key, count in (("unknown", None), ("known", work.regions)):
        seconds = []
        for image in images:
            start = time.perf_counter()
            predictor(image, count=count)
            seconds.append(time.perf_counter() - start)
        result[key] = percentiles(seconds[1:])
    result["peak_mib"] = peak_memory(on_accelerator=False) / 2**20
    return result


def _line(row: dict[str, Any]) -> str:
    times = ", ".join(
        f"K {key}: p50 {row[key]['p50_ms']:.0f} ms, p95 {row[key]['p95_ms']:.0f} ms"
        for key in ("known", "unknown")
    )
    return (
        f"{row['size']}x{row['size']}, {row['threads']} threads: {times}, "
        f"peak {row['peak_mib']:.0f} MiB, loaded in {row['load_seconds']:.1f} s"
    )

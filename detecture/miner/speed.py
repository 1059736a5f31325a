"""How fast a mine is, and how much memory it takes, for `tools/benchmark_speed.py --task miner`."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from detecture.d2 import CfgNode
from detecture.errors import DatasetError, MinerError
from detecture.miner.export import WRITERS, export
from detecture.miner.journal import OK
from detecture.miner.published_set import labelled_images
from detecture.miner.running import Mine
from detecture.miner.stages import EXPORT
from detecture.miner.steps.extract import region_map


def measure(cfg: CfgNode, workers: Sequence[int], limits: Sequence[int]) -> dict[str, Any]:
    """Run a mine from nothing, in a temporary folder.

    Args:
        cfg: the config; its OUTPUT_DIR is not used.
        workers: numbers of processes to run it with, each time from nothing.
        limits: numbers of images to measure peak memory for, each in a process of its own.

    Returns:
        Images per second of each stage by the number of processes, counted from the first result
        (so without the loading of models); seconds of each format of export; MiB at the peak.
    """
    found: dict[str, Any] = {"images_per_second": {}, "export_seconds": {}, "peak_mib": {}}
    with TemporaryDirectory(prefix="detecture-speed-") as folder:
        place = Path(folder)
        mine = Mine.of(_with(cfg, place / "none", 1))
        found["images"], found["source"] = len(mine.items), mine.source.name
        for item in mine.items:  # bring the files into the page cache
            mine.source.read_image(item)
        if mine.source.KIND != "images":
            region_map(mine.source, item)
        for count in workers:
            mine = Mine.of(_with(cfg, place / str(count), count))
            begun = time.perf_counter()
            outcomes = mine.run()
            found["images_per_second"][str(count)] = {
                outcome.stage: round((outcome.done - 1) / outcome.seconds, 2)
                for outcome in outcomes
                if outcome.done > 1 and outcome.seconds
            } | {"all seconds": round(time.perf_counter() - begun, 1)}
        kept = [result for _, result in mine.journal(EXPORT).results() if result["status"] == OK]
        found["exported"] = len(kept)
        for name in WRITERS:
            begun = time.perf_counter()
            try:
                export(labelled_images(mine.context, kept), [name], place / "formats")
            except DatasetError as error:  # the library of a format is not installed
                found["export_seconds"][name] = str(error)
                continue
            found["export_seconds"][name] = round(time.perf_counter() - begun, 1)
            shutil.rmtree(place / "formats")
        for limit in limits:
            found["peak_mib"][str(limit)] = _peak(_with(cfg, place / f"peak{limit}", 1), limit)
    return found


def _with(cfg: CfgNode, output: Path, workers: int) -> CfgNode:
    new = cfg.clone()
    new.defrost()
    new.OUTPUT_DIR, new.MINER.RUNNING.WORKERS = str(output), workers
    new.MINER.RUNNING.STORE = ""
    new.MINER.SOURCE.COPIES = cfg.MINER.SOURCE.COPIES or str(output.parent / "source")
    return new


def _peak(cfg: CfgNode, limit: int) -> float:
    """Peak MiB of a process that mines so many images."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_mine, args=(cfg, limit, theirs))
    process.start()
    theirs.close()
    try:
        peak = float(ours.recv())
    except EOFError as error:
        raise MinerError(f"the process that mined {limit} images died") from error
    process.join()
    return round(peak, 1)


def _mine(cfg: CfgNode, limit: int, answer: Any) -> None:
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - bars of a process within a measurement
    Mine.of(cfg, limit=limit).run()
    answer.send(_high_water() / 2**20)


def _high_water() -> int:
    """Peak bytes of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux, `getrusage` includes the parent's memory
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource  # does not exist on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes

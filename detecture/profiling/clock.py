"""Wall-clock time and peak memory of the stages of one run, and their percentiles over runs."""

import ctypes
import gc
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import torch

from detecture import device as devices
from detecture.device import is_accelerator, peak_memory_bytes, synchronize

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class StageClock:
    """Times stages that follow each other; times of a repeated stage are added up.

    Attributes:
        seconds: by stage, in the order of their first entry.
        cpu_seconds: processor time of this process; unlike `seconds` it hardly depends on what
            else runs on the machine.
        peak_bytes: by stage, with `memory`, the peak memory in it: on an accelerator all that was
            allocated there, on a CPU what was added to the process's memory at the stage's start.
    """

    def __init__(self, device: torch.device, *, memory: bool = False) -> None:
        """Start with no stage.

        Args:
            device: that the work is done on.
            memory: measure memory too. This slows a stage down, since what the allocator keeps for
                itself is returned to the system first.
        """
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int] = {}
        self._memory = memory
        self._on_accelerator = is_accelerator(device)
        self._stage = ""
        self._start = (0.0, 0.0)
        self._before = 0

    def enter(self, stage: str) -> None:
        """End the stage that is running, if there is one, and begin `stage`."""
        self.leave()
        self._stage = stage
        if self._memory:
            self._before = reset_peak_memory(self._on_accelerator)
        self._start = (time.perf_counter(), time.process_time())

    def leave(self) -> None:
        """End the stage that is running, if there is one."""
        if not self._stage:
            return
        synchronize()
        stage, self._stage = self._stage, ""
        took = time.perf_counter() - self._start[0]
        cpu = time.process_time() - self._start[1]
        self.seconds[stage] = self.seconds.get(stage, 0.0) + took
        self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + cpu
        if self._memory:
            peak = max(peak_memory(self._on_accelerator) - self._before, 0)
            self.peak_bytes[stage] = max(self.peak_bytes.get(stage, 0), peak)


def reset_peak_memory(on_accelerator: bool) -> int:
    """Begin a new peak; returns the bytes to compare `peak_memory` with.

    That is 0 on an accelerator, whose peak counts as a whole; on a CPU, the process's memory now.
    """
    if on_accelerator:
        devices.reset_peak_memory()
        return 0
    if _can_reset():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR_REFS.write_text("5", encoding="ascii")
    return peak_memory(on_accelerator)


def peak_memory(on_accelerator: bool) -> int:
    """Bytes of the peak since `reset_peak_memory`.

    Windows only knows the peak since the start of the process; on macOS it is the memory used now.
    """
    if on_accelerator:
        return peak_memory_bytes() or 0
    if _can_reset():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def _can_reset() -> bool:
    # A name in glibc; without it, peaks are those since the start of the process.
    return _CLEAR_REFS.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")


def summarize(
    clocks: Sequence[StageClock], memory: StageClock | None = None
) -> dict[str, dict[str, float]]:
    """Percentiles over runs.

    Args:
        clocks: one for each run, all with the same stages; at least one.
        memory: clock of a run in which memory was measured.

    Returns:
        For each stage and `total`: `p50_ms`, `p95_ms`, `cpu_p50_ms` and, with `memory`, `peak_mib`.
    """
    stages = clocks[0].seconds
    rows = {
        stage: _row([c.seconds[stage] for c in clocks], [c.cpu_seconds[stage] for c in clocks])
        for stage in stages
    }
    rows["total"] = _row(
        [sum(c.seconds.values()) for c in clocks], [sum(c.cpu_seconds.values()) for c in clocks]
    )
    if memory is not None:
        peaks = {**memory.peak_bytes, "total": max(memory.peak_bytes.values())}
        for stage, peak in peaks.items():
            rows[stage]["peak_mib"] = peak / 2**20
    return rows


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """`p50_ms` and `p95_ms` of times in seconds."""
    p50, p95 = np.percentile(seconds, [50, 95]) * 1e3
    return {"p50_ms": float(p50), "p95_ms": float(p95)}


def _row(seconds: Sequence[float], cpu_seconds: Sequence[float]) -> dict[str, float]:
    return {**percentiles(seconds), "cpu_p50_ms": percentiles(cpu_seconds)["p50_ms"]}


def ratios(
    published: dict[str, dict[str, float]],
    ours: dict[str, dict[str, float]],
    key: str = "p50_ms",
) -> dict[str, float]:
    """How many times longer the published way takes, by stage."""
    return {
        stage: published[stage][key] / max(row[key], 1e-9)
        for stage, row in ours.items()
        if stage in published
    }


def table(
    ours: dict[str, dict[str, float]], published: dict[str, dict[str, float]] | None = None
) -> list[str]:
    """A readable table, one line for each stage, of what `summarize` returned."""
    header = f"{'stage':<20}{'ours p50':>11}{'p95 ms':>10}{'MiB':>8}"
    if published:
        header += f"{'published p50':>15}{'p95 ms':>10}{'MiB':>8}{'ratio':>8}"
    lines = [header]
    quotients = ratios(published, ours) if published else {}
    for stage, row in ours.items():
        lines.append(f"{stage:<20}{_cells(row, 11)}")
        if published and stage in published:
            lines[-1] += f"{_cells(published[stage], 15)}{quotients[stage]:>7.2f}x"
    return lines


def _cells(row: dict[str, float], width: int) -> str:
    return f"{row['p50_ms']:>{width}.1f}{row['p95_ms']:>10.1f}{row.get('peak_mib', 0):>8.0f}"

"""Checks of the machine: Python, device, memory, folders."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from detecture.doctor.finding import Finding

_GIB = 1024**3
# What `make test` and the classical methods need, with room to spare.
_LEAST_MEMORY = 2 * _GIB
_LEAST_DISK = 2 * _GIB
_LEAST_SHARED_MEMORY = 1 * _GIB
_NEW_ENVIRONMENT = "make an environment with Python 3.10 to 3.13: python3.12 -m venv .venv"


def check_python() -> Iterator[Finding]:
    """Python 3.10 to 3.13."""
    version = f"{platform.python_version()}, {sys.executable}"
    if sys.version_info < (3, 10):  # noqa: UP036 - this is where a user learns of it
        yield Finding("python", "problem", f"{version}: too old", _NEW_ENVIRONMENT)
    elif sys.version_info >= (3, 14):
        yield Finding("python", "warning", f"{version}: newer than what is tested", "")
    else:
        yield Finding("python", "ok", version)


def check_device() -> Iterator[Finding]:
    """Which device `MODEL.DEVICE auto` selects, and whether it works."""
    import torch

    from detecture import device

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # torch says here why it cannot use a driver
        chosen = device.resolve_device("auto")
    try:
        total = float((torch.ones(8, 8, device=chosen) @ torch.ones(8, 8, device=chosen)).sum())
    except RuntimeError as error:
        yield Finding(
            "device",
            "problem",
            f"auto gives {chosen}, which cannot compute: {error}",
            "this build of torch does not fit the device: take another one from "
            "https://pytorch.org/get-started/locally/,\nor set MODEL.DEVICE cpu",
        )
        return
    if total != 512.0:
        yield Finding("device", "problem", f"{chosen} computes wrongly", "set MODEL.DEVICE cpu")
        return
    build = device.torch_build()
    for index, (name, memory) in enumerate(device.accelerators()):
        text = f"auto gives {chosen}; {index}: {name}, {memory / _GIB:.0f} GiB; torch for {build}"
        yield Finding("device", "ok", text)
    if device.has_accelerator():
        return
    text = f"auto gives {chosen} ({torch.get_num_threads()} threads); torch for {build}"
    if _has_nvidia_driver():
        reason = f" ({caught[0].message})" if caught else ""
        yield Finding(
            "device",
            "warning",
            f"{text}. There is an NVIDIA driver, but torch uses no GPU{reason}",
            f"see nvidia-smi and the variable {device.VISIBLE_DEVICES}; for another build of torch "
            "and torchvision\nsee https://pytorch.org/get-started/locally/",
        )
    else:
        yield Finding("device", "ok", text)


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def check_memory() -> Iterator[Finding]:
    """RAM, and the shared memory that loader workers pass images through."""
    import psutil

    memory = psutil.virtual_memory()
    total = min(memory.total, _container_limit() or memory.total)
    free = min(memory.available, total)
    text = f"{total / _GIB:.1f} GiB, {free / _GIB:.1f} GiB free"
    if free < _LEAST_MEMORY:
        yield Finding(
            "memory",
            "warning",
            f"{text}: little",
            "close other programs; for large images lower INPUT.MAX_PIXELS",
        )
    else:
        yield Finding("memory", "ok", text)
    shared = Path("/dev/shm")  # noqa: S108 - it is looked at, nothing is written there
    if shared.is_dir() and shutil.disk_usage(shared).total < _LEAST_SHARED_MEMORY:
        size = shutil.disk_usage(shared).total / 1024**2
        yield Finding(
            "shared memory",
            "warning",
            f"{shared} has {size:.0f} MiB: loader workers die of that (Bus error)",
            "start the container with --shm-size=8g, or set DATALOADER.NUM_WORKERS 0",
        )


def _container_limit() -> int | None:
    """Bytes that the container may use, which psutil does not report; None: no limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file; or it says "max"
            continue
    return None


def check_folders() -> Iterator[Finding]:
    """Whether the current and the temporary folder can be written to, and have room."""
    yield _folder(
        "current folder",
        Path.cwd(),
        "go to another one, or give OUTPUT_DIR one that you may write to",
    )
    folder = Path(tempfile.gettempdir())
    wanted = next((v for v in ("TMPDIR", "TEMP", "TMP") if os.environ.get(v)), None)
    if wanted and Path(os.environ[wanted]).resolve() != folder.resolve():
        yield Finding(
            "temporary folder",
            "warning",
            f"{wanted} is {os.environ[wanted]}, which cannot be written to; {folder} is used",
            f"set {wanted} to a folder that exists and that you may write to",
        )
        return
    yield _folder("temporary folder", folder, "set TMPDIR to a folder that you may write to")


def _folder(name: str, folder: Path, remedy: str) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        text = f"{folder} cannot be written to ({error.strerror or error})"
        return Finding(name, "problem", text, remedy)
    text = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < _LEAST_DISK:
        return Finding(name, "warning", f"{text}: little", f"make room, or {remedy}")
    return Finding(name, "ok", text)

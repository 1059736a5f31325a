"""What a bug report needs to say about the machine and the installed packages."""

import importlib.metadata
import os
import platform
import sys

import torch
from tabulate import tabulate

from detecture import device

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "fvcore", "iopath", "tensorboard")
VARIABLES = ("DETECTURE_D2", "DETECTURE_DATASETS_ROOT")


def collect_env_info() -> str:
    """A table of the system, the packages, the accelerators and our environment variables."""
    rows = [
        ("platform", platform.platform()),
        ("python", sys.version.replace("\n", " ")),
        ("executable", sys.executable),
        *((name, _package_version(name)) for name in PACKAGES),
        ("torchvision::nms", _torchvision_ops()),
        ("torch threads", str(torch.get_num_threads())),
        ("accelerators", f"{device.accelerator_count()} ({device.available_device_type()})"),
        ("Detectron2 API", "detecture.d2.lite"),
        *((name, os.environ.get(name, "not set")) for name in VARIABLES),
    ]
    return tabulate(rows, tablefmt="plain")


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _torchvision_ops() -> str:
    """Whether torchvision's compiled part fits torch; it fails like this if they do not match."""
    try:
        from torchvision.ops import nms

        nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"FAILED: {error} (install torch and torchvision from the same source)"
    return "works"

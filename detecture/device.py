"""The only place that knows the names of device types.

All other code passes `torch.device` objects around, or asks here.
"""

import torch

from detecture.errors import ConfigError, brief

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
"""Environment variable that hides devices from this process."""


def available_device_type() -> str:
    """Name of the best device type of this machine: `"cuda"`, `"mps"` or `"cpu"`."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def resolve_device(name: str) -> torch.device:
    """Turn a config value into a device.

    Args:
        name: `"auto"` (the best one of this machine) or a torch device name such as `"cuda:1"`.

    Raises:
        ConfigError: the name is not a device name, or this machine has no such device.
    """
    if name == "auto":
        name = available_device_type()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"MODEL.DEVICE {brief(name)} is no device name; use auto, cpu, cuda, cuda:N or mps"
        ) from error
    if device.type == "cuda" and not 0 <= (device.index or 0) < torch.cuda.device_count():
        raise ConfigError(
            f"MODEL.DEVICE {brief(name)} does not exist here: {torch.cuda.device_count()} CUDA "
            "devices are visible. Use MODEL.DEVICE cpu (or auto), or install a CUDA build of torch"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"MODEL.DEVICE {name!r} does not exist here; use MODEL.DEVICE cpu")
    return device


def one_device_each(processes: int) -> list[dict[str, str]]:
    """Environment variables for processes that run at the same time, one device for each.

    Args:
        processes: how many; 0: one process that sees the same devices as this one.
    """
    return [{VISIBLE_DEVICES: str(index)} for index in range(processes)] or [{}]


def accelerator_count() -> int:
    """Number of CUDA devices that this process sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def accelerators() -> list[tuple[str, int]]:
    """Name and memory in bytes of every CUDA device that this process sees."""
    found = (torch.cuda.get_device_properties(index) for index in range(accelerator_count()))
    return [(properties.name, properties.total_memory) for properties in found]


def torch_build() -> str:
    """What this torch was built for, such as `CUDA 13.2`, `ROCm 6.3` or `CPU`."""
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip else "CPU"


def has_accelerator() -> bool:
    """Whether CUDA devices can be used."""
    return torch.cuda.is_available()


def is_accelerator(device: torch.device) -> bool:
    """Whether `device` is a CUDA device."""
    return device.type == "cuda"


def collective_backend() -> str:
    """Name of the `torch.distributed` backend that fits this machine."""
    return "nccl" if torch.cuda.is_available() else "gloo"


def bind_process(local_rank: int) -> None:
    """Give this process the accelerator of its local rank; does nothing on a CPU machine."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)


def synchronize() -> None:
    """Wait for queued device work, so that wall-clock times are true."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory_bytes() -> int | None:
    """Peak device memory of this process in bytes; None on a CPU machine."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def reset_peak_memory() -> None:
    """Begin a new peak for `peak_memory_bytes`; does nothing on a CPU machine."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def set_float32_precision(precision: str) -> None:
    """Let CUDA devices multiply and convolve float32 less exactly; elsewhere nothing changes.

    Args:
        precision: `highest`, `high` or `medium`; see `torch.set_float32_matmul_precision`.
    """
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = precision != "highest"


def set_cudnn_benchmark(enabled: bool) -> None:
    """Let cuDNN search for the fastest convolution (worth it where shapes repeat)."""
    torch.backends.cudnn.benchmark = enabled

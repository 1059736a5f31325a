"""Start one process per accelerator, or N processes on a CPU machine, and connect them."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detecture import device
from detecture.errors import ConfigError

from . import comm

DEFAULT_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others before it gives up."""


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple[Any, ...] = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Run `main_func(*args)` in every process of a job, and wait until all have ended.

    A job of one process runs in this one. On several machines, call it on each of them.

    Args:
        main_func: a function that can be pickled (defined at the top of a module), and its
            arguments likewise.
        num_gpus_per_machine: processes on each machine: one per accelerator, or, on a machine
            without any, that many CPU processes over gloo.
        num_machines: number of machines.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes meet, such as `tcp://host:port`. `auto` or None: a free port
            of this machine, which needs `num_machines` 1.
        args: arguments of `main_func`.
        timeout: how long a process waits for the others in one exchange.

    Raises:
        ConfigError: more processes than accelerators, or no `dist_url` for several machines.
        torch.multiprocessing.ProcessRaisedException: `main_func` raised in one process; the text
            holds that process's traceback, and the other processes were ended.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if device.has_accelerator() and num_gpus_per_machine > device.accelerator_count():
        raise ConfigError(
            f"{num_gpus_per_machine} processes need as many accelerators, and this machine has "
            f"{device.accelerator_count()}; lower --num-gpus"
        )
    if dist_url in (None, "auto"):
        if num_machines > 1:
            raise ConfigError(
                f"{num_machines} machines need the same --dist-url, such as tcp://HOST:PORT with "
                "HOST the first machine; 'auto' works on a single machine"
            )
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    mp.spawn(
        _run_process,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
    )


def _free_port() -> int:
    # Another program may take the port before we do; then the processes fail to meet, loudly.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # counts what a container may use; not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run_process(
    local_rank: int,
    main_func: Callable[..., Any],
    world_size: int,
    processes_per_machine: int,
    machine_rank: int,
    dist_url: str,
    args: tuple[Any, ...],
    timeout: timedelta,
) -> None:
    if device.has_accelerator():
        device.bind_process(local_rank)
    else:
        # Each process would otherwise start a thread for every core.
        torch.set_num_threads(max(1, _usable_cpus() // processes_per_machine))
    rank = machine_rank * processes_per_machine + local_rank
    try:
        dist.init_process_group(
            backend=device.collective_backend(),
            init_method=dist_url,
            world_size=world_size,
            rank=rank,
            timeout=timeout,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"process {rank} of {world_size} could not meet the others at {dist_url}: {error}"
        ) from error
    comm.create_local_process_group(processes_per_machine)
    comm.synchronize()
    main_func(*args)
    # Not after an error: the others may still wait for this process, and launch ends them.
    dist.destroy_process_group()

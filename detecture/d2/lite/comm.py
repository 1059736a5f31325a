"""Communication between the processes of one job: ranks, barriers, gathering.

Every function also works without `torch.distributed`, as the only process of a world of one.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

T = TypeVar("T")

_local_group: Any = None
"""Process group of the processes on this machine; `create_local_process_group` makes it."""

_gloo: tuple[Any, Any] | None = None
"""The world group, and the gloo group over the same ranks that was made for it."""


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes of this job, over all machines."""
    return dist.get_world_size() if _initialised() else 1


def get_rank() -> int:
    """Number of this process, from 0 to `get_world_size() - 1`."""
    return dist.get_rank() if _initialised() else 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Tell this module which processes share a machine. `launch` calls it in every process.

    Call it yourself, once and in every process, where another launcher (torchrun) made the
    processes.

    Args:
        num_workers_per_machine: processes on each machine; ranks are consecutive on a machine.

    Raises:
        RuntimeError: the group exists already.
        ValueError: the world size is not a multiple of `num_workers_per_machine`.
    """
    global _local_group
    if _local_group is not None:
        raise RuntimeError("the local process group exists already; make it once per process")
    world_size = get_world_size()
    if num_workers_per_machine <= 0 or world_size % num_workers_per_machine:
        raise ValueError(
            f"{world_size} processes cannot be split into machines of {num_workers_per_machine}"
        )
    if not _initialised():
        return
    for first in range(0, world_size, num_workers_per_machine):
        ranks = list(range(first, first + num_workers_per_machine))
        # Every process takes part in making every group, as torch.distributed demands.
        group = dist.new_group(ranks)
        if get_rank() in ranks:
            _local_group = group


def _get_local_group() -> Any:
    if _local_group is None:
        raise RuntimeError(
            "it is not known which processes share a machine: start the job with "
            "detecture.d2.launch, or call comm.create_local_process_group in every process"
        )
    return _local_group


def get_local_rank() -> int:
    """Number of this process on its machine.

    Raises:
        RuntimeError: distributed, but `create_local_process_group` was not called.
    """
    return dist.get_rank(group=_get_local_group()) if _initialised() else 0


def get_local_size() -> int:
    """Number of processes on this machine.

    Raises:
        RuntimeError: distributed, but `create_local_process_group` was not called.
    """
    return dist.get_world_size(group=_get_local_group()) if _initialised() else 1


def is_main_process() -> bool:
    """Whether this process is rank 0, the one that writes files."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process has reached this point."""
    if get_world_size() > 1:
        dist.barrier()


def _object_group() -> Any:
    """Group over all ranks that moves Python objects through main memory.

    Pickled objects go over gloo even where tensors go over the accelerators' own backend: that
    one would copy them through device memory.
    """
    global _gloo
    world = dist.group.WORLD
    if dist.get_backend() == "gloo":
        return world
    # Kept per world: after destroy_process_group a new world needs a new group.
    if _gloo is None or _gloo[0] is not world:
        _gloo = (world, dist.new_group(backend="gloo"))
    return _gloo[1]


def all_gather(data: T, group: Any = None) -> list[T]:
    """Give every process the data of every process.

    Args:
        data: any picklable object; it may differ in size between processes.
        group: a `torch.distributed` process group; None: all processes, over gloo.

    Returns:
        The objects in the order of ranks.
    """
    if get_world_size() == 1:
        return [data]
    group = _object_group() if group is None else group
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: T, dst: int = 0, group: Any = None) -> list[T]:
    """Give one process the data of every process.

    Args:
        data: any picklable object; it may differ in size between processes.
        dst: global rank of the process that receives.
        group: a `torch.distributed` process group; None: all processes, over gloo.

    Returns:
        On `dst` the objects in the order of ranks, elsewhere an empty list.
    """
    if get_world_size() == 1:
        return [data]
    group = _object_group() if group is None else group
    if get_rank() != dst:
        dist.gather_object(data, None, dst=dst, group=group)
        return []
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered


def shared_random_seed() -> int:
    """A random number below 2**31 that is the same in every process.

    Every process must call it, or the others wait for ever. Drawn from numpy's global generator,
    so that seeding that one makes a run repeatable.
    """
    own = int(np.random.randint(2**31))  # noqa: NPY002
    return all_gather(own)[0]


def reduce_dict(
    input_dict: Mapping[str, torch.Tensor], average: bool = True
) -> dict[str, torch.Tensor]:
    """Sum or average scalar tensors over all processes, for rank 0.

    Args:
        input_dict: the same keys in every process; scalar tensors on the device of the backend.
        average: divide by the number of processes.

    Returns:
        A dict with the same keys, sorted. Only on rank 0 are its values the reduced ones.
    """
    world_size = get_world_size()
    if world_size == 1:
        return dict(input_dict)
    # Sorted, so that every process sums the same key at the same place.
    names = sorted(input_dict)
    with torch.no_grad():
        values = torch.stack([input_dict[name] for name in names])
        dist.reduce(values, dst=0)
        if average and is_main_process():
            values = values / world_size
    return dict(zip(names, values, strict=True))

"""Which records each process sees, and in which order."""

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from . import comm


class TrainingSampler(Sampler[int]):
    """An endless stream of indices, of which every process takes its own share.

    All processes walk the same stream of permutations, and process r of n takes the entries
    r, r + n, r + 2n, ...: between them they take every entry once.

    Args:
        size: number of records.
        shuffle: a new permutation for every pass; otherwise 0, 1, 2, ... again and again.
        seed: seed of the permutations, the same in every process. None: drawn at random and agreed
            upon, so every process must then make its sampler.

    Raises:
        ValueError: `size` is not positive.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if size <= 0:
            raise ValueError(f"a training sampler needs at least one record, not {size}")
        self._size = size
        self._shuffle = shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from itertools.islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from torch.randperm(self._size, generator=generator).tolist()
            else:
                yield from range(self._size)


class InferenceSampler(Sampler[int]):
    """Every record exactly once over all processes, in order, each process a run of its own.

    The runs of two processes differ in length by one at most; one may be empty.

    Args:
        size: number of records.

    Raises:
        ValueError: `size` is not positive.
    """

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise ValueError(f"an inference sampler needs at least one record, not {size}")
        share, rest = divmod(size, comm.get_world_size())
        rank = comm.get_rank()
        # The first `rest` processes take one more.
        begin = rank * share + min(rank, rest)
        self._indices = range(begin, begin + share + (rank < rest))

    def __iter__(self) -> Iterator[int]:
        yield from self._indices

    def __len__(self) -> int:
        return len(self._indices)

"""The stream of training samples: a pure function of a seed and a position.

Position p = 0, 1, 2, .. of the stream is record `permutation(seed, p // N)[p % N]` of N, augmented
by a generator that is seeded by (seed, p). Nothing depends on earlier draws, on worker processes or
on the number of processes, so a run resumed at position p continues exactly as before.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from detecture.errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)

_PERMUTATION, _AUGMENTATION, _REPLACEMENT = range(3)


def mix_seeds(*numbers: int) -> int:
    """Mix several non-negative seeds into one in [0, 2**63); close ones give unrelated seeds."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


class StreamSampler(Sampler[int]):
    """The endless part of the stream that each process reads, in order.

    Iteration i of `batch_size` samples takes the positions from i * batch_size on: first those of
    the first micro-batch, of which every process takes its own run, then those of the second, and
    so on. Each yielded integer is `position * size + index of the record`, for `StreamDataset`.

    Args:
        size: number of records.
        seed: not negative; the same in every process.
        batch_size: samples of one iteration, over all processes and micro-batches.
        accumulation: micro-batches of one iteration.
        rank, world_size: this process's rank and the number of processes.

    Attributes:
        seed: may be changed until the first sample is read.
        start_iteration: the first iteration that is read; likewise.

    Raises:
        ConfigError: the batch cannot be split evenly.
        DatasetError: there is no record.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        batch_size: int,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if size <= 0:
            raise DatasetError("DATASETS.TRAIN holds no records; there is nothing to train on")
        self.size = size
        self.seed = seed
        self.start_iteration = 0
        self.batch_size = batch_size
        self.samples_per_micro_batch = micro_batch_size(batch_size, accumulation, world_size)
        self._accumulation = accumulation
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[int]:
        iteration = self.start_iteration
        epoch, order = -1, torch.empty(0, dtype=torch.int64)
        while True:
            for position in self._positions(iteration):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = self._permutation(epoch)
                yield position * self.size + int(order[position % self.size])
            iteration += 1

    def _positions(self, iteration: int) -> Iterator[int]:
        per_process = self.samples_per_micro_batch
        for micro in range(self._accumulation):
            first = iteration * self.batch_size
            first += (micro * self._world_size + self._rank) * per_process
            yield from range(first, first + per_process)

    def _permutation(self, epoch: int) -> torch.Tensor:
        """The order in which an epoch takes the N records: int64 (N,)."""
        generator = torch.Generator().manual_seed(mix_seeds(self.seed, _PERMUTATION, epoch))
        return torch.randperm(self.size, generator=generator)


def micro_batch_size(batch_size: int, accumulation: int, world_size: int) -> int:
    """Samples of one micro-batch of one process.

    Raises:
        ConfigError: the batch cannot be split evenly.
    """
    parts = accumulation * world_size
    if batch_size <= 0 or batch_size % parts:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {batch_size} cannot be split evenly over {world_size} "
            f"process(es) times SOLVER.ACCUMULATION {accumulation}; set it to a multiple of {parts}"
        )
    return batch_size // parts


class StreamDataset(Dataset[Any]):
    """Mapped samples by the integers of a `StreamSampler`.

    Args:
        records: records of the data sets; requested one at a time.
        mapper: turns a record into what the model gets, drawing random numbers from torch's
            generator alone; None leaves the record out, and another one, chosen by the position
            alone, takes its place.
        sampler: the sampler that gives the integers; its seed seeds the mapper.

    Raises:
        DatasetError: on access, the mapper returned None for a hundred records in a row.
    """

    _ATTEMPTS = 100

    def __init__(
        self,
        records: Sequence[Any] | Dataset[Any],
        mapper: Callable[[Any], Any],
        sampler: StreamSampler,
    ) -> None:
        self._records = records
        self._mapper = mapper
        self._sampler = sampler

    def __len__(self) -> int:
        return self._sampler.size

    def __getitem__(self, code: int) -> Any:
        position, index = divmod(int(code), len(self))
        seed = self._sampler.seed
        others: np.random.Generator | None = None
        for attempt in range(self._ATTEMPTS):
            # Worker processes start after the seed is final, so they have it too.
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(
                    mix_seeds(seed, _AUGMENTATION, position, attempt)
                )
                mapped = self._mapper(self._records[index])
            if mapped is not None:
                if attempt > 3:
                    logger.warning("position %d: %d records could not be used", position, attempt)
                return mapped
            if others is None:
                others = np.random.default_rng(mix_seeds(seed, _REPLACEMENT, position))
            index = int(others.integers(len(self)))
        raise DatasetError(
            f"{self._ATTEMPTS} training records in a row could not be used; see the warnings above"
        )

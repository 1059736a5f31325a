"""Random weights that depend on their seed alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside, and outside as if nothing had been drawn.

    Random weights are in no checkpoint: the seed alone must give them again, whatever was built
    before.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield

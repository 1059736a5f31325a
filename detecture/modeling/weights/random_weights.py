"""Random weights that depend on their seed alone."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

RANDOM_WEIGHTS = "random weights"
"""Beginning of the `source` of a model that was not loaded."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers from `seed` inside, and outside as if nothing had been drawn.

    Random weights are in no checkpoint: the seed alone must give them again, whatever was built
    before.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def random_source(name: str, structure: Mapping[str, Any], seed: int) -> str:
    """What a model with random weights was made from, for checkpoints and caches.

    By content, not by name: models must be told apart after an edit of the file.

    Args:
        name: of the structure, or its file.
        structure: its content.
        seed: of the weights.
    """
    digest = hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()[:12]
    return f"{RANDOM_WEIGHTS}, {Path(name).stem} {digest}, seed {seed}"

"""Random numbers by address: every part of every image has a stream of its own."""

import numpy as np

from detecture.errors import DatasetError

# Parts of an image with random numbers of their own; textures are TEXTURES, number.
PLAN, LAYOUT, TEXTURES, EFFECTS, WORDS = range(5)


def stream(seed: int, index: int, *path: int) -> np.random.Generator:
    """Generator of the random numbers of one part of one image.

    Args:
        seed: of the data set, 0 or more.
        index: of the image, 0 or more.
        path: which part. Other paths give independent streams, so that one part may draw more or
            less without a change in the others.

    Raises:
        DatasetError: a negative number.
    """
    if min(seed, index, *path, 0) < 0:
        raise DatasetError(
            f"seed {seed}, index {index}: procedural images are addressed by numbers from 0 on"
        )
    key = np.random.SeedSequence(seed, spawn_key=(index, *path))
    return np.random.Generator(np.random.PCG64(key))

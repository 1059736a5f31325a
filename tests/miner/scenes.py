"""Small images with regions, for describers."""

import numpy as np

from detecture.miner.describe.interface import DescribeTask
from detecture.miner.describe.prompt import RegionLook

COLORS = [("red", (230, 25, 75)), ("green", (60, 180, 75)), ("blue", (0, 130, 200))]


def render(image, index_mask):
    """Regions (H,W) under their colours, half of the image (H,W,3) shining through."""
    table = np.array([(0, 0, 0), *(rgb for _, rgb in COLORS)], np.float32)
    return (0.5 * image + 0.5 * table[index_mask]).astype(np.uint8)


LOOK = RegionLook(COLORS, render)


def task(item_id="one", names=("wall", "grass"), height=48, width=64, seed=0):
    """Noise of another colour in each of some upright stripes."""
    rng = np.random.default_rng(seed)
    index_mask = np.zeros((height, width), np.uint8)
    image = rng.integers(0, 40, (height, width, 3)).astype(np.uint8)
    for index, stripe in enumerate(np.array_split(np.arange(width), len(names))):
        index_mask[:, stripe] = index + 1
        image[:, stripe] += np.array(COLORS[index % 3][1], np.uint8) // 2
    return DescribeTask(item_id, image, index_mask, names)

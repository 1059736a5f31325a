"""Small images with regions, for describers."""

from types import SimpleNamespace

import numpy as np

from detecture.miner.describe.interface import DescribeTask
from detecture.miner.describe.prompt import RegionLook
from detecture.miner.pools import Pools
from detecture.miner.stage import THREADS

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


class _Stage:
    """Describes tasks as the stage of the miner does, without its files."""

    name, runs = "describe", THREADS

    def __init__(self, runner):
        self.runner = runner
        self.stop = runner.stop

    def function(self, context):
        return self

    def __call__(self, one, earlier):
        return self.runner.describe_one(one)


def described(runner, tasks):
    """Ids and results of tasks, as they come out of the pools of the miner."""
    given = (SimpleNamespace(item=one, earlier={}) for one in tasks)
    for done, result in Pools(None, 1, runner.settings.concurrency).run(_Stage(runner), given):
        yield done.item.item_id, result


def described_together(runner, tasks):
    """The same of a describer that takes several images at a time."""
    tasks = list(tasks)
    size = runner.describer.batch_size
    for first in range(0, len(tasks), size):
        batch = tasks[first : first + size]
        yield from zip([one.item_id for one in batch], runner.describe_batch(batch), strict=True)

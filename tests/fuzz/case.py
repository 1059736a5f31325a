"""What a case is, and the register of targets."""

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    *("annotations", "answers", "archives", "checkpoints", "configs", "datasets", "images"),
    *("miner_tables", "records", "sources"),
)
"""Of `tests/fuzz/targets`."""

SEED = 21


@dataclass
class Case:
    """One case while it runs.

    Attributes:
        draw: all that it draws comes from here.
        folder: its files lie here.
        sound: the input is valid, so that a refusal is a fault.
    """

    draw: random.Random
    folder: Path
    sound: bool = False

    def chance(self, share):
        """Whether something of this probability happens."""
        return self.draw.random() < share


@dataclass(frozen=True)
class Target:
    """Something that reads input: `run(case)` raises what the rules of `judge` say.

    Attributes:
        name: of the function.
        run: writes the input, reads it, checks the result.
        weight: share of the cases, against the other targets.
    """

    name: str
    run: Callable[[Case], None]
    weight: int

    @property
    def about(self):
        """The first line of its docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


TARGETS: dict[str, Target] = {}


def target(weight=10):
    """Register a function as a target; costly ones have smaller weights."""

    def register(function):
        name = function.__name__
        assert name not in TARGETS, name
        TARGETS[name] = Target(name, function, weight)
        return function

    return register


def load_targets():
    """All targets, by name."""
    for name in MODULES:
        importlib.import_module(f"tests.fuzz.targets.{name}")
    return dict(sorted(TARGETS.items()))


def draw_of(seed, name, number):
    """All that a case draws from."""
    return random.Random(f"{seed}/{name}/{number}")


def shares(targets, cases):
    """How many cases each target has: by weight, at least one."""
    total = sum(one.weight for one in targets.values())
    return {name: max(1, round(cases * one.weight / total)) for name, one in targets.items()}

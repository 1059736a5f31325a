"""Proposed divisions of an image with their probabilities, and the choice among them.

There may be any number of proposals, and any number of them with one count of regions.

Legend: K regions.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detecture.errors import ConfigError, brief
from detecture.modeling.grouping.finder import Division


@dataclass(frozen=True)
class Alternative:
    """A number of regions that an image may have.

    Attributes:
        count: number of regions.
        probability: of this count, 0..1; those of all counts add up to 1.
    """

    count: int
    probability: float


@dataclass(frozen=True)
class Proposal:
    """A division that is offered, and how probable it is that it is the best one.

    Attributes:
        division: of the image.
        log_probability: natural logarithm, finite; the probabilities of all proposals of an image
            add up to 1.
    """

    division: Division
    log_probability: float

    @property
    def count(self) -> int:
        """Number of regions, 1 or more; those that win no cell do not count."""
        return len(np.unique(self.division.posterior_NK.argmax(axis=1)))


def require_granularity(value: float, name: str = "granularity") -> float:
    """The value as a float, if it is a number from -1 to 1.

    Raises:
        ConfigError: it is not; `name` is what the user calls it.
    """
    number = isinstance(value, (int, float, np.integer, np.floating))
    if not number or isinstance(value, bool) or not -1.0 <= value <= 1.0:
        raise ConfigError(
            f"{name} is a number from -1 (coarsest) over 0 (the model's own choice) to 1 (finest), "
            f"got {brief(value)}"
        )
    return float(value)


def choose(proposals: Sequence[Proposal], granularity: float = 0.0) -> Proposal:
    """The proposal with the greatest log p + s * log K, where s = g / (1 - |g|).

    At -1 and 1 it is the most probable one with the fewest and with the most regions. The count
    never falls when the granularity g rises. Of equal ones the coarser is taken.

    Args:
        proposals: one or more.
        granularity: g, -1..1.

    Raises:
        ConfigError: the granularity is out of its range.
    """
    g = require_granularity(granularity)
    best: dict[int, Proposal] = {}
    for proposal in proposals:
        known = best.get(proposal.count)
        if known is None or proposal.log_probability > known.log_probability:
            best[proposal.count] = proposal
    # Each is a line over s. Those on the upper envelope are best between two crossings each; as
    # the crossings rise, no rounding can make the count fall.
    envelope: list[tuple[int, Proposal]] = []
    crossings: list[float] = []
    for line in sorted(best.items()):
        while envelope:
            crossing = _crossing(envelope[-1], line)
            if not crossings or crossing > crossings[-1]:
                crossings.append(crossing)
                break
            envelope.pop()
            crossings.pop()
        envelope.append(line)
    s = math.copysign(math.inf, g) if abs(g) == 1.0 else g / (1.0 - abs(g))
    return envelope[bisect_left(crossings, s)][1]


def _crossing(coarse: tuple[int, Proposal], fine: tuple[int, Proposal]) -> float:
    """The s from which on the finer of two is better."""
    less = coarse[1].log_probability - fine[1].log_probability
    return less / (math.log(fine[0]) - math.log(coarse[0]))


def alternatives(proposals: Sequence[Proposal]) -> tuple[Alternative, ...]:
    """The counts of proposals with their probabilities, likeliest first, of equal ones the least.

    A count's probability is the sum over its proposals.
    """
    total: dict[int, float] = {}
    for proposal in proposals:
        share = math.exp(proposal.log_probability)
        total[proposal.count] = total.get(proposal.count, 0.0) + share
    whole = sum(total.values())
    found = [Alternative(count, share / whole) for count, share in total.items()]
    return tuple(sorted(found, key=lambda one: (-one.probability, one.count)))

"""The choice among proposals by granularity, and what they say of the number of regions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detecture.errors import ConfigError
from detecture.modeling.grouping.finder import Division
from detecture.modeling.grouping.proposals import (
    Alternative,
    Proposal,
    alternatives,
    choose,
    require_granularity,
)


def proposal(count, log_probability, surplus=0):
    """`surplus` regions win no cell."""
    posterior_NK = np.eye(max(count, 1), count + surplus).repeat(2, axis=0)
    return Proposal(Division(posterior_NK, 1.0), log_probability)


@st.composite
def offers(draw):
    """Any number of proposals, some with one count, not in the order of their counts."""
    pairs = st.tuples(st.integers(1, 9), st.floats(-30.0, 0.0))
    return [proposal(*pair) for pair in draw(st.lists(pairs, min_size=1, max_size=12))]


@settings(max_examples=300, deadline=None)
@given(offers(), st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=12))
def test_the_count_never_falls_when_the_granularity_rises(proposals, granularities):
    counts = [choose(proposals, g).count for g in sorted(granularities)]
    assert counts == sorted(counts)


@settings(max_examples=200, deadline=None)
@given(offers())
def test_the_ends_and_the_middle(proposals):
    counts = [one.count for one in proposals]
    assert choose(proposals, -1).count == min(counts)
    assert choose(proposals, 1).count == max(counts)
    best = max(one.log_probability for one in proposals)
    assert choose(proposals).log_probability == best
    for g in (-1, 1):
        chosen = choose(proposals, g)
        alike = [one.log_probability for one in proposals if one.count == chosen.count]
        assert chosen.log_probability == max(alike)


@settings(max_examples=200, deadline=None)
@given(offers(), st.floats(-0.95, 0.95))
def test_it_is_the_rule_that_is_documented(proposals, g):
    def score(one):
        return one.log_probability + g / (1 - abs(g)) * math.log(one.count)

    assert score(choose(proposals, g)) == pytest.approx(max(map(score, proposals)), abs=1e-9)


def test_of_equal_ones_the_coarser_is_the_models_choice():
    assert choose([proposal(4, -1.0), proposal(2, -1.0), proposal(3, -1.5)]).count == 2


def test_regions_that_win_no_cell_do_not_count():
    assert proposal(2, -1.0, surplus=3).count == 2
    assert choose([proposal(1, -0.1, surplus=5), proposal(3, -3.0)], 1).count == 3


def test_alternatives_are_sums_over_proposals_likeliest_first():
    share = [0.2, 0.5, 0.2, 0.1]
    found = [proposal(n, math.log(p)) for n, p in zip((3, 2, 3, 7), share, strict=True)]
    assert [(one.count, round(one.probability, 9)) for one in alternatives(found)] == [
        (2, 0.5),
        (3, 0.4),
        (7, 0.1),
    ]
    assert alternatives([]) == ()
    assert alternatives([proposal(2, math.log(0.5)), proposal(1, math.log(0.5))])[0] == Alternative(
        1, 0.5
    )


@pytest.mark.parametrize("value", [-1.01, 1.5, math.nan, math.inf, "0.3", None, True, [0]])
def test_what_is_no_granularity(value):
    with pytest.raises(ConfigError, match=r"--granularity is a number from -1 \(coarsest\)"):
        require_granularity(value, "--granularity")

import pytest

from detecture.data.k_hint import KHint, resolve_k_hint
from detecture.errors import ConfigError


@pytest.mark.parametrize(
    ("count", "regime", "expected"),
    [
        ("regime", "single", KHint("regime", 1)),
        ("regime", "pair", KHint("regime", 2)),
        ("regime", "autonomous", KHint("none", None)),
        ("autonomous", "pair", KHint("none", None)),
        ("per_image", "autonomous", KHint("per_image", 5)),
        ("per_image", "pair", KHint("per_image", 5)),
        ("ground_truth_top_k", "autonomous", KHint("ground_truth_top_k", 5)),
        ("3", "pair", KHint("fixed", 3)),
        (3, "autonomous", KHint("fixed", 3)),
    ],
)
def test_what_a_method_may_know(count, regime, expected):
    assert resolve_k_hint(count, regime, true_k=5) == expected


def test_true_k_is_found_only_when_it_is_needed():
    def reveal() -> int:
        raise AssertionError("the truth was looked up")

    for count in ("regime", "autonomous", "4"):
        resolve_k_hint(count, "autonomous", reveal)
    assert resolve_k_hint("per_image", "single", lambda: 3).k == 3


@pytest.mark.parametrize("count", ["", "two", "-1", "0", 0, -2, "2.0", True, None, "²"])
def test_wrong_count(count):
    with pytest.raises(ConfigError, match="ground_truth_top_k or a positive integer"):
        resolve_k_hint(count, "pair", 2)


def test_wrong_regime():
    with pytest.raises(ConfigError, match="'triple': use one of single, pair, autonomous"):
        resolve_k_hint("regime", "triple", 2)


def test_per_image_needs_ground_truth():
    with pytest.raises(ConfigError, match="per_image needs images with ground truth"):
        resolve_k_hint("per_image", "pair", None)


@pytest.mark.parametrize(
    "arguments", [("none", 1), ("fixed", None), ("fixed", 0), ("guess", 2), ("regime", -1)]
)
def test_contradictory_hints_cannot_be_made(arguments):
    with pytest.raises(ConfigError):
        KHint(*arguments)

"""The language loss against values written out by hand and against plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detecture.errors import ConfigError
from detecture.modeling.vlm.lm_loss import CLIFFS, lm_token_weights, weighted_cross_entropy

SEG = 9
# 1 - exp(-2d)
D1, D2, D3 = 0.864665, 0.981684, 0.997521


def tokens(*texts):
    length = max(map(len, texts))
    padded = [text.ljust(length, ".") for text in texts]
    ids = torch.tensor([[SEG if x == "s" else ord(x) for x in text] for text in padded])
    valid = torch.tensor([[x != "." for x in text] for text in padded])
    return ids.reshape(len(texts), length).long(), valid.reshape(len(texts), length).bool()


def weights(text, cliff="shifted_zero", stop="released", **kwargs):
    result = lm_token_weights(*tokens(text), SEG, cliff, stop, **kwargs)
    assert result.dtype == torch.float32
    return result[0].tolist()


def close(expected):
    return pytest.approx(expected, abs=1e-6)


def test_the_worked_example():
    """Specification section 5: positions seg-2..seg+3."""
    assert weights("aasnaa") == close([D2, D1, 1, 0, D2, D3])
    assert [round(w, 3) for w in weights("aasnaa")] == [0.982, 0.865, 1, 0, 0.982, 0.998]


def half_cosine(*phases):
    return [0.05 + 0.95 * (1 + math.cos(math.pi * x)) / 2 for x in phases]


# Two regions: "aaas" + newline + "bbs" + (newline) + end
TWO_RELEASED, TWO_NEWLINE = "aaasnbbse", "aaasnbbsne"


@pytest.mark.parametrize(
    ("cliff", "expected"),
    [
        # The third "a" is 1 from seg; "b" is 2 behind the first seg and 2 before the second.
        ("shifted_zero", [D3, D2, D1, 1, 0, D2, D1, 1, 0]),
        ("naive", [D3, D2, D1, 0, D1, D2, D1, 0, D1]),
        ("uniform", [1] * 9),
        ("seg_only", [0, 0, 0, 1, 0, 0, 0, 1, 0]),
        ("cosine", half_cosine(0, 1 / 3, 2 / 3, 1, 0, 1 / 3, 2 / 3, 1, 0)),
    ],
)
def test_two_regions_released(cliff, expected):
    assert weights(TWO_RELEASED, cliff) == close(expected)


@pytest.mark.parametrize(
    ("cliff", "expected"),
    [
        ("shifted_zero", [D3, D2, D1, 1, 0, 1, D1, 1, 0, 1]),
        ("naive", [D3, D2, D1, 0, D1, 1, D1, 0, D1, 1]),
        ("uniform", [1] * 10),
        ("seg_only", [0, 0, 0, 1, 0, 1, 0, 1, 0, 1]),
        ("cosine", [*half_cosine(0, 1 / 3, 2 / 3, 1, 0), 1, *half_cosine(2 / 3, 1, 0), 1]),
    ],
)
def test_two_regions_newline(cliff, expected):
    assert weights(TWO_NEWLINE, cliff, "newline") == close(expected)


def test_six_regions():
    assert weights("as" + "nas" * 5 + "e") == close([D1, 1] + [0, D1, 1] * 5 + [0])
    assert weights("as" + "nas" * 5 + "ne", stop="newline") == close(
        [D1, 1] + [0, 1, 1] * 5 + [0, 1]
    )


@pytest.mark.parametrize("stop", ["released", "newline"])
def test_an_answer_that_was_cut_behind_its_last_seg(stop):
    decision = 1 if stop == "newline" else D2
    assert weights("asnbbb", stop=stop) == close([D1, 1, 0, decision, D3, 1 - math.exp(-8)])
    tail = half_cosine(0, 1 / 3, 2 / 3, 1)
    if stop == "newline":
        tail[1] = 1
    assert weights("asnbbb", "cosine", stop) == close([1, 0.05, *tail])


@pytest.mark.parametrize("stop", ["released", "newline"])
@pytest.mark.parametrize("cliff", CLIFFS)
def test_no_seg_and_no_token_weigh_nothing(cliff, stop):
    assert weights("aae", cliff, stop) == [0, 0, 0]
    assert weights("", cliff, stop) == []
    assert weights("...", cliff, stop) == [0, 0, 0]


@pytest.mark.parametrize("stop", ["released", "newline"])
@pytest.mark.parametrize("cliff", CLIFFS)
def test_a_batch_equals_its_answers(cliff, stop):
    texts = ("aaasnbbsne", "as", "ae", "sas", "asnaaaa")
    ids, valid = tokens(*texts)
    ids[~valid] = SEG  # whatever the padding holds
    together = lm_token_weights(ids, valid, SEG, cliff, stop)
    for row, text in enumerate(texts):
        assert together[row, : len(text)].tolist() == close(weights(text, cliff, stop))
        assert not together[row, len(text) :].any()


def test_seg_directly_behind_seg_and_alpha():
    assert weights("assa") == close([D1, 1, 0, 0])
    assert weights("assab", stop="newline") == close([D1, 1, 0, 0, 1])
    assert weights("ssss", "cosine") == [1, 1, 1, 1]
    # The decision never makes a naive cliff learn seg.
    assert weights("asas", "naive", "newline") == close([D1, 0, D1, 0])
    assert weights("aas", alpha=0.5) == close([1 - math.exp(-1), 1 - math.exp(-0.5), 1])


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="aasn", min_size=1, max_size=20))
def test_shifted_zero_equals_the_words(text):
    segs = [i for i, x in enumerate(text) if x == "s"]
    expected = [1 - math.exp(-2 * min((abs(i - s) for s in segs), default=0)) for i in range(99)]
    for seg in segs:
        expected[seg] = 1
    for seg in segs:
        expected[seg + 1] = 0
    assert weights(text) == close(expected[: len(text)])


def test_unknown_cliff_and_mode_are_named():
    with pytest.raises(ConfigError, match=r"use one of .*naive, .*shifted_zero"):
        weights("as", "shifted")
    with pytest.raises(ConfigError, match="released, newline"):
        weights("as", stop="never")
    with pytest.raises(ValueError, match="valid bool"):
        lm_token_weights(*tokens("as")[:1], torch.ones(1, 3).bool(), SEG, "uniform", "released")


def test_weighted_cross_entropy_equals_a_loop():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 11, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([3, 0, 10, 3, 7])
    weight = torch.tensor([1.0, 0.0, 0.5, 0.25, 1.0])
    ce_sum, weight_sum = weighted_cross_entropy(logits, target, weight)
    expected = sum(
        float(w) * -math.log(float(row.exp()[t] / row.exp().sum()))
        for row, t, w in zip(logits.detach(), target, weight, strict=True)
    )
    assert float(ce_sum.detach()) == pytest.approx(expected, abs=1e-12)
    assert float(weight_sum) == 2.75
    ce_sum.backward()
    assert not logits.grad[1].any()
    assert bool(logits.grad[[0, 2, 3, 4]].any(dim=1).all())


def test_weighted_cross_entropy_without_tokens_and_in_half_precision():
    empty = torch.zeros(0, 4, requires_grad=True)
    ce_sum, weight_sum = weighted_cross_entropy(empty, torch.zeros(0).long(), torch.zeros(0))
    assert float(ce_sum.detach()) == float(weight_sum) == 0.0
    ce_sum.backward()
    logits = torch.tensor([[3.0, 1.0, -2.0]]).bfloat16()
    ce_sum, _ = weighted_cross_entropy(logits, torch.tensor([1]), torch.ones(1))
    assert ce_sum.dtype == torch.float32
    assert float(ce_sum) == pytest.approx(2.1328, abs=1e-3)
    with pytest.raises(ValueError, match=r"\(M,V\)"):
        weighted_cross_entropy(logits, torch.tensor([1, 2]), torch.ones(1))

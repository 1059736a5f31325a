"""Blocks and masks of answers, written out by hand and against a plain reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detecture.errors import ConfigError
from detecture.modeling.vlm.region_attention import (
    additive_mask,
    answer_attention,
    region_blocks,
)

SEG, NL, END, PAD = 9, 8, 7, 0
WORDS = {"s": SEG, "n": NL, "e": END, ".": PAD, "a": 1, "b": 2, "c": 3}


def answers(*texts):
    """Ids and validity of answers, one letter a token; padded to the longest."""
    length = max(map(len, texts))
    ids = torch.tensor([[WORDS[x] for x in text.ljust(length, ".")] for text in texts])
    valid = torch.tensor([[x != "." for x in text.ljust(length, ".")] for text in texts])
    return ids.reshape(len(texts), length), valid.reshape(len(texts), length).bool()


def blocks_of(*texts, stop="released", **kwargs):
    return region_blocks(*answers(*texts), SEG, stop, **kwargs)


def rows_of(mask):
    """A boolean mask as rows of x and ."""
    return ["".join("x" if v else "." for v in row) for row in mask.tolist()]


@pytest.mark.parametrize(
    ("text", "stop", "block", "positions"),
    [
        ("aasnbbsncse", "released", [1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 0], [2, 6, 9]),
        ("aasnbbsncsne", "newline", [1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 0, 0], [2, 6, 9]),
        ("aasnbbsncs", "released", [1, 1, 1, 2, 2, 2, 2, 3, 3, 3], [2, 6, 9]),
        ("asnbb", "released", [1, 1, 0, 0, 0], [1]),  # cut within the second line
        ("asnbb", "newline", [1, 1, 0, 0, 0], [1]),
        ("as", "newline", [1, 1], [1]),
        ("aae", "released", [0, 0, 0], []),
        ("aae", "newline", [0, 0, 0], []),
        ("s", "released", [1], [0]),
        ("", "released", [], []),
        ("ssas", "released", [1, 2, 3, 3], [0, 1, 3]),
        # A seg directly behind a seg ends its own block, whatever stands there usually.
        ("ssas", "newline", [1, 2, 0, 3], [0, 1, 3]),
        ("asbsasbsasbse", "released", [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 0], [1, 3, 5, 7, 9, 11]),
        # The seventh and all behind the sixth are text of no block.
        (
            "asbsasbsasbsasbs",
            "released",
            [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 0, 0, 0, 0],
            [1, 3, 5, 7, 9, 11],
        ),
    ],
)
def test_blocks_written_out(text, stop, block, positions):
    blocks = blocks_of(text, stop=stop)
    assert blocks.block_BA.tolist() == [block]
    assert blocks.count_B.tolist() == [len(positions)]
    padded = positions + [0] * (6 - len(positions))
    assert blocks.seg_position_BK.tolist() == [padded]
    assert blocks.seg_valid_BK.tolist() == [[k < len(positions) for k in range(6)]]
    assert {blocks.block_BA.dtype, blocks.seg_position_BK.dtype, blocks.count_B.dtype} == {
        torch.int64
    }


def test_a_batch_is_its_answers_with_padding():
    blocks = blocks_of("asnbse", "ase", "ae", max_regions=2)
    assert blocks.block_BA.tolist() == [
        [1, 1, 2, 2, 2, 0],
        [1, 1, 0, -1, -1, -1],
        [0, 0, -1, -1, -1, -1],
    ]
    assert blocks.seg_position_BK.tolist() == [[1, 4], [1, 0], [0, 0]]
    assert blocks.seg_valid_BK.tolist() == [[True, True], [True, False], [False, False]]


def test_padding_that_looks_like_seg_is_padding():
    ids, valid = answers("as", "a.")
    ids[1, 1] = SEG
    blocks = region_blocks(ids, valid, SEG, "released")
    assert blocks.count_B.tolist() == [1, 0]
    assert blocks.block_BA.tolist() == [[1, 1], [0, -1]]


def test_three_regions_released_written_out():
    seen = answer_attention(blocks_of("asnbsncse", "asnbsncse."), "block_diagonal")
    released = [
        "x.........",
        "xx........",
        "..x.......",
        "..xx......",
        "..xxx.....",
        ".....x....",
        ".....xx...",
        ".....xxx..",
        "xxxxxxxxx.",
        ".........x",
    ]
    assert rows_of(seen[1]) == released
    assert torch.equal(seen[0], seen[1])


def test_three_regions_newline_written_out():
    seen = answer_attention(blocks_of("asnbsncsne", stop="newline"), "block_diagonal")
    assert rows_of(seen[0]) == [
        "x.........",
        "xx........",
        "xxx.......",
        "...x......",
        "...xx.....",
        "xxxxxx....",
        "......x...",
        "......xx..",
        "xxxxxxxxx.",
        "xxxxxxxxxx",
    ]


def test_causal_written_out():
    seen = answer_attention(blocks_of("asbs.", stop="newline"), "causal")
    assert rows_of(seen[0]) == ["x....", "xx...", "xxx..", "xxxx.", "....x"]


def additive_rows(mask):
    """Rows of x (0) and . (lowest value) of a (1,1,Q,L) additive mask; nothing else may occur."""
    lowest = torch.finfo(mask.dtype).min
    assert bool(((mask == 0) | (mask == lowest)).all())
    return rows_of(mask[0, 0] == 0)


def test_packed_mask_written_out():
    """Left-padded prefix, two copies of a padded answer with a mask each."""
    blocks = blocks_of("asbs.")
    masks = [answer_attention(blocks, "block_diagonal"), answer_attention(blocks, "causal")]
    prefix = torch.tensor([[False, True, True]])
    rows = [
        "x.. ..... .....",
        ".x. ..... .....",
        ".xx ..... .....",
        ".xx x.... .....",
        ".xx xx... .....",
        ".xx ..x.. .....",
        ".xx ..xx. .....",
        ".xx ....x .....",
        ".xx ..... x....",
        ".xx ..... xx...",
        ".xx ..... xxx..",
        ".xx ..... xxxx.",
        ".xx ..... ....x",
    ]
    rows = [row.replace(" ", "") for row in rows]
    whole = additive_mask(prefix, masks, torch.float32)
    assert whole.shape == (1, 1, 13, 13)
    assert additive_rows(whole) == rows
    answer = additive_mask(prefix, masks, torch.bfloat16, query="answer")
    assert answer.shape == (1, 1, 10, 13)
    assert answer.dtype == torch.bfloat16
    assert additive_rows(answer) == rows[3:]


def test_single_copy_is_the_plain_second_pass():
    mask = additive_mask(
        torch.tensor([[True, True]]),
        [answer_attention(blocks_of("asbse"), "block_diagonal")],
        torch.float64,
    )
    assert additive_rows(mask) == [
        "x......",
        "xx.....",
        "xxx....",
        "xxxx...",
        "xx..x..",
        "xx..xx.",
        "xxxxxxx",
    ]


def test_prefix_padding_anywhere_sees_only_itself():
    seen = answer_attention(blocks_of("as"), "causal")
    mask = additive_mask(torch.tensor([[True, False, True, False]]), [seen], torch.float32)
    assert additive_rows(mask) == ["x.....", ".x....", "x.x...", "...x..", "x.x.x.", "x.x.xx"]


def test_batch_rows_do_not_mix():
    texts = ("asbse", "as", "e")
    together = blocks_of(*texts)
    prefix = torch.tensor([[True, True], [False, True], [True, True]])
    mask = additive_mask(prefix, [answer_attention(together, "block_diagonal")], torch.float32)
    for row, text in enumerate(texts):
        alone = additive_mask(
            prefix[row : row + 1],
            [answer_attention(blocks_of(text), "block_diagonal")],
            torch.float32,
        )
        length = alone.shape[-1]
        assert torch.equal(mask[row, 0, :length, :length], alone[0, 0])


def reference_attention(ids, stop, max_regions):
    """Who sees whom, from the words of the specification, token by token."""
    segs = [i for i, x in enumerate(ids) if x == SEG][:max_regions]
    spans = []
    for number, seg in enumerate(segs):
        start = segs[number - 1] + 1 if number else 0
        if number and stop == "newline" and start < seg:
            start += 1
        spans.append(range(start, seg + 1))
    seen = [[j <= i for j in range(len(ids))] for i in range(len(ids))]
    for span in spans:
        for i in span:
            seen[i] = [j in span and j <= i for j in range(len(ids))]
    return seen


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(alphabet="asbn", min_size=1, max_size=14),
    pads=st.integers(0, 3),
    stop=st.sampled_from(["released", "newline"]),
    max_regions=st.integers(1, 4),
)
def test_attention_equals_the_words(text, pads, stop, max_regions):
    blocks = blocks_of(text + "." * pads, stop=stop, max_regions=max_regions)
    seen = answer_attention(blocks, "block_diagonal")[0]
    length = len(text)
    ids = [WORDS[x] for x in text]
    assert seen[:length, :length].tolist() == reference_attention(ids, stop, max_regions)
    assert torch.equal(seen[length:, length:], torch.eye(pads, dtype=torch.bool))
    assert not seen[:length, length:].any()
    assert not seen[length:, :length].any()
    count = int(blocks.count_B)
    positions = blocks.seg_position_BK[0, :count].tolist()
    assert positions == [i for i, x in enumerate(ids) if x == SEG][:max_regions]
    assert blocks.block_BA[0, positions].tolist() == list(range(1, count + 1))


def test_empty_answers_have_empty_masks():
    empty = region_blocks(
        torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.bool), SEG, "newline"
    )
    seen = answer_attention(empty, "block_diagonal")
    assert seen.shape == (2, 0, 0)
    mask = additive_mask(torch.ones(2, 3, dtype=torch.bool), [seen], torch.float32)
    assert mask.shape == (2, 1, 3, 3)


def test_no_softmax_row_is_nan():
    blocks = blocks_of("asbse", "...", "as")
    prefix = torch.tensor([[False, True], [False, False], [True, True]])
    mask = additive_mask(prefix, [answer_attention(blocks, "block_diagonal")], torch.float32)
    assert bool((mask == 0).any(dim=-1).all())
    assert bool(torch.isfinite(mask.softmax(dim=-1)).all())


def test_mistakes_are_named():
    ids, valid = answers("as")
    blocks = region_blocks(ids, valid, SEG, "released")
    seen = answer_attention(blocks, "causal")
    prefix = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ConfigError, match="released, newline"):
        region_blocks(ids, valid, SEG, "newlines")
    with pytest.raises(ConfigError, match="block_diagonal, causal"):
        answer_attention(blocks, "blocks")
    with pytest.raises(ConfigError, match="all, answer"):
        additive_mask(prefix, [seen], torch.float32, query="prefix")
    with pytest.raises(ValueError, match="max_regions"):
        region_blocks(ids, valid, SEG, "released", max_regions=0)
    with pytest.raises(ValueError, match="valid bool"):
        region_blocks(ids, valid.long(), SEG, "released")
    with pytest.raises(ValueError, match="floating"):
        additive_mask(prefix, [seen], torch.int64)
    with pytest.raises(ValueError, match="at least one"):
        additive_mask(prefix, [], torch.float32)
    with pytest.raises(ValueError, match="one shape"):
        additive_mask(prefix, [seen, seen[:, :1]], torch.float32)
    with pytest.raises(ValueError, match=r"\(B,P\)"):
        additive_mask(prefix.repeat(2, 1), [seen], torch.float32)
    with pytest.raises(ValueError, match="must be bool"):
        additive_mask(prefix, [seen.float()], torch.float32)

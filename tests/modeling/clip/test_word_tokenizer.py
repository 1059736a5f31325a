"""The tokenizer of words: any text, one token a known word, letters for the others."""

import json

import pytest
import torch

from detecture.checkpoint.shipped import MODELS
from detecture.data.synthetic.words import lexicon_words
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.clip.tokenizer import build_tokenizer
from detecture.modeling.clip.word_tokenizer import WordTokenizer

SHIPPED = MODELS / "ahs_seg_tiny_words.json"
WORDS = WordTokenizer(("brick", "grass", "red", "wet"), buckets=16)


def test_a_known_word_is_one_token_in_any_case_and_number():
    ids = WORDS(["red brick", "Red-BRICKS!", "wet grass"], most=16)
    assert ids.dtype == torch.int64 and ids.shape == (3, 4)
    assert ids[0].tolist() == ids[1].tolist()
    first = 2 + 16
    assert ids[2].tolist() == [1, first + 3, first + 1, WORDS.end]
    assert WORDS.end == WORDS.size - 1 == int(ids.max())


def test_an_unknown_word_is_spelt_and_like_words_share_tokens():
    ids = WORDS(["gravel", "gravelly", "red"], most=16)
    spelt = ids[0, 1:-1]
    assert ((spelt[spelt > 0] >= 2) & (spelt[spelt > 0] < 2 + 16)).sum() >= 5
    # `<gr`, `gra`, .. are the same in both.
    assert ids[0, 1:6].tolist() == ids[1, 1:6].tolist()
    assert ids[2].tolist()[3:] == [0] * (ids.shape[1] - 3)  # zeros behind the end


@pytest.mark.parametrize("text", ["мокрый песок", "湿った砂", "رمل", "!?", "a", "é", "x" * 300])
def test_any_text_is_accepted_and_the_same_each_time(text):
    one, again = WORDS([text], most=40), WORDS([text], most=40)
    assert one.tolist() == again.tolist() and 3 <= one.shape[1] <= 40
    assert int(one.min()) >= 0 and int(one.max()) == WORDS.end


def test_a_text_that_is_too_long_is_named():
    with pytest.raises(ConfigError, match=r"502 tokens.*reads 96"):
        WORDS(["red " * 500], most=96)


@pytest.mark.parametrize(
    "content",
    [[], {}, {"words": ["a"]}, {"words": [], "buckets": 4}, {"words": ["a", "a"], "buckets": 4},
     {"words": ["a"], "buckets": 0}, {"words": ["a"], "buckets": True},
     {"words": [1], "buckets": 4},
     {"words": [""], "buckets": 4}],
)  # fmt: skip
def test_a_file_of_something_else(tmp_path, content):
    file = tmp_path / "words.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="is no word tokenizer"):
        build_tokenizer(str(file), 16, 100)


def test_no_such_file_and_more_tokens_than_the_encoder_knows():
    with pytest.raises(ConfigError, match="neither `clip` nor a json file"):
        build_tokenizer("no_such.json", 16, 100)
    with pytest.raises(CheckpointError, match="no such file ships"):
        build_tokenizer("detecture://no_such.json", 16, 100)
    with pytest.raises(ConfigError, match="vocab_size"):
        build_tokenizer(str(SHIPPED), 16, 100)


def test_the_shipped_one_knows_all_words_of_the_lexicon():
    words = WordTokenizer.load(SHIPPED, "MODEL.CLIP.TOKENIZER")
    assert words.size <= 2048
    ids = words(lexicon_words(), most=8)
    assert ids.shape[1] == 3 and (ids[:, 1] >= 2 + words.buckets).all()

"""Answers of a describer: how they are read, and the rules of words."""

import time

import pytest

pytest.importorskip("pydantic", reason='answers need pydantic: pip install -e ".[miner-api]"')

from detecture.errors import MinerError
from detecture.miner.describe.answers import (
    MOST_CHARACTERS,
    AnswerError,
    WordRules,
    answer_schema,
    check_texts,
    key_of,
    parse_answer_texts,
    with_prefix,
    words_after_prefix,
)

BOTH = '{"texture_a": "Texture of rough stone", "texture_b": "Texture of green grass"}'
READ = ["Texture of rough stone", "Texture of green grass"]


def words(count, start=0):
    return "Texture of " + " ".join(f"word{i}" for i in range(start, start + count))


@pytest.mark.parametrize(
    "text",
    [
        BOTH,
        f"```json\n{BOTH}\n```",
        f"~~~\n{BOTH}\n~~~",
        f"Sure, here it is:\n{BOTH}\nTell me if you need more.",
        f"In the form {{key: text}}: {BOTH} That is all.",
        f"Sure:\n```JSON\n{BOTH}\n``` Done.",
        BOTH.replace("Texture of rough", "rough"),
        BOTH.replace("Texture of rough", "texture of  rough"),
        BOTH.replace("rough stone", "rough\\n stone "),
        BOTH[:-1] + ', "notes": 3}',
        "\ufeff" + BOTH,
    ],
)
def test_what_is_read(text):
    assert parse_answer_texts(text, 2) == READ


def test_a_missing_prefix_is_put_in_front():
    text = '{"texture_a": "rough stone", "texture_b": "Texture of grass"}'
    assert parse_answer_texts(text, 2) == ["Texture of rough stone", "Texture of grass"]
    # "offset" begins with "of", and is another word.
    assert with_prefix("Texture offset print") == "Texture of Texture offset print"
    assert with_prefix("Texture of") == "Texture of "


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"texture_a": "Texture of stone"}', "lacks texture_b"),
        ('{"texture_a": "Texture of stone", "texture_b": 3}', "texture_b of the answer is 3"),
        ('{"texture_a": null, "texture_b": "x"}', "texture_a of the answer is None"),
        ('{"texture_a": ["x"], "texture_b": "x"}', "texture_a of the answer is"),
        ("Texture of rough stone", "holds no JSON object"),
        ("", "holds no JSON object"),
        ("{", "holds no JSON object"),
        (BOTH[:-4], "holds no JSON object"),
        (f"[{BOTH}]"[:5], "holds no JSON object"),
        (BOTH[:-1] + ', "texture_c": "Texture of sky"}', "texture_c too"),
        ("{" * 5000, "holds no JSON object"),
        ('{"a":' * 200 + "1" + "}" * 200, "holds no JSON object"),
        ("x" * (MOST_CHARACTERS + 1), "characters"),
    ],
)
def test_what_is_refused(text, reason):
    with pytest.raises(AnswerError, match=reason) as refused:
        parse_answer_texts(text, 2)
    assert len(str(refused.value)) < 300


def test_keys_go_on_behind_z():
    assert [key_of(i) for i in (0, 1, 25, 26, 27)] == [
        "texture_a",
        "texture_b",
        "texture_z",
        "texture_aa",
        "texture_ab",
    ]
    many = {key_of(i) for i in range(800)}
    assert len(many) == 800


def test_the_schema_asks_for_each_text_and_no_more():
    schema = answer_schema(2)
    assert schema["required"] == ["texture_a", "texture_b"]
    assert schema["additionalProperties"] is False
    assert {part["type"] for part in schema["properties"].values()} == {"string"}


@pytest.mark.parametrize(
    ("count", "refused", "warned"),
    [
        (4, True, False),
        (5, False, True),
        (9, False, True),
        (10, False, False),
        (15, False, False),
        (16, False, True),
        (25, False, True),
        (26, True, False),
    ],
)
def test_words_behind_the_prefix_are_counted(count, refused, warned):
    text = words(count)
    assert words_after_prefix(text) == count
    problems, warnings = check_texts([text])
    assert bool(problems) == refused
    assert bool(warnings) == warned


def test_the_published_placeholder_is_too_short():
    problems, _ = check_texts(["Texture of unknown texture region 1"])
    assert problems == ["texture_a has 4 words after 'Texture of', not 5 to 25"]


def test_lower_case_is_no_prefix():
    assert check_texts([words(12).replace("Texture", "texture")])[0]


def test_texts_are_distinct_whatever_their_case_and_marks():
    text = words(12)
    problems, _ = check_texts(
        [text, words(12, 1), text.upper().replace("TEXTURE OF", "Texture of")]
    )
    assert problems == ["texture_c says the same as texture_a"]
    assert check_texts([text, text + "."])[0] == ["texture_b says the same as texture_a"]


@pytest.mark.parametrize("mark", ["<|seg|>", "{i}", "TEXTURE_2: sky", "<|im_end|>"])
def test_marks_of_prompts_belong_to_no_sentence(mark):
    assert check_texts([f"{words(11)} {mark}"])[0]


def test_rules_that_contradict_themselves_are_refused():
    with pytest.raises(MinerError, match="least"):
        WordRules(least=12)


def test_an_answer_of_empty_lines_takes_no_minute():
    """60,000 of them took one: the search for a code fence began anew at each."""
    start = time.monotonic()
    with pytest.raises(AnswerError, match="no JSON object"):
        parse_answer_texts("\n" * 60_000, 2)
    assert time.monotonic() - start < 5

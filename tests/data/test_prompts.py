"""Prompt wording, answers that are written and answers that are read."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detecture.data.prompts import (
    DEFAULT_PROMPTS,
    SEG,
    TINY_PROMPTS,
    PromptTemplate,
    answer_text,
    count_phrase,
    parse_answer,
    parse_lines,
)
from detecture.errors import ConfigError

PARTS = {
    "system": "S",
    "user": "{N} please, as {this}",
    "line": "R{i}: {description}<|go|>",
    "joiner": " / ",
    "seg_token": "<|go|>",
    "end_token": "<|stop|>",
    "warm_start_token": "<|stop|>",
}
SMALL = PromptTemplate(**PARTS)
YAML = """
system: "Look."
user: "Name {N}."
assistant_line: "TEXTURE_{i}: {description} <|seg|>"
assistant_join: "\\n"
seg_token: "<|seg|>"
warm_start_token: "<|im_end|>"
"""


def words(template):
    return len(template.system.split()) + len(template.user.split())


def test_default_wording_is_short_and_says_what_it_must():
    assert 80 <= words(DEFAULT_PROMPTS) <= 120
    assert words(TINY_PROMPTS) <= 25
    assert "10-15 words" in DEFAULT_PROMPTS.user
    for template in (DEFAULT_PROMPTS, TINY_PROMPTS):
        assert "TEXTURE_1: Texture of <phrase> <|seg|>" in template.user
        assert template.line == "TEXTURE_{i}: {description} <|seg|>"


def test_count_fills_the_slot():
    assert count_phrase(None) == "between 1 and 6"
    assert count_phrase(2) == "2"
    assert SMALL.user_text(3) == "3 please, as {this}"
    assert SMALL.user_text(None) == "between 1 and 6 please, as {this}"
    assert "{N}" not in DEFAULT_PROMPTS.user_text(None)
    with pytest.raises(ConfigError, match="0 regions"):
        count_phrase(0)


@pytest.mark.parametrize("template", [SMALL, DEFAULT_PROMPTS, TINY_PROMPTS])
def test_dict_round_trip(template):
    assert PromptTemplate.from_dict(template.to_dict()) == template


def test_dict_with_wrong_keys_is_refused():
    with pytest.raises(ConfigError, match="unknown key 'joinr': did you mean joiner"):
        PromptTemplate.from_dict({**PARTS, "joinr": ""})
    with pytest.raises(ConfigError, match="lacks user, joiner"):
        PromptTemplate.from_dict({k: v for k, v in PARTS.items() if k not in ("user", "joiner")})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"user": "no slot"}, r"\{N\}"),
        ({"user": 3}, "user must be text, got int"),
        ({"joiner": ""}, "joiner is empty"),
        ({"line": "{description}<|go|>"}, r"\{i\} exactly once"),
        ({"line": "{i} <|go|>"}, r"\{description\} exactly once"),
        ({"line": "{i} {description}"}, r"<\|go\|> exactly once"),
        ({"line": "{i} <|go|> {description}<|go|>"}, "exactly once"),
        ({"line": "{i} <|go|>{description}"}, "must end with"),
        ({"line": "{i}\n{description}<|go|>"}, "single line"),
        ({"joiner": "<|go|>"}, "at the end of the line only"),
        ({"joiner": "<|stop|>"}, "in neither"),
        ({"end_token": "<|go|>"}, "in neither"),
    ],
)
def test_malformed_templates_are_refused(change, match):
    with pytest.raises(ConfigError, match=match):
        PromptTemplate(**{**PARTS, **change})


def test_empty_system_text_is_fine():
    assert replace(SMALL, system="").system == ""


def test_yaml(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text(YAML, encoding="utf-8")
    template = PromptTemplate.from_yaml(path)
    assert (template.system, template.user, template.joiner) == ("Look.", "Name {N}.", "\n")
    assert template.line == "TEXTURE_{i}: {description} <|seg|>"
    assert template.end_token == "<|im_end|>"
    path.write_text(YAML + 'end_token: "<|e|>"\n', encoding="utf-8")
    assert PromptTemplate.from_yaml(path).end_token == "<|e|>"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (YAML + "asistant_line: x", "did you mean assistant_line"),
        (YAML.replace("assistant_join", "#"), "lacks assistant_join"),
        (YAML.replace("{N}", "N"), "prompt user has no"),
        ("- a\n- b", "mapping"),
        ("user: [", "cannot be read"),
        ("system: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_yaml_mistakes_name_the_file(tmp_path, text, match):
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"wrong\.yaml.*{match}"):
        PromptTemplate.from_yaml(path)


def test_missing_yaml(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        PromptTemplate.from_yaml(tmp_path / "none.yaml")


def test_released_wording_loads(datasets_root):
    path = datasets_root / "prompts" / "released_checkpoint.yaml"
    if not path.is_file():
        pytest.skip(f"{path} does not exist")
    template = PromptTemplate.from_yaml(path)
    assert template.line == DEFAULT_PROMPTS.line
    # The project's wording is its own: no sentence of the published one.
    published = {s.strip() for s in re.split(r"[.\n]", template.system + template.user)}
    ours = DEFAULT_PROMPTS.system + DEFAULT_PROMPTS.user + TINY_PROMPTS.system + TINY_PROMPTS.user
    assert not [s for s in published if len(s.split()) > 4 and "TEXTURE_" not in s and s in ours]


def test_answers_written_out():
    two = ["Texture of red brick", "grey sky"]
    assert answer_text(DEFAULT_PROMPTS, two, "released") == (
        "TEXTURE_1: Texture of red brick <|seg|>\nTEXTURE_2: Texture of grey sky <|seg|><|im_end|>"
    )
    assert answer_text(DEFAULT_PROMPTS, two, "newline") == (
        "TEXTURE_1: Texture of red brick <|seg|>\n"
        "TEXTURE_2: Texture of grey sky <|seg|>\n<|im_end|>"
    )
    assert answer_text(SMALL, two, "released") == (
        "R1: Texture of red brick<|go|> / R2: Texture of grey sky<|go|><|stop|>"
    )
    assert answer_text(DEFAULT_PROMPTS, [], "released") == "<|im_end|>"
    assert answer_text(DEFAULT_PROMPTS, [], "newline") == "<|im_end|>"
    with pytest.raises(ConfigError, match="released, newline"):
        answer_text(DEFAULT_PROMPTS, two, "")


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("texture of wood", "texture of wood"),
        ("TEXTURE OF wood", "TEXTURE OF wood"),
        ("  Texture \n of\twood\r\n", "Texture of wood"),
        ("textured wood", "Texture of textured wood"),
        ("texture offset", "Texture of texture offset"),
        ("wood<|seg|>", "Texture of wood"),
        ("<|seg|>texture of wood", "texture of wood"),
        ("a <|<|seg|>seg|> b", "Texture of a b"),
        ("a <| b <|im_end|> c", "Texture of a <| b c"),
        ("{i} and {description}", "Texture of {i} and {description}"),
        ("", "Texture of"),
        ("<|seg|>", "Texture of"),
    ],
)
def test_descriptions_are_cleaned(description, expected):
    line = f"TEXTURE_1: {expected} <|seg|>\n<|im_end|>"
    assert answer_text(DEFAULT_PROMPTS, [description], "newline") == line


def test_tokens_of_another_form_are_cleaned_too():
    template = PromptTemplate(
        **{**PARTS, "line": "{i} {description} [SEG]", "seg_token": "[SEG]", "end_token": "</s>"}
    )
    assert answer_text(template, ["a [SEG]b</s>"], "released") == "1 Texture of a b [SEG]</s>"


PIECES = st.sampled_from(["<|", "|>", "<|seg|>", "<|im_end|>", "seg", " ", "\n", "wood", "|", "<"])


@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=6))
def test_no_description_brings_a_token_in(descriptions):
    text = answer_text(DEFAULT_PROMPTS, descriptions, "newline")
    assert text.count("<|seg|>") == len(descriptions)
    assert text.count("<|im_end|>") == 1
    assert text.count("\n") == len(descriptions)
    pieces = text.split("<|seg|>")[:-1]
    assert len(parse_lines(pieces)) == len(descriptions)


@pytest.mark.parametrize("stop", ["released", "newline"])
def test_what_is_written_is_read_back(stop):
    sentences = ["Texture of red brick, left", "Texture of a coarse texture: sand", "Texture of x"]
    text = answer_text(DEFAULT_PROMPTS, sentences, stop)
    assert parse_lines(text.split("<|seg|>")[:-1]) == sentences
    assert parse_answer(text.replace("<|seg|>", "")) == sentences


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("TEXTURE_1: Texture of wood ", "Texture of wood"),
        ("\nTEXTURE_2: Texture of wood ", "Texture of wood"),
        ("texture_2 : wood", "wood"),
        ("Texture 3: wood", "wood"),
        ("TEXTURE: wood", "wood"),
        ("**TEXTURE_1:** Texture of **wood**", "Texture of wood"),
        ("* TEXTURE_1: wood", "wood"),
        ("- TEXTURE_1: - wood", "wood"),
        ("1. TEXTURE_1: wood", "wood"),
        ("## TEXTURE\\_1: `wood`", "wood"),
        ("2) Texture of wood", "Texture of wood"),
        ("\u2022 Texture of wood", "Texture of wood"),
        ("Texture of wood", "Texture of wood"),
        ("Here you are:\nTEXTURE_1: Texture of wood", "Texture of wood"),
        ("Here you are:\n\nTexture of wood\n", "Texture of wood"),
        ("TEXTURE_1: lost its token\nTEXTURE_2: wood", "wood"),
        ("TEXTURE_1: Texture of\n  old wood", "Texture of old wood"),
        ("TEXTURE_1: Texture of a coarse texture: sand", "Texture of a coarse texture: sand"),
        ("TEXTURE_1: a 2*3 grid of 12 tiles", "a 2*3 grid of 12 tiles"),
        ("TEXTURE_1: wood<|im_end|>", "wood"),
        ("TEXTURE_1:", ""),
        ("TEXTURE_1: - ", ""),
        ("", ""),
        (" \n ", ""),
        ("***", ""),
    ],
)
def test_pieces_before_seg_are_read(piece, expected):
    assert parse_lines([piece, "TEXTURE_9: end"]) == [expected, "end"]


def numbered(count):
    return "\n".join(f"TEXTURE_{i}: d{i}" for i in range(1, count + 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # benchmark.md, 8.4
        ("TEXTURE_1: Texture of a\nTEXTURE_2: Texture of b", ["Texture of a", "Texture of b"]),
        ("texture_1 : A\nTEXTURE_3: C", ["A"]),
        ("TEXTURE_2: B\nTEXTURE_1: A", ["A", "B"]),
        (numbered(12), [f"d{i}" for i in range(1, 11)]),
        ("TEXTURE_1: a\nTEXTURE_10: j", ["a"]),
        ("The image shows wood.", []),
        ("TEXTURE_1:\nTEXTURE_2: B", []),
        ("TEXTURE_1: A TEXTURE_2: B", ["A", "B"]),
        ("**TEXTURE_1:** Texture of x", ["Texture of x"]),
        # and more of the kind
        ("", []),
        ("TEXTURE_2: B", []),
        ("TEXTURE_0: z\nTEXTURE_1: A", ["A"]),
        ("TEXTURE_1: A\r\nand more\r\nTEXTURE_2: B\r\n", ["A", "B"]),
        ("TEXTURE_1: A\nTEXTURE_1: again", ["A"]),
        ("TEXTURE_1:\nTEXTURE_1: A", ["A"]),
        ("- TEXTURE_1: A\n- TEXTURE_2: B", ["A", "B"]),
        ("Texture 1: A\nTexture 2: B", ["A", "B"]),
        ("TEXTURE_1: A <|seg|>\nTEXTURE_2: B <|seg|>", ["A", "B"]),
        ("TEXTURE_1: like a texture: B", ["like a texture: B"]),
        ("TEXTURE_" + "1" * 5000 + ": A", []),
        ("TEXTURE_01: A\nTEXTURE_002: B", ["A", "B"]),
        ("TEXTURE_1: A TEXTURE_1: again\nTEXTURE_2: B", ["A", "B"]),
        ("**TEXTURE_1: Texture of x**\n**TEXTURE_2**: `y`", ["Texture of x", "y"]),
        ("1. **TEXTURE_1:** *a*\n2. **TEXTURE_2:** *b*\n\n---", ["a", "b"]),
        ("```\nTEXTURE_1: a\nTEXTURE_2: b\n```", ["a", "b"]),
        ("TEXTURE_1\uff1a\u7802\nTEXTURE_2: gr\u00e8s rouge", ["\u7802", "gr\u00e8s rouge"]),
        (
            "TEXTURE_1:\u00a0br\u00fbl\u00e9 \u2013\u2003\U0001f9f1",
            ["br\u00fbl\u00e9 \u2013 \U0001f9f1"],
        ),
        ("TEXTURE_1: a\n\nTEXTURE_2:\n\nTEXTURE_3: c", ["a"]),
        ("MY_TEXTURE_1: a", []),
    ],
)
def test_plain_answers_are_read(text, expected):
    assert parse_answer(text) == expected


def test_number_of_regions_is_limited():
    assert parse_answer(numbered(4), max_regions=2) == ["d1", "d2"]
    assert len(parse_answer(numbered(12), max_regions=20)) == 12
    assert parse_answer(numbered(2), max_regions=0) == []


@given(st.text(alphabet="TEXTURE_12:*- \n<|>texture.", max_size=60))
def test_no_text_breaks_the_parsers(text):
    for found in (parse_answer(text), parse_lines([text])):
        assert all(d == " ".join(d.split()) for d in found)
    assert len(parse_lines([text])) == 1
    assert all(parse_answer(text))


@pytest.mark.parametrize("token", ["1", "Texture", "a b", "x_1", "a\nb"])
def test_words_and_numbers_are_no_tokens(token):
    """They stand in every answer, which would end too early or have a region more."""
    with pytest.raises(ConfigError, match="must be one sign of a tokenizer"):
        replace(DEFAULT_PROMPTS, end_token=token)


def test_the_end_token_holds_no_seg_token():
    with pytest.raises(ConfigError, match="an answer would have one region more"):
        replace(DEFAULT_PROMPTS, end_token=f"{SEG}.")

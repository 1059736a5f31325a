"""What models answer: texture lines, JSON of describers and judges, sentences."""

import json
import re

from detecture.data.prompts import (
    DEFAULT_PROMPTS,
    SEG,
    answer_text,
    parse_answer,
    parse_lines,
    training_description,
)
from detecture.evaluation.words.parser import parse_sentence
from detecture.miner.describe.answers import PREFIX, check_texts, key_of, parse_answer_texts
from detecture.miner.score.rubric import (
    FLAGS,
    OVERLAY_QUESTIONS,
    QUESTIONS,
    answers_in,
    overlay_rubric,
    rubric,
    yes_or_no,
)
from tests.fuzz.case import target
from tests.fuzz.inputs import json_bytes
from tests.fuzz.mutators import TEXTS, altered, damaged

SENTENCES = [
    "Texture of wet grey sand with fine ripples at the bottom left",
    "Texture of reddish-brown bricks in regular rows around the middle",
    "Texture of a 2*3 grid of dark tiles, low contrast",
    "Texture of moss; TEXTURE of stone: coarse",
]
_BOMBS = [
    *(
        "<|" * 20_000,
        "<|" + "x" * 40_000,
        "\n" * 40_000,
        " \t" * 20_000,
        "*" * 40_000,
        "`" * 40_000,
    ),
    *("texture " * 5_000, "TEXTURE_1:" * 5_000, "- " * 20_000, "1. " * 10_000, "{" * 30_000),
    *('{"a":' * 8_000, "```\n" * 10_000, "~" * 40_000, "\\_" * 20_000, "-" * 40_000, "a-" * 20_000),
    *("yellow-brown " * 3_000, "reddish " * 5_000, "contrast " * 5_000, "top left " * 4_000),
    *("\u0130" * 20_000, "'s" * 20_000, "_" * 40_000, "} {" * 10_000, '"' * 40_000, "\\" * 40_000),
    "texture" + " " * 40_000,
    "texture_" + "9" * 40_000 + ":",
    "<|seg|>" * 8_000,
]
_LONGEST = 64 << 10


def _text(case, parts):
    """A text of parts, hostile texts and bombs, mostly damaged."""
    draw = case.draw
    parts = list(parts)
    for _ in range(draw.randint(0, 3)):
        parts.insert(
            draw.randrange(len(parts) + 1), draw.choice(draw.choice((TEXTS, _BOMBS, TEXTS)))
        )
    text = draw.choice(("\n", " ", "", f" {SEG}\n")).join(parts)
    if draw.random() < 0.5:
        text = damaged(draw, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
    text = text[:_LONGEST]
    (case.folder / "answer.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    return text


@target(weight=10)
def texture_lines(case):
    """`TEXTURE_i: .. <|seg|>` lines of a VLM."""
    draw = case.draw
    count = draw.randint(1, 4)
    given = [
        training_description(DEFAULT_PROMPTS, draw.choice(SENTENCES[:2])) for _ in range(count)
    ]
    mode = draw.choice(("released", "newline"))
    answer = answer_text(DEFAULT_PROMPTS, given, mode)
    pieces = answer.split(SEG)[:-1]
    assert parse_lines(pieces) == given
    assert parse_answer(answer) == given
    text = _text(case, answer.split("\n"))
    found = parse_answer(text, max_regions=draw.choice((1, 10)))
    assert len(found) <= 10
    pieces = text.split(SEG)
    lines = parse_lines(pieces)
    assert len(lines) == len(pieces)
    for one in (*found, *lines):
        assert "\n" not in one and one == " ".join(one.split()) and SEG not in one
        again = training_description(DEFAULT_PROMPTS, one)
        assert (SEG not in again and again.startswith("Texture of")) or again[
            :10
        ].lower() == "texture of"
    own = answer_text(DEFAULT_PROMPTS, [text, *lines[:3]], mode)
    assert own.count(SEG) == 1 + len(lines[:3])


@target(weight=10)
def describer_answer(case):
    """The JSON answer of the miner's describer."""
    draw = case.draw
    count = draw.randint(1, 4)
    tree = {key_of(n): SENTENCES[n] for n in range(count)}
    if case.chance(0.15):
        case.sound = True
        text = json.dumps(tree, indent=draw.choice((None, 1)))
        text = draw.choice(("{}", "```json\n{}\n```", "Here it is:\n{}\nDone.")).replace("{}", text)
    elif case.chance(0.5):
        text = json_bytes(case, altered(draw, tree)).decode("utf-8", "replace")
    else:
        text = _text(case, [json.dumps(tree)])
    (case.folder / "answer.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    found = parse_answer_texts(text, count)
    assert len(found) == count
    for one in found:
        assert one.startswith(PREFIX) and "\n" not in one and one.encode()
    problems, warnings = check_texts(found)
    assert all(len(text) < 500 for text in (*problems, *warnings))
    if case.sound:
        assert found == list(tree.values())


@target(weight=8)
def judge_answer(case):
    """The JSON answer of the miner's judge, and short answers."""
    draw = case.draw
    questions = draw.choice((QUESTIONS, OVERLAY_QUESTIONS))
    tree = {name: draw.choice(("yes", "no", True, "Yes.", 3, "two", None)) for name in questions}
    if case.chance(0.5):
        text = json_bytes(case, altered(draw, tree)).decode("utf-8", "replace")
    else:
        text = _text(case, [json.dumps(tree)])
    (case.folder / "answer.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert yes_or_no(text) in (True, False, None)
    found = answers_in(text, questions)
    assert found.keys() == questions.keys()
    for name, value in found.items():
        is_number = type(value) is int and 0 <= value < 10**6
        assert value is None or (is_number if name == "regions" else isinstance(value, bool))
    if questions is QUESTIONS:
        verdict = rubric(found)
        assert 0 <= verdict.score <= 100 and set(verdict.flags) <= set(FLAGS)
    else:
        assert 0 <= overlay_rubric(found).score <= 100


@target(weight=8)
def sentence(case):
    """A sentence about a region, read into claims."""
    text = _text(case, [case.draw.choice(SENTENCES)])
    found = parse_sentence(text)
    assert len(found.words) == len(found.attributes)
    assert set(found.rest) <= set(found.words)
    for word in found.words:
        assert re.fullmatch(r"[^\W_]+(?:['/][^\W_]+)*", word), ascii(word)
    for claims in found.claims.values():
        assert claims and all(claim for claim in claims)

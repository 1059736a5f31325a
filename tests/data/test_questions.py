"""Wordings for models that are used as they come."""

from dataclasses import asdict, replace

import pytest
import yaml

from detecture.data.prompts import parse_answer
from detecture.data.questions import Questions, count_word, load_questions, shipped_questions
from detecture.errors import ConfigError

PARTS = {
    "system": "",
    "subject": "S {subject}",
    "pair": "P",
    "exact": "E {count}",
    "open": "O {most}",
    "form": "as {this}:\n{lines}",
    "line": "T{i}",
}
SMALL = Questions(**PARTS)
SA2VA = ("sa2va_caption", "sa2va_parts")


def load(name):
    return load_questions(name, "KEY")


def test_what_is_known_of_the_number_decides_the_question():
    assert SMALL.ask(1, 6, "water surface") == "S water surface\n\nas {this}:\nT1"
    assert SMALL.ask(1, 6) == "E one\n\nas {this}:\nT1"
    assert SMALL.ask(2, 6, "water surface") == "P\n\nas {this}:\nT1\nT2"
    assert SMALL.ask(3, 6).startswith("E three\n")
    assert SMALL.ask(None, 6, "water surface") == "O six\n\nas {this}:\nT1\nT2"
    assert SMALL.ask(None, 1).endswith(":\nT1")
    assert replace(SMALL, form="", line="").ask(3, 6) == "E three"
    with pytest.raises(ConfigError, match="0 regions"):
        SMALL.ask(0, 6)
    with pytest.raises(ConfigError, match="special tokens"):
        SMALL.ask(1, 6, "<|image_pad|>")


def test_numbers_are_words_up_to_eight():
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "9", "10"]
    assert [count_word(number) for number in range(1, 11)] == words


@pytest.mark.parametrize("k", range(1, 13))
def test_as_many_lines_are_shown_as_are_asked_for(k):
    text = load("describe_then_segment").ask(k, 6)
    assert len(parse_answer(text, max_regions=20)) == k
    assert text.count("Texture of <phrase>") == k
    if k == 2:
        assert "two most prominent regions" in text
    else:
        assert f"exactly {count_word(k)}." in text


def test_the_shipped_wordings_say_what_they_must():
    assert {"describe_then_segment", *SA2VA} <= set(shipped_questions())
    for name in ("describe_then_segment", *SA2VA):
        questions = load(name)
        assert "water surface" in questions.ask(1, 6, "water surface")
        assert "water surface" not in questions.ask(1, 6) + questions.ask(2, 6, "water surface")
        assert " six" in questions.ask(None, 6)
        assert " five" in questions.ask(5, 6)
        assert all(text == text.strip() for text in asdict(questions).values())
    first, second = (asdict(load(name)) for name in SA2VA)
    for name in ("subject", "pair", "exact", "open"):
        assert first[name] != second[name]
        assert "segmentation mask" in first[name]
        assert "segmentation mask" in second[name]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"pair": ""}, "pair is empty"),
        ({"pair": 2}, "pair must be text, got int"),
        ({"exact": "E"}, r"exact has no \{count\}"),
        ({"open": "O"}, r"open has no \{most\}"),
        ({"subject": "S"}, r"subject has no \{subject\}"),
        ({"pair": "{count}"}, r"pair has the slot \{count\}"),
        ({"open": "{most} {lines}"}, r"open has the slot \{lines\}"),
        ({"line": ""}, "form and line"),
        ({"line": "T"}, "form and line"),
        ({"form": ""}, "form and line"),
        ({"form": "F", "line": ""}, None),
        ({"system": "<|im_end|>"}, "special tokens"),
    ],
)
def test_malformed_wordings_are_refused(change, match):
    if match is None:
        assert Questions(**{**PARTS, **change}).ask(2, 6) == "P\n\nF"
        return
    with pytest.raises(ConfigError, match=match):
        Questions(**{**PARTS, **change})


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(PARTS), encoding="utf-8")
    assert load(str(path)) == SMALL


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("- a\n- b", "mapping"),
        ("pair: [", "cannot be read"),
        ("pair: !!python/object/apply:os.getcwd []", "cannot be read"),
        (yaml.safe_dump({**PARTS, "pear": "P"}), "unknown key 'pear': did you mean pair"),
        (yaml.safe_dump({**PARTS, 3: "P"}), "the key 3 is of type int; write it in quotes"),
        (yaml.safe_dump({"pair": "P"}), "lacks system, subject, exact"),
        (yaml.safe_dump({**PARTS, "open": "O"}), r"open has no \{most\}"),
    ],
)
def test_mistakes_in_a_file_name_it(tmp_path, text, match):
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"wrong\.yaml.*{match}"):
        load(str(path))


def test_unknown_names():
    with pytest.raises(ConfigError, match=r"KEY 'no': neither one of .*sa2va_parts, nor a yaml"):
        load("no")

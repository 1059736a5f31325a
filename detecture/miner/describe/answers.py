"""Answers of a describer: their form, how they are read, and what is wrong with one.

An answer is a JSON object with one text for each region, under the keys `texture_a`, `texture_b`
and so on, in the order of the regions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detecture.config.sections.miner_stages import ValidateSettings
from detecture.errors import MinerError, brief
from detecture.untrusted import parse_json

PREFIX = ValidateSettings.prefix
"""Begins every description."""

MOST_CHARACTERS = 64 << 10
"""Of an answer; a longer one is refused before it is read."""

_MOST_STARTS = 16  # braces of an answer at which its JSON is looked for
# Blanks alone in front: with line ends, an answer of empty lines takes a minute.
_FENCE = re.compile(r"^[ \t]*(```|~~~).*$", re.MULTILINE)
_LEAD = re.compile(r"texture of(?:\s+|\Z)", re.IGNORECASE)
_KEY = re.compile(r"texture_[a-z]+\Z")
_NO_SENTENCE = re.compile(r"<\||\|>|[{}]|TEXTURE_\d")
_OUTER = " \t\r\n\"'`*"


@dataclass(frozen=True, kw_only=True)
class WordRules:
    """How many words may stand behind "Texture of"; by default as MINER.VALIDATE has it by default.

    Other keys there make no description anew: they may be dear.

    Attributes:
        asked: least and greatest number that is asked for; others bring a warning.
        least: fewer are refused.
        most: more are refused.
    """

    asked: tuple[int, int] = ValidateSettings.words
    least: int = ValidateSettings.most_extreme_words[0]
    most: int = ValidateSettings.most_extreme_words[1]

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.asked[0] <= self.asked[1] <= self.most:
            raise MinerError(
                f"rules of words {self}: needs 1 <= least <= asked[0] <= asked[1] <= most"
            )


OFFLINE_RULES = WordRules(least=ValidateSettings.offline_least_words)
"""For sentences that were made of measurements."""


class AnswerError(MinerError):
    """An answer is not of the form that was asked for; the text says why."""


def key_of(index: int) -> str:
    """The key of a region, from 0: `texture_a` to `texture_z`, then `texture_aa` and so on."""
    letters = ""
    number = index + 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return f"texture_{letters}"


def answer_model(count: int) -> Any:
    """The pydantic model of an answer about `count` regions: a text under each key, no more.

    Raises:
        MinerError: pydantic is not installed.
    """
    try:
        from pydantic import ConfigDict, create_model
    except ImportError as error:
        raise MinerError(
            'answers of a describer need pydantic: pip install -e ".[miner-api]"'
        ) from error
    fields: dict[str, Any] = {key_of(index): (str, ...) for index in range(count)}
    return create_model("RegionTexts", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def answer_schema(count: int) -> dict[str, Any]:
    """The JSON schema of an answer about `count` regions, for endpoints that keep to one.

    Raises:
        MinerError: pydantic is not installed.
    """
    schema: dict[str, Any] = answer_model(count).model_json_schema()
    return schema


def parse_answer_texts(text: str, count: int) -> list[str]:
    """The descriptions of an answer, each with "Texture of" in front.

    Code fences are dropped, and so is what stands around the JSON object.

    Args:
        text: what a model wrote.
        count: number of regions that it was asked about.

    Raises:
        AnswerError: there is no JSON object in it, a text is missing or no text, or there are
            texts of further regions.
        MinerError: pydantic is not installed.
    """
    found = _json_object(text)
    model = answer_model(count)
    texts = {key: value for key, value in found.items() if _KEY.match(key)}
    expected = [key_of(index) for index in range(count)]
    if missing := [key for key in expected if key not in texts]:
        raise AnswerError(f"the answer lacks {', '.join(missing[:5])}")
    if more := sorted(set(texts) - set(expected)):
        raise AnswerError(f"the answer is about {', '.join(more[:5])} too, which was not asked for")
    from pydantic import ValidationError

    try:
        answer = model.model_validate(texts)
    except ValidationError as refused:
        first = refused.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise AnswerError(f"{place} of the answer is {brief(first['input'])}, no text") from refused
    return [with_prefix(getattr(answer, key)) for key in expected]


def _json_object(text: str) -> dict[str, Any]:
    if len(text) > MOST_CHARACTERS:
        raise AnswerError(f"the answer has {len(text):,} characters")
    plain = _FENCE.sub("", text)
    end = plain.rfind("}") + 1
    start = plain.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0 or start >= end:
            break
        try:
            found = parse_json(plain[start:end], "answer", AnswerError)
        except AnswerError:
            start = plain.find("{", start + 1)
            continue
        if isinstance(found, dict):
            return found
        break
    raise AnswerError(f"the answer holds no JSON object: {brief(text.strip())}")


def with_prefix(text: str) -> str:
    """A description on one line, beginning with "Texture of "."""
    bare = " ".join(text.strip(_OUTER).split())
    lead = _LEAD.match(bare)
    return PREFIX + (bare[lead.end() :] if lead else bare)


def words_after_prefix(description: str) -> int:
    """Number of words, parted by white space, behind "Texture of "."""
    return len(description.removeprefix(PREFIX).split())


def check_texts(
    descriptions: Sequence[str], rules: WordRules | None = None
) -> tuple[list[str], list[str]]:
    """What is wrong with the descriptions of an image.

    Args:
        descriptions: in the order of the regions.
        rules: of words; by default those of `WordRules`.

    Returns:
        Problems, for which they are refused, and warnings; each names the region by its key.
    """
    rules = rules or WordRules()
    problems, warnings = [], []
    seen: dict[str, str] = {}
    for index, text in enumerate(descriptions):
        key, count = key_of(index), words_after_prefix(text)
        if not text.startswith(PREFIX):
            problems.append(f"{key} does not begin with {PREFIX!r}")
        if not rules.least <= count <= rules.most:
            allowed = f"{rules.least} to {rules.most}"
            problems.append(f"{key} has {count} words after {PREFIX.strip()!r}, not {allowed}")
        elif not rules.asked[0] <= count <= rules.asked[1]:
            warnings.append(
                f"{key} has {count} words, {rules.asked[0]} to {rules.asked[1]} were asked for"
            )
        if found := _NO_SENTENCE.search(text):
            problems.append(f"{key} holds {found.group()!r}, which belongs to no sentence")
        same = seen.setdefault(_plain(text), key)
        if same != key:
            problems.append(f"{key} says the same as {same}")
    return problems, warnings


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))

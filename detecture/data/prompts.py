"""What a model is asked and how it answers: prompt wording, answer text and its parsing.

A trained model answers only to the wording it was trained on, so a `PromptTemplate` travels in the
header of every adapter (specification of the model, section 7).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from detecture.config.sections.detecture import VlmSettings
from detecture.errors import ConfigError, brief
from detecture.untrusted import read_yaml

STOP_SUPERVISION_MODES = VlmSettings.choices_of("stop_supervision")
"""`released`: lines are joined and the end token comes directly after the last seg token, as in the
published data; `newline`: every line, including the last, ends in a newline."""

OPEN_COUNT = "between 1 and 6"
DESCRIPTION_LEAD = "Texture of"
MAX_WORDS = 100
"""Longer descriptions are cut in training: 10 to 15 words are requested, and one of thousands would
take all memory."""

SEG = "<|seg|>"
END = "<|im_end|>"
"""End of a turn in Qwen's chat format."""

_YAML_KEYS = {
    "system": "system",
    "user": "user",
    "assistant_line": "line",
    "assistant_join": "joiner",
    "seg_token": "seg_token",
    "warm_start_token": "warm_start_token",
    "end_token": "end_token",
}
# The published wording names no end token.
_YAML_DEFAULTS = {"end_token": END}

# The innermost <|...|>, so that one token wrapped in another does not take text with it.
_SPECIAL = re.compile(r"<\|(?:(?!<\|).)*?\|>", re.DOTALL)
# An asterisk between two letters or digits is not emphasis: "a 2*3 grid".
_EMPHASIS = re.compile(r"(?<!\w)\*+|\*+(?!\w)|`+")
# Hyphens, dashes, bullets, quotation and heading marks; "1." and "1)".
_BULLET = r"(?:[-\u2013\u2014\u2022\u00b7>#]+|[0-9]{1,2}[.)])(?:[ \t]+|\Z)"
_BULLETS = re.compile(rf"\A(?:{_BULLET})+")
# At the start of a line a label may be written freely; within a line only TEXTURE_<number>, so that
# "a coarse texture: sand" stays whole. Asterisks are gone before this is applied.
_LABEL = re.compile(
    rf"(?:^[ \t]*(?:{_BULLET})*texture[ _-]?(?P<head>[0-9]{{1,4}})?"
    r"|(?<![a-z0-9_])texture_(?P<inner>[0-9]{1,4}))[ \t]*[:\uff1a]",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class PromptTemplate:
    """Wording of a prompt and form of its answer.

    Attributes:
        system: system text; may be empty.
        user: user text; `{N}` stands for the count phrase. Other braces are plain text.
        line: one line of the answer, with `{i}` (from 1) and `{description}`; ends with the seg
            token.
        joiner: the text between lines in `released` answers.
        seg_token: the token at which a region's state is read.
        end_token: token that ends an answer.
        warm_start_token: the token whose vocabulary rows initialise the seg token's.

    Raises:
        ConfigError: a part is not text, or not of the form above.
    """

    system: str
    user: str
    line: str
    joiner: str
    seg_token: str
    end_token: str
    warm_start_token: str

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            if not isinstance(value, str):
                raise ConfigError(f"prompt {name} must be text, got {type(value).__name__}")
            if not value and name != "system":
                raise ConfigError(f"prompt {name} is empty: give its text")
        if "{N}" not in self.user:
            raise ConfigError("prompt user has no {N}: put it where the number of regions stands")
        for slot in ("{i}", "{description}", self.seg_token):
            if self.line.count(slot) != 1:
                raise ConfigError(
                    f"prompt line {brief(self.line)} must contain {brief(slot)[1:-1]} exactly once"
                )
        if not self.line.endswith(self.seg_token):
            raise ConfigError(
                f"prompt line {brief(self.line)} must end with {brief(self.seg_token)[1:-1]}"
            )
        if "\n" in self.line:
            raise ConfigError(f"prompt line {brief(self.line)} must be a single line")
        if self.seg_token in self.joiner or self.end_token in self.joiner + self.line:
            raise ConfigError(
                f"prompt line {brief(self.line)} and joiner {brief(self.joiner)}: the seg token "
                f"{brief(self.seg_token)[1:-1]} belongs at the end of the line only, the end token "
                f"{brief(self.end_token)[1:-1]} in neither"
            )
        for token in (self.seg_token, self.end_token):
            # Words and numbers occur in every answer.
            if " " in token or token.replace("_", "a").isalnum() or not token.isprintable():
                raise ConfigError(
                    f"prompt token {brief(token)} must be one sign of a tokenizer, such as {SEG}"
                )
        if self.seg_token in self.end_token:
            raise ConfigError(
                f"prompt end token {brief(self.end_token)} holds the seg token "
                f"{brief(self.seg_token)}: an answer would have one region more"
            )

    def user_text(self, k: int | None) -> str:
        """The user text for `k` regions; None if the number is open. See `count_phrase`."""
        return self.user.replace("{N}", count_phrase(k))

    def to_dict(self) -> dict[str, str]:
        """All parts by name, for the header of an adapter."""
        return asdict(self)

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> "PromptTemplate":
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a part is missing, unknown or malformed.
        """
        names = [field.name for field in fields(cls)]
        check_keys(parts, names, names, "prompt")
        return cls(**parts)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "PromptTemplate":
        """Read a template from a yaml file.

        Args:
            path: a mapping with the keys `system`, `user`, `assistant_line`, `assistant_join`,
                `seg_token`, `warm_start_token` and, if it is not `<|im_end|>`, `end_token`.

        Raises:
            ConfigError: the file cannot be read, is not a yaml mapping, or a key is missing,
                unknown or malformed. Tags that would run code are refused.
        """
        values = read_yaml(Path(path), ConfigError)
        if not isinstance(values, dict):
            raise ConfigError(f"prompt file {path} must hold a mapping of keys to texts")
        required = [key for key in _YAML_KEYS if key not in _YAML_DEFAULTS]
        check_keys(values, list(_YAML_KEYS), required, f"prompt file {path}")
        try:
            return cls(**{_YAML_KEYS[key]: v for key, v in {**_YAML_DEFAULTS, **values}.items()})
        except ConfigError as error:
            raise ConfigError(f"prompt file {path}: {error}") from error


DEFAULT_PROMPTS = PromptTemplate(
    system=(
        "You name the surfaces seen in a picture. "
        "Give the answer in exactly the requested format and add nothing to it."
    ),
    user=(
        "Number of texture regions in this picture: {N}. Neighbouring regions differ clearly in "
        "material or pattern.\n\n"
        "Write one phrase of 10-15 words per region: the usual name of the material, the colours, "
        "pattern or structure that set it apart, and its place in the picture. A region is a "
        "whole surface, everything of that kind taken together; do not list single objects.\n\n"
        "One line per region, in this format:\n"
        f"TEXTURE_1: Texture of <phrase> {SEG}\n"
        f"TEXTURE_2: Texture of <phrase> {SEG}"
    ),
    line=f"TEXTURE_{{i}}: {{description}} {SEG}",
    joiner="\n",
    seg_token=SEG,
    end_token=END,
    warm_start_token=END,
)
"""The project's own wording."""

TINY_PROMPTS = PromptTemplate(
    system="Name the textures.",
    user=f"Regions: {{N}}. One line each:\nTEXTURE_1: Texture of <phrase> {SEG}",
    line=DEFAULT_PROMPTS.line,
    joiner=DEFAULT_PROMPTS.joiner,
    seg_token=DEFAULT_PROMPTS.seg_token,
    end_token=DEFAULT_PROMPTS.end_token,
    warm_start_token=DEFAULT_PROMPTS.warm_start_token,
)
"""The same, as short as possible: for the small model, which learns the task from scratch."""

DESCRIBE_PROMPTS = PromptTemplate(
    system="",
    user="Regions: {N}.",
    line=DEFAULT_PROMPTS.line,
    joiner=DEFAULT_PROMPTS.joiner,
    seg_token=DEFAULT_PROMPTS.seg_token,
    end_token=DEFAULT_PROMPTS.end_token,
    warm_start_token=DEFAULT_PROMPTS.warm_start_token,
)
"""The prompt for a describer, which sees one region and answers with just the sentence."""


def require_stop_mode(name: str) -> None:
    """Check the value of `MODEL.VLM.STOP_SUPERVISION`.

    Raises:
        ConfigError: it is not one of `STOP_SUPERVISION_MODES`.
    """
    if name not in STOP_SUPERVISION_MODES:
        raise ConfigError(
            f"stop supervision {name!r}: use one of {', '.join(STOP_SUPERVISION_MODES)}"
        )


def count_phrase(k: int | None) -> str:
    """What `{N}` becomes: the number, or "between 1 and 6" if it is open (None).

    Raises:
        ConfigError: `k` is below 1.
    """
    if k is None:
        return OPEN_COUNT
    if k < 1:
        raise ConfigError(f"the prompt cannot ask for {k} regions: use a positive number or None")
    return str(k)


def answer_text(
    template: PromptTemplate, descriptions: Sequence[str], stop_supervision: str
) -> str:
    """The answer that a model is trained to give.

    Args:
        template: form of the lines.
        descriptions: one for each region. White space is collapsed, anything that reads as a
            special token is removed, and "Texture of" is prepended if missing.
        stop_supervision: see `STOP_SUPERVISION_MODES`.

    Returns:
        The lines and the end token. It contains the seg token exactly once for each description.

    Raises:
        ConfigError: an unknown `stop_supervision`.
    """
    require_stop_mode(stop_supervision)
    lines = [
        # The description comes last: it may itself contain "{i}".
        template.line.replace("{i}", str(number)).replace(
            "{description}", training_description(template, description)
        )
        for number, description in enumerate(descriptions, start=1)
    ]
    if stop_supervision == "newline":
        return "".join(f"{line}\n" for line in lines) + template.end_token
    return template.joiner.join(lines) + template.end_token


def parse_lines(text_pieces: Sequence[str]) -> list[str]:
    """Descriptions from the texts that a model wrote before each of its seg tokens.

    A piece's description is what follows its last label (`TEXTURE_i:`), or its last line if it has
    no label. Markdown, list marks and special tokens are removed.

    Args:
        text_pieces: decoded text between one seg token and the next.

    Returns:
        One description for each piece, "" if there is none, so that the count stays right.
    """
    return [_piece_description(piece) for piece in text_pieces]


def parse_answer(text: str, max_regions: int = 10) -> list[str]:
    """Descriptions from an answer without seg tokens, as the baselines give it.

    Args:
        text: lines `TEXTURE_i: <description>`, in any order or letter case, possibly several on one
            line and among other text.
        max_regions: at most this many are taken.

    Returns:
        Descriptions 1, 2, .. up to the first number that is missing or has no text; the first of
        two that bear the same number (rules and cases: benchmark specification, 8.4).
    """
    text = _without_marks(text)
    labels = list(_LABEL.finditer(text))
    ends = [*(label.start() for label in labels[1:]), len(text)]
    found: dict[int, str] = {}
    for label, end in zip(labels, ends, strict=False):
        number = label["head"] or label["inner"]
        description = _tidy(text[label.end() : end].partition("\n")[0])
        if number and description:
            found.setdefault(int(number), description)
    descriptions: list[str] = []
    while len(descriptions) < max_regions and len(descriptions) + 1 in found:
        descriptions.append(found[len(descriptions) + 1])
    return descriptions


def check_keys(
    values: Mapping[str, Any], known: Sequence[str], required: Sequence[str], where: str
) -> None:
    """Check the keys of a file of texts.

    Raises:
        ConfigError: one is unknown or missing; the message begins with `where`.
    """
    for key in values:
        if key not in known:
            close = get_close_matches(str(key)[:200], known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(known)}"
            raise ConfigError(f"{where} has an unknown key {brief(key)}: {hint}")
    missing = [key for key in required if key not in values]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")


def training_description(template: PromptTemplate, description: str) -> str:
    """One description as a model is trained to write it; see `answer_text`."""
    text = _collapse(description)
    tokens = (template.seg_token, template.end_token, template.warm_start_token)
    while True:
        cleaned = _SPECIAL.sub(" ", text)
        for token in tokens:
            cleaned = cleaned.replace(token, " ")
        cleaned = _collapse(cleaned)
        # Removing one token may join the halves of another.
        if cleaned == text:
            break
        text = cleaned
    text = " ".join(text.split()[:MAX_WORDS])
    if re.match(rf"{DESCRIPTION_LEAD}\b", text, re.IGNORECASE):
        return text
    return f"{DESCRIPTION_LEAD} {text}".rstrip()


def _piece_description(piece: str) -> str:
    text = _without_marks(piece)
    labels = list(_LABEL.finditer(text))
    if labels:
        return _tidy(text[labels[-1].end() :])
    lines = text.strip().splitlines()
    return _tidy(lines[-1]) if lines else ""


def _without_marks(text: str) -> str:
    """The text without special tokens and Markdown's asterisks, backquotes, escaped underscores."""
    return _EMPHASIS.sub("", _SPECIAL.sub(" ", text).replace("\\_", "_"))


def _tidy(text: str) -> str:
    """On one line, without list marks in front."""
    return _collapse(_BULLETS.sub("", text.strip()))


def _collapse(text: str) -> str:
    return " ".join(text.split())

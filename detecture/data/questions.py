"""The questions about texture regions for an off-the-shelf VLM: wording as data.

One file per wording, in `detecture/data/wordings` or a user's own. Which of its questions is asked
depends only on what the method knows about the number of regions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from detecture.data.prompts import check_keys
from detecture.errors import ConfigError, brief
from detecture.untrusted import named_path, read_yaml

_FOLDER = Path(__file__).parent / "wordings"
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
# Slots that a text must have, and those that it may also have.
_SLOTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "system": ((), ()),
    "subject": (("{subject}",), ()),
    "pair": ((), ()),
    "exact": (("{count}",), ()),
    "open": (("{most}",), ()),
    "form": ((), ("{lines}",)),
    "line": ((), ("{i}",)),
}
_ALL_SLOTS = ("{subject}", "{count}", "{most}", "{lines}", "{i}")
_MAY_BE_EMPTY = ("system", "form", "line")


@dataclass(frozen=True)
class Questions:
    """One wording: a question for each kind of knowledge about the number of regions.

    Attributes:
        system: system text; may be empty.
        subject: for one region whose name is known, at `{subject}`.
        pair: for two regions.
        exact: for any other known number, at `{count}`.
        open: for an unknown number; `{most}` is the greatest.
        form: follows every question and says how to answer; may be empty. The lines of the answer
            go at `{lines}`.
        line: one such line, with `{i}` (from 1); empty exactly when `form` has no `{lines}`.

    Raises:
        ConfigError: a part is not text, lacks its slot, has another part's slot, or reads as a
            special token.
    """

    system: str
    subject: str
    pair: str
    exact: str
    open: str
    form: str
    line: str

    def __post_init__(self) -> None:
        for name, text in asdict(self).items():
            if not isinstance(text, str):
                raise ConfigError(f"{name} must be text, got {type(text).__name__}")
            if not text and name not in _MAY_BE_EMPTY:
                raise ConfigError(f"{name} is empty: give its text")
            if "<|" in text:
                raise ConfigError(f"{name} holds <|, with which special tokens begin: leave it out")
            required, allowed = _SLOTS[name]
            for slot in required:
                if slot not in text:
                    raise ConfigError(f"{name} has no {slot}: put it where its value stands")
            for slot in _ALL_SLOTS:
                if slot in text and slot not in (*required, *allowed):
                    raise ConfigError(f"{name} has the slot {slot}, which nothing fills there")
        if not ("{lines}" in self.form) == ("{i}" in self.line) == bool(self.line):
            raise ConfigError(
                "form and line belong together: {lines} in form, and a line with {i}, or neither"
            )

    def ask(self, k: int | None, most: int, subject: str = "") -> str:
        """The user text.

        Args:
            k: number of regions; None if unknown.
            most: greatest number of regions if `k` is None.
            subject: what the region is if `k` is 1, such as "water surface"; empty if unknown. Any
                other `k` is not about one subject and leaves it out.

        Raises:
            ConfigError: `k` is below 1, or `subject` reads as a special token.
        """
        if k is not None and k < 1:
            raise ConfigError(f"{k} regions cannot be asked for: use a positive number or None")
        if "<|" in subject:
            raise ConfigError(f"the subject {subject!r} holds <|, with which special tokens begin")
        if k is None:
            question = self.open.replace("{most}", count_word(most))
        elif k == 1 and subject:
            question = self.subject.replace("{subject}", subject)
        elif k == 2:
            question = self.pair
        else:
            question = self.exact.replace("{count}", count_word(k))
        if not self.form:
            return question
        # If the number is open, two lines show that there may be more than one.
        shown = min(2, most) if k is None else k
        lines = "\n".join(self.line.replace("{i}", str(i)) for i in range(1, shown + 1))
        form = self.form.replace("{lines}", lines)
        return f"{question}\n\n{form}"

    @classmethod
    def from_yaml(cls, path: Path) -> Questions:
        """Read a wording; the keys of the file are the attributes.

        Raises:
            ConfigError: the file cannot be read, is not a yaml mapping of texts, or a key is
                missing, unknown or malformed. Tags that would run code are refused.
        """
        values = read_yaml(path, ConfigError)
        if not isinstance(values, dict):
            raise ConfigError(f"question file {path} must hold a mapping of keys to texts")
        names = [field.name for field in fields(cls)]
        check_keys(values, names, names, f"question file {path}")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"question file {path}: {error}") from error


def shipped_questions() -> list[str]:
    """Names of the wordings that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_questions(name: str, key: str) -> Questions:
    """The wording of this name, or of this yaml file.

    Args:
        name: a shipped one (see `shipped_questions`), or a path.
        key: the config key, for errors.

    Raises:
        ConfigError: neither exists, or the file holds no wording.
    """
    if name in shipped_questions():
        return Questions.from_yaml(_FOLDER / f"{name}.yaml")
    path = named_path(name, key, ConfigError)
    if not path.is_file():
        known = ", ".join(shipped_questions())
        raise ConfigError(f"{key} {brief(name)}: neither one of {known}, nor a yaml file")
    return Questions.from_yaml(path)


def count_word(number: int) -> str:
    """A number in words up to eight, in digits from nine on."""
    return _WORDS[number - 1] if 1 <= number <= len(_WORDS) else str(number)

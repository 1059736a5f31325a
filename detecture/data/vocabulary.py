"""What an open-vocabulary model is asked for: any number of classes, by name.

    Vocabulary.parse("sky|clouds, wet sand, reed")

has three classes and four names; names separated by bars mean the same class. Class lists of data
sets are JSON: a list of names, in which bars and commas separate synonyms, of lists of synonyms, or
of `{"background": ["bag", "bed"]}`, a class that is looked for by other names than its own.
"""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from detecture.errors import ConfigError, brief
from detecture.untrusted import named_path, read_json

logger = logging.getLogger(__name__)

CLASS_LISTS = Path(__file__).with_name("class_lists")
"""Folder of the shipped lists, such as `ade_150`."""

_LONGEST_NAME = 400  # letters; CLIP reads 75 tokens
_BETWEEN_CLASSES, _BETWEEN_SYNONYMS = re.compile(r"[,\n]"), re.compile(r"[|,]")


@dataclass(frozen=True)
class TextClass:
    """One class.

    Attributes:
        shown: its displayed name.
        parts: what to look for: one part or several, each with its synonyms.
    """

    shown: str
    parts: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> Iterable[str]:
        """All names of all parts."""
        return (name for part in self.parts for name in part)


@dataclass(frozen=True)
class Vocabulary:
    """Classes in the order of their labels; a class has the best score of its names."""

    items: tuple[TextClass, ...]

    def __post_init__(self) -> None:
        if not self.items:
            raise ConfigError('no class is given; name one or more, as in "sky, wet sand, reed"')
        for name in self.names:
            _check_name(name)
        _refuse_twice(item.shown for item in self.items)

    @classmethod
    def parse(cls, text: str) -> "Vocabulary":
        """Parse classes separated by commas or new lines, with synonyms separated by bars.

        Raises:
            ConfigError: there are no classes, or a name is given twice, is too long, or is not
                text.
        """
        vocabulary = cls.of([item for item in _BETWEEN_CLASSES.split(text) if item.strip()])
        _refuse_twice(vocabulary.names)
        return vocabulary

    @classmethod
    def asked(cls, classes: "str | Sequence[Any] | Vocabulary") -> "Vocabulary":
        """What a user asks for: a text (see `parse`), a list (see `of`), or a vocabulary.

        All names of a text or a list are looked for, whatever TEST.SEMANTIC.SYNONYMS says about the
        class lists of data sets. A text that names a shipped list means that list. (Never a file:
        texts also come from web pages.)

        Raises:
            ConfigError: as `parse`, for a list too.
        """
        if isinstance(classes, Vocabulary):
            return classes
        if isinstance(classes, str) and (name := classes.strip()) in shipped_lists():
            vocabulary = cls.load(name)
            logger.info("classes %s: the %d of the list that ships", name, len(vocabulary))
            return vocabulary
        if isinstance(classes, str):
            vocabulary = cls.parse(classes)
        elif isinstance(classes, Sequence):
            vocabulary = cls.of(classes)
            _refuse_twice(vocabulary.names)
        else:
            raise ConfigError(f'classes is {brief(classes)}; give names, as in ["sky", "wet sand"]')
        # Each name is a separate part.
        return cls(
            tuple(
                TextClass(item.shown, tuple((name,) for name in item.names))
                for item in vocabulary.items
            )
        )

    @classmethod
    def of(cls, items: Sequence[Any]) -> "Vocabulary":
        """Classes of a list, see the top of this file.

        Raises:
            ConfigError: an item is of another kind, or a class is listed twice.
        """
        found = [_text_class(number, item) for number, item in enumerate(items, start=1)]
        counts = Counter(item.shown for item in found)
        # Lists of many synonyms have several classes whose first names are alike.
        unique = [
            item if counts[item.shown] == 1 else TextClass(", ".join(item.names), item.parts)
            for item in found
        ]
        return cls(tuple(unique))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """The class list of a JSON file, or of the shipped list of that name.

        Raises:
            ConfigError: there is no such file, or it holds no class list.
        """
        shipped = str(path) in shipped_lists()
        file = CLASS_LISTS / f"{path}.json" if shipped else Path(path)
        named_path(file, "class list", ConfigError)
        if not file.is_file():
            raise ConfigError(
                f"class list {brief(str(path))}: no such file; give the path of a JSON list of "
                f"names, or the name of one of those that ship: {', '.join(shipped_lists())}"
            )
        content = read_json(file, ConfigError)
        if not isinstance(content, list):
            raise ConfigError(f"class list {file}: must be a JSON list of names")
        try:
            return cls.of(content)
        except ConfigError as error:
            raise ConfigError(f"class list {file}: {error}") from error

    def __len__(self) -> int:
        return len(self.items)

    @property
    def classes(self) -> tuple[str, ...]:
        """The displayed name of each class."""
        return tuple(item.shown for item in self.items)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names to look for, class by class."""
        return tuple(name for item in self.items for name in item.names)

    @cached_property
    def class_of_name(self) -> tuple[int, ...]:
        """For each of `names`, the index of its class."""
        return tuple(i for i, item in enumerate(self.items) for _ in item.names)

    def first_names(self) -> "Vocabulary":
        """The same classes, looked for by first names alone, as CAT-Seg does."""
        firsts = [tuple(part[:1] for part in item.parts) for item in self.items]
        return Vocabulary(
            tuple(TextClass(item.shown, p) for item, p in zip(self.items, firsts, strict=True))
        )

    def first_of_each(self) -> tuple[str, ...]:
        """One name for each class, its first: what a training uses."""
        return tuple(item.parts[0][0] for item in self.items)

    def is_latin(self) -> bool:
        """Whether all letters are Latin: CLIP was trained on almost nothing else."""
        letters = (letter for name in self.names for letter in name if letter.isalpha())
        return all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


@cache
def shipped_lists() -> tuple[str, ...]:
    """Names of the shipped class lists."""
    return tuple(sorted(path.stem for path in CLASS_LISTS.glob("*.json")))


def _text_class(number: int, item: Any) -> TextClass:
    if isinstance(item, dict) and len(item) == 1:
        ((key, parts),) = item.items()
        if isinstance(parts, list) and parts:
            shown = _shown(number, item, key)
            return TextClass(shown, tuple(_synonyms(number, part) for part in parts))
    names = _synonyms(number, item)
    return TextClass(names[0], (names,))


def _shown(number: int, item: Any, key: Any) -> str:
    """Checks what a class with other search names is called: it must be valid as a name."""
    if not isinstance(key, str):
        raise ConfigError(f"class {number} is {brief(item)}; what it is called must be a text")
    if not (shown := _tidy(key)):
        raise ConfigError(f"class {number} ({brief(item)}) is called nothing; give it a name")
    _check_name(shown)
    return shown


def _synonyms(number: int, item: Any) -> tuple[str, ...]:
    parts = _BETWEEN_SYNONYMS.split(item) if isinstance(item, str) else item
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ConfigError(f"class {number} is {brief(item)}; it must be a name, or a list of names")
    names = tuple(_tidy(part) for part in parts)
    if not names or not all(names):
        raise ConfigError(f"class {number} ({brief(item)}) has an empty name")
    return names


def _tidy(name: str) -> str:
    return " ".join(name.split())


def _refuse_twice(names: Iterable[str]) -> None:
    # Accented letters may be written as one character or two, and look alike.
    counts = Counter(unicodedata.normalize("NFC", name.casefold()) for name in names)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ConfigError(f"the class {brief(twice[0])} is given twice; leave one out")


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"the class {brief(name)} has {len(name)} letters, and {_LONGEST_NAME} is the most; "
            "a few words say what is looked for"
        )
    if not name.isprintable():
        raise ConfigError(f"the class {name!r:.80} holds letters that cannot be printed")

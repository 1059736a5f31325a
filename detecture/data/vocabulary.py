"""What an open-vocabulary model is asked for: classes by name, of any number.

    Vocabulary.parse("sky|clouds, wet sand, reed")

has three classes and four names; what stands between bars means the same class. Class lists of data
sets are JSON: a list of such names, where a comma parts synonyms too, or of lists of synonyms.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detecture.errors import ConfigError, brief
from detecture.untrusted import read_json

MOST_NAMES = 4096
"""Names of a vocabulary; beyond it the text encoder alone takes minutes on a CPU."""

_BETWEEN_SYNONYMS = re.compile(r"[|,]")
_LONGEST_NAME = 400  # letters; CLIP reads 75 tokens
CLASS_LISTS = Path(__file__).with_name("class_lists")


@dataclass(frozen=True)
class Vocabulary:
    """Classes, and the names by which each is looked for.

    Attributes:
        synonyms: of each class its names, the first of which is shown. A class has the best score
            of its names, so that the background of PAS-20b is one with 39 names.
    """

    synonyms: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.synonyms or not all(self.synonyms):
            raise ConfigError('no class is given; name one or more, as in "sky, wet sand, reed"')
        for name in self.names:
            _check_name(name)
        counts = Counter(map(str.casefold, self.names))
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ConfigError(f"the class {brief(twice[0])} is given twice; leave one out")
        if len(self.names) > MOST_NAMES:
            raise ConfigError(
                f"{len(self.names):,} names are given, and {MOST_NAMES:,} is the most; ask for "
                "them in several parts"
            )

    @classmethod
    def parse(cls, text: str) -> "Vocabulary":
        """Classes between commas or new lines, synonyms between bars.

        Raises:
            ConfigError: there is none, one is given twice, is too long, or holds what is no text.
        """
        items = text.replace("\n", ",").split(",")
        return cls.of([item for item in items if item.strip()])

    @classmethod
    def of(cls, items: Sequence[str | Sequence[str]]) -> "Vocabulary":
        """Classes of a list: names with synonyms behind bars or commas, or lists of synonyms.

        Raises:
            ConfigError: see `parse`; or an item is neither.
        """
        return cls(tuple(_synonyms(number, item) for number, item in enumerate(items, start=1)))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """The class list of a JSON file, or of the shipped list of that name.

        Raises:
            ConfigError: there is no such file, or it holds no class list.
        """
        file = CLASS_LISTS / f"{path}.json"
        if not file.is_file():
            file = Path(path)
        if not file.is_file():
            shipped = ", ".join(sorted(p.stem for p in CLASS_LISTS.glob("*.json")))
            raise ConfigError(
                f"class list {str(path)!r}: no such file; give the path of a JSON list of names, "
                f"or one of those that ship: {shipped}"
            )
        content = read_json(file, ConfigError)
        if not isinstance(content, list):
            raise ConfigError(f"class list {file}: must be a JSON list of names")
        try:
            return cls.of(content)
        except ConfigError as error:
            raise ConfigError(f"class list {file}: {error}") from error

    def __len__(self) -> int:
        return len(self.synonyms)

    @property
    def classes(self) -> tuple[str, ...]:
        """What each class is called: its first name."""
        return tuple(names[0] for names in self.synonyms)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All that is looked for, class by class."""
        return tuple(name for names in self.synonyms for name in names)

    @cached_property
    def class_of_name(self) -> tuple[int, ...]:
        """For each of `names` the index of its class."""
        return tuple(i for i, names in enumerate(self.synonyms) for _ in names)

    def first_names(self) -> "Vocabulary":
        """The same classes, looked for by their first names alone, as CAT-Seg does."""
        return Vocabulary(tuple(names[:1] for names in self.synonyms))

    def is_latin(self) -> bool:
        """Whether all letters are Latin ones: CLIP has read next to nothing else."""
        letters = (letter for name in self.names for letter in name if letter.isalpha())
        return all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


def _synonyms(number: int, item: Any) -> tuple[str, ...]:
    parts = _BETWEEN_SYNONYMS.split(item) if isinstance(item, str) else item
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ConfigError(f"class {number} is {brief(item)}; it must be a name, or a list of names")
    names = tuple(" ".join(part.split()) for part in parts)
    if not names or not all(names):
        raise ConfigError(f"class {number} ({brief(item)}) has an empty name")
    return names


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"the class {brief(name)} has {len(name)} letters, and {_LONGEST_NAME} is the most; "
            "a few words say what is looked for"
        )
    if not name.isprintable():
        raise ConfigError(f"the class {name!r:.80} holds letters that cannot be printed")

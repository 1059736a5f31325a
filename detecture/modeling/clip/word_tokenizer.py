"""A tokenizer of words, for a small text encoder; what it does not know it spells in three letters.

Its json file: `{"buckets": 1024, "words": ["bricks", ..]}`. A word of the list is one token; so is
one that differs from it by a plural. Any other word is the sequence of its groups of three letters,
each one of `buckets` tokens by a hash, so that words which are spelt alike look alike, and any text
of any script is accepted.

Legend: T texts, A tokens of a text.
"""

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detecture.errors import ConfigError, brief
from detecture.untrusted import named_path, read_json

_WORD = re.compile(r"[^\W_]+")
_GROUP = 3  # letters
_MOST_GROUPS = 8  # of a word
_PADDING, _START, _FIRST_BUCKET = 0, 1, 2


@dataclass(frozen=True)
class WordTokenizer:
    """Words to token ids.

    Attributes:
        words: that are one token each, lower-case.
        buckets: tokens that all other words are spelt in.
    """

    words: tuple[str, ...]
    buckets: int

    @classmethod
    def load(cls, file: Path, key: str) -> "WordTokenizer":
        """That of a json file.

        Args:
            file: see the top of this file.
            key: of the config that names it, for errors.

        Raises:
            ConfigError: there is no such file, or it is none of a tokenizer.
        """
        if not named_path(file, key, ConfigError).is_file():
            raise ConfigError(f"{key} {brief(str(file))}: is neither `clip` nor a json file")
        content = read_json(file, ConfigError)
        words, buckets = _checked(content) or ((), 0)
        if not words:
            raise ConfigError(
                f"{key} {file}: is no word tokenizer; it must hold buckets, a number from 1 on, "
                "and words, a list of different words"
            )
        return cls(words, buckets)

    @property
    def size(self) -> int:
        """Number of tokens: what the text encoder's `vocab_size` must be at least."""
        return _FIRST_BUCKET + self.buckets + len(self.words) + 1

    @property
    def end(self) -> int:
        """The end token, the greatest id: where the encoder reads a text."""
        return self.size - 1

    def __call__(self, texts: Sequence[str], most: int) -> Tensor:
        """Token ids, as of `tokenizer.tokenize`.

        Args:
            texts: T of them, one at least.
            most: tokens that the encoder takes, the two end tokens included.

        Returns:
            int64 (T,A), A the length of the longest; zeros behind each end token.

        Raises:
            ConfigError: a text has more than `most` tokens; names it.
        """
        rows = [[_START, *self._ids(text), self.end] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > most:
                raise ConfigError(
                    f"{brief(text)} has {len(row)} tokens, and the text encoder reads {most}; "
                    "shorten it"
                )
        longest = max(map(len, rows))
        return torch.tensor([row + [_PADDING] * (longest - len(row)) for row in rows])

    def _ids(self, text: str) -> list[int]:
        plain = unicodedata.normalize("NFKC", text).lower()
        # A text without a letter or digit is read sign by sign.
        words = _WORD.findall(plain) or plain.split()
        return [number for word in words for number in self._of_word(word)]

    def _of_word(self, word: str) -> list[int]:
        for form in (word, word.removesuffix("s"), word.removesuffix("es"), f"{word}s"):
            if form in self._numbers:
                return [self._numbers[form]]
        marked = f"<{word}>"
        groups = [marked[i : i + _GROUP] for i in range(max(len(marked) - _GROUP + 1, 1))]
        return [
            _FIRST_BUCKET + zlib.crc32(group.encode()) % self.buckets
            for group in groups[:_MOST_GROUPS]
        ]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        first = _FIRST_BUCKET + self.buckets
        return {word: first + number for number, word in enumerate(self.words)}


def _checked(content: Any) -> tuple[tuple[str, ...], int] | None:
    """Words and buckets of a file's content; None where it is of something else."""
    if not isinstance(content, dict):
        return None
    words, buckets = content.get("words"), content.get("buckets")
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        return None
    if not isinstance(buckets, int) or isinstance(buckets, bool) or buckets < 1:
        return None
    return (tuple(words), buckets) if len(set(words)) == len(words) else None

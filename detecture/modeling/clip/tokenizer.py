"""The tokenizers: that of CLIP, from the vocabulary that ships here, and one of words.

Legend: T texts, A tokens of a text.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from detecture.checkpoint.shipped import locate
from detecture.errors import ConfigError, brief
from detecture.modeling.clip.word_tokenizer import WordTokenizer

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

Tokenize = Callable[[Sequence[str]], Tensor]
"""Texts to token ids (T,A) int64, zeros behind the end token."""

_FILE = Path(__file__).resolve().parents[2] / "assets" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2
_START, _END = "<|startoftext|>", "<|endoftext|>"


@cache
def clip_tokenizer() -> CLIPTokenizer:
    """OpenAI's byte-pair encoding: 49,408 tokens."""
    from transformers import CLIPTokenizer

    lines = gzip.decompress(_FILE.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : _MERGES + 1]]
    letters = list(_letters())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(m) for m in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, _START, _END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges)


def tokenize(texts: Sequence[str], most: int) -> Tensor:
    """Token ids of texts, cut to the longest of them: CLIP reads a text at its end token.

    Args:
        texts: T of them, one at least.
        most: tokens that the encoder takes, the two end tokens included.

    Returns:
        int64 (T,A), A the length of the longest; zeros behind each end token.

    Raises:
        ConfigError: a text has more than `most` tokens; names it.
    """
    rows: list[list[int]] = clip_tokenizer()(list(texts))["input_ids"]
    for text, row in zip(texts, rows, strict=True):
        if len(row) > most:
            raise ConfigError(
                f"{brief(text)} has {len(row)} tokens, and CLIP reads {most}; shorten it"
            )
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def _letters() -> str:
    """A printable letter for each byte, in the order of OpenAI's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return "".join(map(chr, printable)) + "".join(chr(256 + n) for n in range(len(others)))


def build_tokenizer(name: str, most: int, size: int) -> Tokenize:
    """The tokenizer of MODEL.CLIP.TOKENIZER, cutting to the longest of the texts it is given.

    Args:
        name: `clip`, or a json file of `WordTokenizer`; a shipped one: `detecture://NAME.json`.
        most: tokens of a text that the encoder takes.
        size: different tokens that it knows.

    Raises:
        ConfigError: there is no such file, it is none of a tokenizer, or it has more tokens.
    """
    if name == "clip":
        return lambda texts: tokenize(texts, most)
    words = WordTokenizer.load(locate(name), "MODEL.CLIP.TOKENIZER")
    if words.size > size:
        raise ConfigError(
            f"MODEL.CLIP.TOKENIZER {name}: has {words.size} tokens, and the text encoder of "
            f"MODEL.CLIP.CONFIG knows {size}; set vocab_size of its text_config"
        )
    return lambda texts: words(texts, most)

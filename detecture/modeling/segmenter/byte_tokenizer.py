"""A tokenizer for text encoders with random weights: it needs no file and means nothing.

Legend: N phrases, T tokens.
"""

import torch
from torch import Tensor

_START = 0


class ByteTokenizer:
    """Turns a phrase into the numbers of its UTF-8 bytes, folded into the vocabulary.

    Only for random weights, whose answers mean nothing either: weights that were trained need the
    tokenizer that they were trained with. The same phrase always gives the same tokens, and other
    phrases give others, as far as the vocabulary has room.
    """

    def __init__(self, vocab_size: int, context_length: int) -> None:
        """Set the limits.

        Args:
            vocab_size: number of tokens that the text encoder knows.
            context_length: most tokens of a phrase, its start token included; the rest is cut off.
        """
        self.vocab_size = vocab_size
        self.context_length = context_length

    def __call__(self, phrases: list[str]) -> tuple[Tensor, Tensor]:
        """N phrases to int64 token ids (N,T) and a bool mask (N,T), True on real tokens."""
        ids_NT = torch.zeros(len(phrases), self.context_length, dtype=torch.int64)
        mask_NT = torch.zeros_like(ids_NT, dtype=torch.bool)
        for row, phrase in enumerate(phrases):
            ids = [_START, *phrase.encode()][: self.context_length]
            ids_NT[row, : len(ids)] = torch.tensor(ids) % self.vocab_size
            mask_NT[row, : len(ids)] = True
        return ids_NT, mask_NT

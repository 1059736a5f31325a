"""What goes into and comes out of a VLM.

Legend: B images, V visual tokens, P prompt tokens, A answer tokens, K regions, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class VisionFeatures:
    """Images as the language model takes them.

    Attributes:
        tokens_BVD: visual tokens.
        deepstack: further ones of the same shape, added behind the first text layers.
        grid_B3: patches in time, height and width, int64.
    """

    tokens_BVD: Tensor
    deepstack: tuple[Tensor, ...]
    grid_B3: Tensor

    def as_encoder_output(self) -> dict[str, Any]:
        """In the form in which transformers takes visual features that are there already."""
        from transformers.models.qwen3_vl.modeling_qwen3_vl import (
            BaseModelOutputWithDeepstackFeatures,
        )

        output = BaseModelOutputWithDeepstackFeatures(
            pooler_output=tuple(self.tokens_BVD),
            deepstack_features=[tuple(level) for level in self.deepstack],
        )
        return {"image": output}

    def state(self) -> dict[str, Tensor]:
        """As a plain dict: `tokens` and each `deepstack_*` (B,V,D), `grid` (B,3)."""
        deepstack = {f"deepstack_{i}": level for i, level in enumerate(self.deepstack)}
        return {"tokens": self.tokens_BVD, "grid": self.grid_B3, **deepstack}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "VisionFeatures":
        """From what `state` gave, (B,V,D) and (B,3)."""
        levels = tuple(state[f"deepstack_{i}"] for i in range(len(state) - 2))
        return cls(state["tokens"], levels, state["grid"])


@dataclass(frozen=True)
class Prefix:
    """Prompts of a batch, padded on the left: all that stands before the answer.

    Attributes:
        ids_BP: token ids.
        valid_BP: bool, False on padding.
        positions_3BP: rotary positions in time, height and width.
        start_B: position of the first answer token, the same on all three axes.
        vision: the images.
        hint_BD: for each a vector that is added to all its text embeddings, also those of the
            answer; or None.
    """

    ids_BP: Tensor
    valid_BP: Tensor
    positions_3BP: Tensor
    start_B: Tensor
    vision: VisionFeatures
    hint_BD: Tensor | None = None

    def answer_positions(self, length: int) -> Tensor:
        """Rotary positions (3,B,A) of A = `length` tokens behind the prompt."""
        steps = torch.arange(length, device=self.start_B.device)
        return (self.start_B[:, None] + steps).expand(3, -1, -1)


@dataclass(frozen=True)
class TeacherForced:
    """What the model makes of given answers.

    Attributes:
        ids_BA: answer tokens, padded on the right.
        valid_BA: bool, False on padding.
        states_BKD: last hidden states at the `<|seg|>` tokens; rows past the count are meaningless.
        count_B: number of regions.
        predictions_BAD: the state that each answer token is predicted from, or None.
    """

    ids_BA: Tensor
    valid_BA: Tensor
    states_BKD: Tensor
    count_B: Tensor
    predictions_BAD: Tensor | None


@dataclass(frozen=True)
class Generated:
    """What the model wrote.

    Attributes:
        states_BKD: last hidden states at the `<|seg|>` tokens; rows past the count are meaningless.
        count_B: number of regions.
        descriptions: for each image one text per region.
        texts: for each image all that was written, special tokens included.
        cut_off: for each image whether the limit of tokens ended it.
    """

    states_BKD: Tensor
    count_B: Tensor
    descriptions: list[list[str]]
    texts: list[str]
    cut_off: list[bool]


def pad(
    rows: Sequence[Sequence[int]], pad_id: int, *, left: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids of different lengths as one tensor.

    Returns:
        ids (B,L) int64 and bool (B,L), False on padding.
    """
    length = max(len(row) for row in rows)
    ids, valid = [], []
    for row in rows:
        gap = [pad_id] * (length - len(row))
        marks, blanks = [True] * len(row), [False] * len(gap)
        ids.append([*gap, *row] if left else [*row, *gap])
        valid.append([*blanks, *marks] if left else [*marks, *blanks])
    shape = (len(rows), length)
    return (
        torch.tensor(ids, dtype=torch.int64, device=device).reshape(shape),
        torch.tensor(valid, dtype=torch.bool, device=device).reshape(shape),
    )

"""The two rows of `<|seg|>`, as parameters of their own beside the frozen tables.

Freeing whole tables behind a gradient mask, as published, keeps gigabytes of gradients and moments
for two rows; weight decay then shrinks all others, unless they are in bfloat16, which rounds it
away. peft's `trainable_token_indices` copies the tables at every call. Both wrappers here give the
results of tables that hold the rows.
"""

import torch
from torch import Tensor, nn

from detecture.modeling.vlm.hint import current_hint


class _WithRow(nn.Module):
    """A table beside which the row `seg_id` is a parameter of its own."""

    def __init__(self, base: nn.Embedding | nn.Linear, seg_id: int) -> None:
        super().__init__()
        self.base = base
        self.seg_id = seg_id
        # Trained parameters are in single precision at least, whatever the frozen table is.
        row = base.weight.detach()[seg_id]
        dtype = torch.promote_types(row.dtype, torch.float32)
        self.row = nn.Parameter(row.to(dtype).clone())

    @property
    def weight(self) -> Tensor:
        """The base table (V,D); its row `seg_id` is not used."""
        return self.base.weight


class SegEmbedding(_WithRow):
    """An embedding whose row `seg_id` is a parameter of its own."""

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids of any shape, inside of `hinted` (B,L), to vectors (..,D)."""
        vectors: Tensor = self.base(ids)
        vectors = torch.where((ids == self.seg_id)[..., None], self.row.to(vectors.dtype), vectors)
        hint_BD = current_hint()
        return vectors if hint_BD is None else vectors + hint_BD[:, None].to(vectors.dtype)


class SegHead(_WithRow):
    """An output projection whose row `seg_id` is a parameter of its own."""

    def forward(self, states: Tensor) -> Tensor:
        """States (..,D) to logits (..,V)."""
        logits: Tensor = self.base(states)
        own = states @ self.row.to(states.dtype)
        index = torch.full((1,), self.seg_id, device=logits.device)
        return logits.index_copy(-1, index, own[..., None].to(logits.dtype))

"""Blocks of an answer and who may attend to whom (specification of the model, sections 4 and 5).

Everything here looks at the answer alone: the ids from the first assistant token on. The prompt
holds a literal seg token of its own (its format example), so the caller cuts it off first.

Legend: B answers, A tokens of the longest answer, P prefix tokens, K regions, C copies of the
answer, Q query tokens, L tokens of any sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from detecture.data.prompts import require_stop_mode
from detecture.errors import ConfigError

ATTENTION_KINDS = ("block_diagonal", "causal")
QUERY_KINDS = ("all", "answer")

NO_BLOCK = 0
"""`RegionBlocks.block_BA` of a token that sees everything before it and that no block sees."""

PADDING = -1
"""`RegionBlocks.block_BA` behind the end of an answer."""


@dataclass(frozen=True)
class RegionBlocks:
    """Which block each token of an answer belongs to, and where the seg tokens are."""

    block_BA: torch.Tensor
    """int64; k >= 1: block k, up to and including the k-th seg; `NO_BLOCK`; `PADDING`."""
    seg_position_BK: torch.Tensor
    """int64 position of the k-th seg within the answer, 0 where there is none."""
    seg_valid_BK: torch.Tensor
    """bool, whether there is a k-th seg; K is `max_regions`, whatever the answers hold."""
    count_B: torch.Tensor
    """int64 number of seg tokens, at most `max_regions`."""


def region_blocks(
    ids_BA: torch.Tensor,
    valid_BA: torch.Tensor,
    seg_id: int,
    stop_supervision: str,
    max_regions: int = 6,
) -> RegionBlocks:
    """Divide answers into one block for each region.

    Block k is what stands behind seg_{k-1} (or, for k = 1, at the start) up to and including
    seg_k. Tokens behind the last seg belong to no block. So does, with `newline`, the one token
    directly behind every seg, unless that token is a seg itself (a seg always ends its own block);
    with `released` it is the head of the next block.

    Args:
        ids_BA: (B,A) integer ids of the answers, right-padded; A may be 0.
        valid_BA: (B,A) bool, False on padding.
        seg_id: id of the seg token.
        stop_supervision: `released` or `newline`.
        max_regions: what follows the seg of this number is treated as text behind the last seg.

    Raises:
        ConfigError: an unknown `stop_supervision`.
        ValueError: the shapes differ, `valid_BA` is not bool or `max_regions` is below 1.
    """
    require_stop_mode(stop_supervision)
    is_seg_BA = find_seg(ids_BA, valid_BA, seg_id)
    if max_regions < 1:
        raise ValueError(f"max_regions must be at least 1, got {max_regions}")
    rank_BA = is_seg_BA.cumsum(dim=1)
    count_B = is_seg_BA.sum(dim=1).clamp(max=max_regions)
    block_BA = rank_BA - is_seg_BA.long() + 1
    outside_BA = block_BA > count_B[:, None]
    if stop_supervision == "newline":
        outside_BA = outside_BA | (behind(is_seg_BA) & ~is_seg_BA)
    block_BA = block_BA.masked_fill(outside_BA, NO_BLOCK).masked_fill(~valid_BA, PADDING)

    # One column more than needed takes what is no seg, or a seg too many.
    kept_BA = is_seg_BA & (rank_BA <= max_regions)
    column_BA = torch.where(kept_BA, rank_BA - 1, max_regions)
    index_BA = torch.arange(ids_BA.shape[1], device=ids_BA.device).expand_as(column_BA)
    position_BK = index_BA.new_zeros(len(ids_BA), max_regions + 1)
    position_BK = position_BK.scatter(1, column_BA, index_BA)[:, :max_regions]
    number_K = torch.arange(max_regions, device=ids_BA.device)
    return RegionBlocks(block_BA, position_BK, number_K < count_B[:, None], count_B)


def answer_attention(blocks: RegionBlocks, kind: str) -> torch.Tensor:
    """Who sees whom within an answer.

    With `block_diagonal` the tokens of a block see their own block causally and nothing else, and
    tokens of no block see everything before them; with `causal` every token sees everything before
    it. Padding sees only itself, so that no row is fully masked, and nothing else sees padding.

    Args:
        blocks: of B answers with A tokens.
        kind: `block_diagonal` or `causal`.

    Returns:
        (B,A,A) bool, [b, i, j]: token i (query) may see token j (key).

    Raises:
        ConfigError: an unknown `kind`.
    """
    if kind not in ATTENTION_KINDS:
        raise ConfigError(f"attention {kind!r}: use one of {', '.join(ATTENTION_KINDS)}")
    block_BA = blocks.block_BA
    valid_BA = block_BA != PADDING
    seen_BAA = valid_BA[:, :, None] & valid_BA[:, None, :]
    if kind == "block_diagonal":
        same_BAA = block_BA[:, :, None] == block_BA[:, None, :]
        seen_BAA = seen_BAA & (same_BAA | (block_BA == NO_BLOCK)[:, :, None])
    return _causal_and_self(seen_BAA)


def additive_mask(
    prefix_valid_BP: torch.Tensor,
    answer_masks: Sequence[torch.Tensor],
    dtype: torch.dtype,
    query: str = "all",
) -> torch.Tensor:
    """The mask of a sequence [prefix | copy 1 of the answer | copy 2 of the answer | ...].

    The prefix is causal over its valid tokens; its padding sees only itself. Each copy sees the
    whole valid prefix, and itself by its own mask, and no other copy. With one copy this is the
    mask of the plain second pass. Additive and finite, because boolean masks are silently wrong
    with eager attention and -inf gives NaN with left padding (library-facts).

    Args:
        prefix_valid_BP: (B,P) bool, False on padding (on the left where prefixes differ in length).
        answer_masks: one (B,A,A) bool for each of the C copies, from `answer_attention`. (Padding
            behind an answer sees the prefix and itself here; nothing sees it.)
        dtype: a floating type; masked places hold its lowest finite value, the others 0.
        query: `all` rows, Q = P + C*A, or those of the `answer` copies, Q = C*A, for use with the
            cached keys and values of the prefix.

    Returns:
        (B,1,Q,P+C*A) of `dtype`.

    Raises:
        ConfigError: an unknown `query`.
        ValueError: no answer mask, shapes that do not go together, or a type that is not floating.
    """
    if query not in QUERY_KINDS:
        raise ConfigError(f"mask rows {query!r}: use one of {', '.join(QUERY_KINDS)}")
    if not dtype.is_floating_point:
        raise ValueError(f"an additive mask needs a floating type, got {dtype}")
    _check_masks(prefix_valid_BP, answer_masks)
    batch, prefix_len = prefix_valid_BP.shape
    copies, answer_len = len(answer_masks), answer_masks[0].shape[-1]
    packed_len = copies * answer_len

    # Row (copy, token) against column (copy, token): a copy meets itself on the diagonal only.
    own_BCAA = torch.stack(tuple(answer_masks), dim=1)
    same_copy_CC = torch.eye(copies, dtype=torch.bool, device=prefix_valid_BP.device)
    packed_BCACA = own_BCAA[:, :, :, None, :] & same_copy_CC[None, :, None, :, None]
    packed_BQQ = packed_BCACA.reshape(batch, packed_len, packed_len)
    to_prefix_BQP = prefix_valid_BP[:, None, :].expand(batch, packed_len, prefix_len)
    allowed_BQL = torch.cat([to_prefix_BQP, packed_BQQ], dim=2)
    if query == "all":
        both_BPP = prefix_valid_BP[:, :, None] & prefix_valid_BP[:, None, :]
        prefix_BPL = torch.nn.functional.pad(_causal_and_self(both_BPP), (0, packed_len))
        allowed_BQL = torch.cat([prefix_BPL, allowed_BQL], dim=1)
    mask_BQL = torch.zeros(allowed_BQL.shape, dtype=dtype, device=allowed_BQL.device)
    return mask_BQL.masked_fill(~allowed_BQL, torch.finfo(dtype).min)[:, None]


def find_seg(ids_BA: torch.Tensor, valid_BA: torch.Tensor, seg_id: int) -> torch.Tensor:
    """(B,A) bool: which tokens of the answers are the seg token.

    Raises:
        ValueError: the shapes are not (B,A), or `valid_BA` is not bool.
    """
    if ids_BA.ndim != 2 or ids_BA.shape != valid_BA.shape or valid_BA.dtype != torch.bool:
        raise ValueError(
            f"ids {tuple(ids_BA.shape)} and valid {tuple(valid_BA.shape)} {valid_BA.dtype}: both "
            "must be (B,A), and valid bool"
        )
    return (ids_BA == seg_id) & valid_BA


def behind(marked_BA: torch.Tensor, distance: int = 1) -> torch.Tensor:
    """(B,A) bool: which tokens stand exactly `distance` behind a marked one."""
    # Cut first: padding a negative width away would fail on answers shorter than the distance.
    kept_BA = marked_BA[:, : max(marked_BA.shape[1] - distance, 0)]
    return torch.nn.functional.pad(kept_BA, (marked_BA.shape[1] - kept_BA.shape[1], 0))


def _causal_and_self(seen_BLL: torch.Tensor) -> torch.Tensor:
    """Take the future out, and add the diagonal, so that no row is empty: bool (B,L,L)."""
    length = seen_BLL.shape[-1]
    ones_LL = torch.ones(length, length, dtype=torch.bool, device=seen_BLL.device)
    diagonal_LL = torch.eye(length, dtype=torch.bool, device=seen_BLL.device)
    return (seen_BLL & ones_LL.tril()) | diagonal_LL


def _check_masks(prefix_valid_BP: torch.Tensor, answer_masks: Sequence[torch.Tensor]) -> None:
    """Refuse prefixes and answer masks that are not bool (B,P) and (B,A,A).

    Raises:
        ValueError: they are not, or there is no mask.
    """
    if not answer_masks:
        raise ValueError("a mask needs at least one answer mask, got none")
    shapes = [tuple(mask.shape) for mask in answer_masks]
    square = len(shapes[0]) == 3 and shapes[0][1] == shapes[0][2]
    if not square or set(shapes) != {shapes[0]}:
        raise ValueError(f"answer masks must all be of one shape (B,A,A), got {shapes}")
    if prefix_valid_BP.ndim != 2 or len(prefix_valid_BP) != shapes[0][0]:
        raise ValueError(
            f"prefix {tuple(prefix_valid_BP.shape)} must be (B,P) with the B of the answer masks, "
            f"{shapes[0]}"
        )
    types = {str(tensor.dtype) for tensor in (prefix_valid_BP, *answer_masks)}
    if types != {"torch.bool"}:
        raise ValueError(f"prefix and answer masks must be bool, got {', '.join(sorted(types))}")

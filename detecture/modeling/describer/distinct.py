"""A second way to put it: another likely answer, where the first one will not do.

Legend: A answer tokens, V vocabulary, B images.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from detecture.modeling.vlm.qwen3vl import Qwen3VL
from detecture.modeling.vlm.types import Prefix, VisionFeatures

ATTEMPTS = 10


@torch.no_grad()
def other_answer(
    vlm: Qwen3VL, prefix: Prefix, answer: list[int], will_do: Callable[[list[int]], bool]
) -> list[int]:
    """The answer that leaves a greedy one where the VLM was least sure, and goes on greedily.

    Args:
        vlm: has written `answer`.
        prefix: prompt of the one image.
        answer: token ids.
        will_do: whether another answer, token ids, is wanted.

    Returns:
        Token ids; `answer` itself, where none of the `ATTEMPTS` least sure places gives a new one.
    """
    for start in _second_choices(vlm, prefix, answer):
        ids_1A = torch.tensor([start], device=prefix.ids_BP.device)
        (rest,) = vlm.write(_behind(prefix, ids_1A), vlm.new_cache())
        found = start + rest
        if vlm.chat.end_id in found and will_do(found):
            return found
    return answer


def prefix_of(prefix: Prefix, index: int) -> Prefix:
    """The prompt of one image of a batch."""
    row = slice(index, index + 1)
    vision = prefix.vision
    return Prefix(
        prefix.ids_BP[row],
        prefix.valid_BP[row],
        prefix.positions_3BP[:, row],
        prefix.start_B[row],
        VisionFeatures(
            vision.tokens_BVD[row],
            tuple(level[row] for level in vision.deepstack),
            vision.grid_B3[row],
        ),
        None if prefix.hint_BD is None else prefix.hint_BD[row],
    )


def _second_choices(vlm: Qwen3VL, prefix: Prefix, answer: list[int]) -> Iterator[list[int]]:
    """Beginnings of the answer, each with the second-best token at its end; least sure first."""
    forced = vlm.teacher_forced(prefix, [answer], predictions=True)
    if forced.predictions_BAD is None:
        raise RuntimeError("the VLM gave no states to predict tokens from")
    logits_AV = vlm.logits(forced.predictions_BAD[0]).float()
    written_A1 = torch.tensor(answer, device=logits_AV.device)[:, None]
    written = logits_AV.gather(1, written_A1)[:, 0]
    # An answer that ends early says less, and is no second way to put it.
    logits_AV = logits_AV.scatter(1, written_A1, -torch.inf)
    logits_AV[:, vlm.chat.end_id] = -torch.inf
    second = logits_AV.max(dim=1)
    for position in (written - second.values).argsort().tolist()[:ATTEMPTS]:
        if answer[position] != vlm.chat.end_id:  # the sentence is said, nothing else can follow
            yield [*answer[:position], int(second.indices[position])]


def _behind(prefix: Prefix, ids_BA: Tensor) -> Prefix:
    """A prompt that already holds the beginning of its answer."""
    length = ids_BA.shape[1]
    return replace(
        prefix,
        ids_BP=torch.cat([prefix.ids_BP, ids_BA], dim=1),
        valid_BP=torch.cat([prefix.valid_BP, torch.ones_like(ids_BA, dtype=torch.bool)], dim=1),
        positions_3BP=torch.cat([prefix.positions_3BP, prefix.answer_positions(length)], dim=2),
        start_B=prefix.start_B + length,
    )

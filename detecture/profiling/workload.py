"""The same work for every side of a comparison: images, prompts and answers of fixed length.

A VLM with random weights never writes `<|seg|>`. So the answer is given: at every step the model
computes its logits, and the given token is used instead of their maximum.

Legend: B images, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detecture.errors import ConfigError
from detecture.modeling.bridge.parts import DetectureBatch
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.types import pad

_FILLER = " stone"


def pad_prompt(vlm: Qwen3VL, tokens: int) -> int:
    """Lengthen the user text until a prompt has about `tokens` tokens besides its visual ones.

    Real tokenizers and prompts differ in length; the work must not. Changes `vlm` in place.

    Returns:
        The number of tokens now: at most a word fewer than asked for, or more than asked for where
        the wording alone is longer.
    """
    words = len(vlm.chat.ids(_FILLER))
    missing = tokens - len(vlm.chat.prompt_ids("2", 0))
    if missing >= words:
        user = vlm.chat.prompts.user + _FILLER * (missing // words)
        vlm.chat.prompts = replace(vlm.chat.prompts, user=user)
    return len(vlm.chat.prompt_ids("2", 0))


def fixed_answer(vlm: Qwen3VL, regions: int, tokens_per_region: int) -> list[int]:
    """An answer with lines of exactly `tokens_per_region` tokens, and the end token.

    Raises:
        ConfigError: the answer would be cut off, or a line is too short for its label.
    """
    ids: list[int] = []
    filler = vlm.chat.ids(_FILLER)
    newline = [vlm.chat.newline_id]
    ending = [vlm.chat.seg_id, *(newline if vlm.chat.stop_supervision == "newline" else [])]
    for number in range(1, regions + 1):
        label = f"TEXTURE_{number}: Texture of"
        line = vlm.chat.ids(label)
        room = tokens_per_region - len(line) - len(ending)
        if room < 0:
            raise ConfigError(
                f"{tokens_per_region} tokens a region are too few: the label alone takes "
                f"{len(line) + len(ending)}; give more"
            )
        ids += line + (filler * (room + 1))[:room] + ending
    ids.append(vlm.chat.end_id)
    if regions > vlm.max_regions or len(ids) > vlm.max_new_tokens:
        raise ConfigError(
            f"an answer of {regions} regions and {len(ids)} tokens would be cut off; set "
            f"MODEL.MAX_REGIONS and MODEL.VLM.MAX_NEW_TOKENS to at least these numbers"
        )
    return ids


def samples(
    model: Detecture, batch_size: int, regions: int, tokens_per_region: int, size: int
) -> DetectureBatch:
    """Mapped dicts with noise as images, bands as regions, and their answers.

    Args:
        model: for its tokenizer and wording.
        batch_size: number of images, all different.
        regions: K of each.
        tokens_per_region: length of a line of the answer.
        size: side of the square images in pixels.

    Raises:
        ConfigError: see `fixed_answer`.
    """
    answer = fixed_answer(model.vlm, regions, tokens_per_region)
    # A part of the image belongs to no region.
    bands_W = torch.arange(size) * (regions + 1) // size
    generator = torch.Generator().manual_seed(0)
    texts = [f"stone {number}" for number in range(regions)]
    mapped = [
        {
            "image": torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator),
            "image_id": f"noise_{index}",
            "file_name": f"noise_{index}",
            "height": size,
            "width": size,
            "sem_seg": bands_W.expand(size, size).contiguous(),
            "descriptions": texts,
        }
        for index in range(batch_size)
    ]
    return DetectureBatch(mapped, [texts] * batch_size, [list(answer)] * batch_size)


class _Forced:
    """Lifts the given token of each step above all others in the logits of the output layer."""

    def __init__(
        self, vlm: Qwen3VL, answers: Sequence[Sequence[int]], on_first: Callable[[], None]
    ) -> None:
        ids_BA, _ = pad(answers, vlm.chat.pad_id, left=False, device=vlm.device)
        self._ids_BA = ids_BA
        self._on_first = on_first
        self.calls = 0

    def __call__(self, module: nn.Module, inputs: Any, logits_BV: Tensor) -> Tensor:
        """The logits (B,V) of one step, those of the given tokens above all others."""
        if self.calls == 0:
            self._on_first()
        wanted_B1 = self._ids_BA[:, self.calls : self.calls + 1]
        self.calls += 1
        return logits_BV.scatter(-1, wanted_B1, torch.finfo(logits_BV.dtype).max)


@contextmanager
def forced_answers(
    vlm: Qwen3VL, answers: Sequence[Sequence[int]], on_first: Callable[[], None]
) -> Iterator[_Forced]:
    """Inside, `vlm.write` writes these answers; every step is computed as usual.

    Args:
        vlm: the model.
        answers: token ids of each image, the end token included.
        on_first: called once, when the logits of the first token are there.
    """
    forced = _Forced(vlm, answers, on_first)
    handle = vlm.model.lm_head.register_forward_hook(forced)
    try:
        yield forced
    finally:
        handle.remove()

"""Questions in free words to a VLM that was not trained here.

Legend as in qwen3vl.py.
"""

from collections.abc import Sequence

import torch

from detecture.modeling.vlm.prefix import prefix_of_prompts
from detecture.modeling.vlm.qwen3vl import Qwen3VL
from detecture.modeling.vlm.types import VisionFeatures


@torch.no_grad()
def ask(vlm: Qwen3VL, vision: VisionFeatures, system: str, questions: Sequence[str]) -> list[str]:
    """One question about each image, answered greedily.

    The VLM belongs built with `seg_rows=None`: a row for `<|seg|>` that was not trained starts as a
    copy of the end token's, and would compete with it.

    Args:
        vlm: answers, in at most its `max_new_tokens`.
        vision: the images, from `vlm.encode_images`.
        system: system text.
        questions: for each image the user text behind it.

    Returns:
        B answers, without special tokens.
    """
    chat, visual_tokens = vlm.chat, vision.tokens_BVD.shape[1]
    rows = [chat.question_ids(system, question, visual_tokens) for question in questions]
    prefix = prefix_of_prompts(vlm.model, chat, vision, rows)
    answers = vlm.write(prefix, vlm.new_cache())
    # The end of a text ends an answer too, for a model that nobody taught otherwise.
    cut = [row[: row.index(chat.pad_id)] if chat.pad_id in row else row for row in answers]
    return [chat.tokenizer.decode(row, skip_special_tokens=True) for row in cut]

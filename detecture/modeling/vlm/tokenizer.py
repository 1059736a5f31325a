"""The project's small tokenizer: the chat markup of Qwen3-VL over a small vocabulary.

Models with random weights use it, and the small shipped one. Byte-level pairs, as in Qwen's own:
any text can be written, what the training sentences say takes few tokens. It lies in
`detecture/assets/tokenizer`; `python -m detecture.modeling.vlm.tokenizer` makes it anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

ASSET = Path(__file__).parents[2] / "assets" / "tokenizer"

END_OF_TEXT = "<|endoftext|>"
MESSAGE_START = "<|im_start|>"
MESSAGE_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE = "<|image_pad|>"
VIDEO = "<|video_pad|>"
_SPECIAL = (END_OF_TEXT, MESSAGE_START, MESSAGE_END, VISION_START, VISION_END, IMAGE, VIDEO)

# How text is cut before pairs are merged: contractions, words with the blank before them, single
# digits, marks, runs of line breaks. Numbers by digits and line breaks by themselves matter here:
# the label TEXTURE_12 and the end of a line must not melt into their neighbours.
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """Learn byte-level pairs from texts.

    Args:
        texts: what the vocabulary is made for.
        vocab_size: number of tokens, the 256 bytes and the special ones included.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=END_OF_TEXT,
        eos_token=MESSAGE_END,
        additional_special_tokens=list(_SPECIAL[1:]),
    )


def small_tokenizer() -> PreTrainedTokenizerFast:
    """The shipped one."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(ASSET)


def add_seg_token(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Make `token` a special token, if it is none yet (in place); returns its id."""
    if token not in tokenizer.all_special_tokens:
        # Through this list, not add_tokens: only then does all_special_ids know it.
        kept = [t for t in tokenizer.all_special_tokens if t not in (tokenizer.pad_token,)]
        tokenizer.add_special_tokens({"additional_special_tokens": [*kept, token]})
    seg_id: int = tokenizer.convert_tokens_to_ids(token)
    return seg_id


def vocabulary_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of all tokens and their ids, 16 hexadecimal digits; adapters carry it."""
    lines = sorted(f"{index} {token}" for token, index in tokenizer.get_vocab().items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _training_texts(scenes: int = 3000) -> list[str]:
    """Sentences of procedural scenes and the project's prompts."""
    from detecture.data.prompts import DEFAULT_PROMPTS, TINY_PROMPTS
    from detecture.data.synthetic import LEAST_SIZE, render_scene

    # A seed of its own: the vocabulary owes nothing to the images that models are scored on.
    texts = [
        f"TEXTURE_{number}: {text}\n"
        for index in range(scenes)
        for number, text in enumerate(render_scene(4, index, LEAST_SIZE).descriptions, 1)
    ]
    for prompts in (DEFAULT_PROMPTS, TINY_PROMPTS):
        texts += [prompts.system, prompts.user] * 20
    return texts


if __name__ == "__main__":
    train_tokenizer(_training_texts()).save_pretrained(ASSET)

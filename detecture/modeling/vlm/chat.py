"""Prompts and answers of a VLM as token ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from detecture.data.prompts import (
    DEFAULT_PROMPTS,
    DESCRIBE_PROMPTS,
    TINY_PROMPTS,
    PromptTemplate,
    answer_text,
    parse_lines,
)
from detecture.errors import CheckpointError, ConfigError, brief
from detecture.modeling.vlm import tokenizer as markup
from detecture.untrusted import named_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

NAMED_PROMPTS = {
    "default": DEFAULT_PROMPTS,
    "tiny": TINY_PROMPTS,
    "describe": DESCRIBE_PROMPTS,
}


def load_prompts(name: str) -> PromptTemplate:
    """The wording of this name (`default`, `tiny`, `describe`), or of this yaml file.

    Raises:
        ConfigError: there is neither, or the file holds no wording.
    """
    if name in NAMED_PROMPTS:
        return NAMED_PROMPTS[name]
    path = named_path(name, "MODEL.VLM.PROMPTS", ConfigError)
    if not path.is_file():
        raise ConfigError(
            f"MODEL.VLM.PROMPTS {brief(name)}: neither {' nor '.join(NAMED_PROMPTS)}, nor a yaml "
            "file"
        )
    return PromptTemplate.from_yaml(path)


class Chat:
    """The chat markup of Qwen3-VL around the wording of prompts and answers.

    Attributes:
        tokenizer: knows the seg token, which is added to it here.
        prompts: the wording.
        stop_supervision: format of answers, `newline` or `released`.
        seg_id, end_id, image_id, pad_id, newline_id: ids of special tokens and of a line break.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, prompts: PromptTemplate, stop_supervision: str
    ) -> None:
        self.tokenizer = tokenizer
        self.prompts = prompts
        self.stop_supervision = stop_supervision
        self.seg_id = markup.add_seg_token(tokenizer, prompts.seg_token)
        self.end_id = self.token_id(prompts.end_token)
        self.image_id = self.token_id(markup.IMAGE)
        self.pad_id = self.token_id(markup.END_OF_TEXT)
        self.newline_id = self.ids("\n")[-1]
        self._check()

    def _check(self) -> None:
        marks = {self.end_id, self.image_id, self.pad_id, self.token_id(markup.MESSAGE_START)}
        if self.seg_id in marks:
            raise ConfigError(
                f"the seg token {self.prompts.seg_token} has a meaning already; take another, such "
                "as <|seg|>"
            )
        if self.image_id in self.ids(self.prompts.system + self.prompts.user):
            raise ConfigError(f"prompts must not hold {markup.IMAGE}, which stands for an image")

    def token_id(self, token: str) -> int:
        """Id of one token.

        Raises:
            ConfigError: the vocabulary does not have it.
        """
        if token not in self.tokenizer.get_vocab():
            raise ConfigError(f"the vocabulary has no token {token!r}, which the prompts name")
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def ids(self, text: str) -> list[int]:
        """Token ids of a text; what reads as a special token is one."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt_ids(self, count: str, visual_tokens: int) -> list[int]:
        """Token ids of a whole prompt, up to where the answer begins.

        Args:
            count: phrase for the number of regions, see `count_phrase`.
            visual_tokens: number of tokens that stand for the image.
        """
        user = self.prompts.user.replace("{N}", count)
        return self.question_ids(self.prompts.system, user, visual_tokens)

    def question_ids(self, system: str, user: str, visual_tokens: int) -> list[int]:
        """Token ids of a prompt in other words than the chat's own; see `prompt_ids`."""
        return self.ids(
            f"{markup.MESSAGE_START}system\n{system}{markup.MESSAGE_END}\n"
            f"{markup.MESSAGE_START}user\n{markup.VISION_START}"
            f"{markup.IMAGE * visual_tokens}{markup.VISION_END}{user}{markup.MESSAGE_END}\n"
            f"{markup.MESSAGE_START}assistant\n"
        )

    def answer_ids(self, descriptions: Sequence[str]) -> list[int]:
        """Token ids of the answer that names these regions, the end token included."""
        return self.ids(answer_text(self.prompts, descriptions, self.stop_supervision))

    def until_end(self, ids: list[int]) -> list[int]:
        """An answer up to and including its end token."""
        return ids[: ids.index(self.end_id) + 1] if self.end_id in ids else ids

    def until_last_region(self, ids: Sequence[int], max_regions: int) -> Sequence[int]:
        """An answer up to and including its last `<|seg|>`; what follows changes no region."""
        found = [i for i, token in enumerate(ids) if token == self.seg_id][:max_regions]
        return ids[: found[-1] + 1] if found else []

    def descriptions(self, ids: Sequence[int], max_regions: int) -> list[str]:
        """The description in front of each `<|seg|>`; an unfinished last line is left out.

        By ids and not by text, because decoding drops special tokens.
        """
        pieces: list[str] = []
        piece: list[int] = []
        for token in ids:
            if token == self.seg_id:
                pieces.append(self.tokenizer.decode(piece, skip_special_tokens=True))
                piece = []
            else:
                piece.append(token)
        return parse_lines(pieces[:max_regions])

    def header(self) -> dict[str, Any]:
        """What an adapter must say of its words."""
        return {
            "vocabulary": markup.vocabulary_fingerprint(self.tokenizer),
            "prompts": self.prompts.to_dict(),
            "stop_supervision": self.stop_supervision,
        }

    def take_header(self, header: dict[str, Any]) -> None:
        """Take over the wording that an adapter was trained with.

        Raises:
            CheckpointError: it belongs to another vocabulary or seg token.
        """
        own = self.header()["vocabulary"]
        if header.get("vocabulary", own) != own:
            raise CheckpointError(
                f"the checkpoint was made for the vocabulary {header['vocabulary']}, this model "
                f"has {own}; use the config, and MODEL.VLM.BASE, that it was trained with"
            )
        if "prompts" in header:
            prompts = PromptTemplate.from_dict(header["prompts"])
            if prompts.seg_token != self.prompts.seg_token:
                raise CheckpointError(
                    f"the checkpoint's seg_token is {prompts.seg_token!r}, this model's "
                    f"{self.prompts.seg_token!r}; set MODEL.VLM.PROMPTS to its wording"
                )
            if prompts != self.prompts:
                logger.warning("The wording of prompts and answers is that of the checkpoint")
            self.prompts = prompts
        stop = header.get("stop_supervision", self.stop_supervision)
        if stop != self.stop_supervision:
            logger.warning(
                "MODEL.VLM.STOP_SUPERVISION is %s, as in the checkpoint, and not %s",
                stop,
                self.stop_supervision,
            )
        self.stop_supervision = stop

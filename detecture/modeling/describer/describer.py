"""A VLM that is shown one region at a time and writes a sentence about it.

The answer is the bare sentence and the end token, without labels or `<|seg|>`: there is one region,
and no mask is read from the answer.

Legend: M regions, N regions of a batch, H, W size of the image, S side of the views, A answer
tokens, D hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.describer import DescriberSettings
from detecture.d2 import CfgNode, configurable
from detecture.data.lexicon.sentence_rules import is_cut_off, names_color_twice
from detecture.data.prompts import count_phrase, parse_lines, training_description
from detecture.errors import ConfigError
from detecture.modeling.describer.distinct import other_answer, prefix_of
from detecture.modeling.describer.draw import DrawnRegions, draw_regions
from detecture.modeling.describer.texture import TextureHint, is_readout
from detecture.modeling.describer.views import paint_over, square
from detecture.modeling.vlm import Qwen3VL, build_vlm
from detecture.modeling.vlm.lm_loss import weighted_cross_entropy
from detecture.modeling.vlm.types import Prefix
from detecture.modeling.weights.random_weights import seeded

ONE = count_phrase(1)
_MOST_SAID_ANEW = 24
"""Regions of one image, at most: each takes as long as several, and of many most are alike."""


@dataclass(frozen=True)
class DescriberBatch:
    """A training batch with what the loss and its normalizer both need.

    Attributes:
        samples: mapped dicts.
        drawn: regions of each.
        answers: token ids of the sentence about each drawn region of all images.
    """

    samples: list[dict[str, Any]]
    drawn: list[DrawnRegions]
    answers: list[list[int]]

    def __len__(self) -> int:
        return len(self.samples)


class Describer(nn.Module):
    """Writes one sentence about each region of an image.

    Attributes:
        vlm: the VLM; all of its settings are those of MODEL.VLM.
        texture: a convolutional look at the regions, or None.
    """

    @configurable
    def __init__(
        self,
        *,
        vlm: Qwen3VL,
        settings: DescriberSettings | None = None,
        texture: TextureHint | None = None,
    ) -> None:
        """Wrap a VLM.

        Args:
            vlm: sees a region's view (see `region_views`) and writes.
            settings: how regions are drawn from training images.
            texture: gives a vector for each region, which is added to all embeddings of its text.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__()
        self.vlm = vlm
        self.texture = texture
        self.settings = settings or DescriberSettings()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        settings = DescriberSettings.from_config(cfg)
        vlm, texture = build_vlm(cfg), None
        if settings.texture:
            widths = checked_widths(settings.texture_widths)
            with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
                texture = TextureHint(widths, vlm.hidden_size)
        return {"vlm": vlm, "texture": texture, "settings": settings}

    # ---- what trains, and what a checkpoint says -------------------------------------------------

    def parameters_by_group(self) -> dict[str, dict[str, nn.Parameter]]:
        """What trains, by the group's name in SOLVER.LR_FACTOR and the parameter's name here."""
        look = [] if self.texture is None else list(self.texture.named_parameters())
        seen = ((name, p) for name, p in look if not is_readout(name))
        told = ((name, p) for name, p in look if is_readout(name))
        return {
            "vlm": _prefixed("vlm", self.vlm.backbone_parameters()),
            "seg_rows": _prefixed("vlm", self.vlm.seg_row_parameters()),
            "texture": _prefixed("texture", seen),
            "texture_readout": _prefixed("texture", told),
        }

    def header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return {**self.vlm.header(), "image_size": self.vlm.image_size}

    # ---- training ---------------------------------------------------------------------------

    def losses(
        self, batch: DescriberBatch, normalizers: dict[str, float] | None = None
    ) -> dict[str, Tensor]:
        """Language-model loss of the drawn regions of training images.

        Args:
            batch: from `prepare`.
            normalizers: sums of `loss_normalizers` over the whole effective batch; None: those of
                this one.

        Returns:
            `{"loss_lm"}`: scalar, mean cross-entropy in nats of a token, the end token included.
        """
        if normalizers is None:
            normalizers = self.loss_normalizers(batch)
        shown = [
            square(sample["image"], drawn.masks_RSS, self.vlm.image_size)
            for sample, drawn in zip(batch.samples, batch.drawn, strict=True)
        ]
        answers = batch.answers
        prefix = self._prompts(shown)
        forced = self.vlm.teacher_forced(prefix, answers, predictions=True)
        if forced.predictions_BAD is None:
            raise RuntimeError("the VLM gave no states to predict tokens from")
        target_M = forced.ids_BA[forced.valid_BA]
        logits_MV = self.vlm.logits(forced.predictions_BAD[forced.valid_BA])
        weight_M = torch.ones(len(target_M), device=logits_MV.device)
        total, _ = weighted_cross_entropy(logits_MV, target_M, weight_M)
        return {"loss_lm": total / normalizers["lm_weights"]}

    def loss_normalizers(self, batch: DescriberBatch) -> dict[str, float]:
        """What the sum of the loss is to be divided by: `lm_weights`, the number of tokens."""
        return {"lm_weights": float(sum(map(len, batch.answers)))}

    def prepare(self, samples: list[dict[str, Any]]) -> DescriberBatch:
        """Draw the regions of a training batch, and tokenize the sentences about them.

        Args:
            samples: mapped dicts with `image`, `image_id`, `sem_seg` and `descriptions`.
        """
        kept = self.settings
        drawn = [draw_regions(s, kept.regions_per_image, kept.mask_noise) for s in samples]
        return DescriberBatch(samples, drawn, [ids for d in drawn for ids in self._answers(d)])

    def _answers(self, drawn: DrawnRegions) -> list[list[int]]:
        chat = self.vlm.chat
        return [
            [*chat.ids(training_description(chat.prompts, text)), chat.end_id]
            for text in drawn.descriptions
        ]

    def _prompts(self, shown: Sequence[tuple[Tensor, Tensor]]) -> Prefix:
        """One prompt for each region, of the images (3,S,S) and their masks (R,S,S)."""
        views = [view for square_3SS, masks in shown for view in paint_over(square_3SS, masks)]
        vision, hint_ND = self.vlm.encode_images(views), None
        if self.texture is not None:
            squares_B3SS = torch.stack([square_3SS for square_3SS, _ in shown])
            hint_ND = self.texture(squares_B3SS, [masks for _, masks in shown])
        return replace(self.vlm.prefix(vision, [ONE] * len(views)), hint_BD=hint_ND)

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def describe(self, image_3HW: Tensor, masks_MHW: Tensor) -> list[str]:
        """One sentence for each region, no two alike where the VLM knows another way to put it.

        A sentence that equals another one, names one colour twice or stops in the middle is written
        again, for the first 24 such regions.

        Args:
            image_3HW: uint8 RGB, of any size.
            masks_MHW: bool; they may overlap.

        Returns:
            M sentences, "" for an empty mask.

        Raises:
            ValueError: a type or shape is another one.
        """
        shown = [index for index, mask in enumerate(masks_MHW) if bool(mask.any())]
        sentences = [""] * len(masks_MHW)
        if not shown:
            return sentences
        prefix = self._prompts([square(image_3HW, masks_MHW[shown], self.vlm.image_size)])
        answers = self.vlm.write(prefix, self.vlm.new_cache())
        taken: set[tuple[int, ...]] = set()
        said_anew = 0

        def will_do(answer: list[int]) -> bool:
            text = self._text(answer)
            return not (tuple(answer) in taken or names_color_twice(text) or is_cut_off(text))

        for row, (index, answer) in enumerate(zip(shown, answers, strict=True)):
            if not will_do(answer) and said_anew < _MOST_SAID_ANEW:
                said_anew += 1
                answer = other_answer(self.vlm, prefix_of(prefix, row), answer, will_do)
            taken.add(tuple(answer))
            sentences[index] = self._text(answer)
        return sentences

    def _text(self, answer: Sequence[int]) -> str:
        return parse_lines([self.vlm.chat.tokenizer.decode(answer, skip_special_tokens=True)])[0]


def _prefixed(part: str, named: Iterator[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    return {f"{part}.{name}": parameter for name, parameter in named}


def checked_widths(widths: Sequence[int]) -> tuple[int, int, int, int]:
    """MODEL.DESCRIBER.TEXTURE_WIDTHS, or a ConfigError that says what is wrong with them."""
    if len(widths) != 4 or any(width < 8 or width % 8 for width in widths):
        raise ConfigError(
            f"MODEL.DESCRIBER.TEXTURE_WIDTHS {tuple(widths)}: needs four positive multiples of 8"
        )
    first, second, third, fourth = widths
    return first, second, third, fourth

"""A VLM that is shown one region at a time and writes a sentence about it.

The answer is the bare sentence and the end token, without labels or `<|seg|>`: there is one region,
and no mask is read from the answer.

Legend: M regions, N regions of a batch, H, W size of the image, S side of the views, A answer
tokens, D hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detecture.d2 import CfgNode, configurable
from detecture.data.prompts import count_phrase, parse_lines, training_description
from detecture.data.synthetic.colors import names_color_twice
from detecture.data.synthetic.sentences import is_cut_off
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
        regions_per_image: int = 3,
        mask_noise: float = 0.6,
        texture: TextureHint | None = None,
    ) -> None:
        """Wrap a VLM.

        Args:
            vlm: sees a region's view (see `region_views`) and writes.
            regions_per_image: regions drawn from each training image, at most.
            mask_noise: share of the training masks that are disturbed.
            texture: gives a vector for each region, which is added to all embeddings of its text.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__()
        if regions_per_image < 1:
            raise ConfigError(
                f"MODEL.DESCRIBER.REGIONS_PER_IMAGE {regions_per_image}: must be at least 1"
            )
        if not 0.0 <= mask_noise <= 1.0:
            raise ConfigError(f"MODEL.DESCRIBER.MASK_NOISE {mask_noise}: must be in 0..1")
        self.vlm = vlm
        self.texture = texture
        self.regions_per_image = regions_per_image
        self.mask_noise = mask_noise

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        describer = cfg.MODEL.DESCRIBER
        vlm, texture = build_vlm(cfg), None
        if describer.TEXTURE:
            widths = checked_widths(describer.TEXTURE_WIDTHS)
            with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
                texture = TextureHint(widths, vlm.hidden_size)
        return {
            "vlm": vlm,
            "texture": texture,
            "regions_per_image": describer.REGIONS_PER_IMAGE,
            "mask_noise": describer.MASK_NOISE,
        }

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
        self, samples: Sequence[dict[str, Any]], normalizers: dict[str, float] | None = None
    ) -> dict[str, Tensor]:
        """Language-model loss of the drawn regions of training images.

        Args:
            samples: mapped dicts with `image`, `image_id`, `sem_seg` and `descriptions`.
            normalizers: sums of `loss_normalizers` over the whole effective batch; None: those of
                these samples.

        Returns:
            `{"loss_lm"}`: scalar, mean cross-entropy in nats of a token, the end token included.
        """
        if normalizers is None:
            normalizers = self.loss_normalizers(samples)
        shown, answers = [], []
        for sample in samples:
            drawn = self._drawn(sample)
            shown.append(square(sample["image"], drawn.masks_RSS, self.vlm.image_size))
            answers += self._answers(drawn)
        prefix = self._prompts(shown)
        forced = self.vlm.teacher_forced(prefix, answers, predictions=True)
        if forced.predictions_BAD is None:
            raise RuntimeError("the VLM gave no states to predict tokens from")
        target_M = forced.ids_BA[forced.valid_BA]
        logits_MV = self.vlm.logits(forced.predictions_BAD[forced.valid_BA])
        weight_M = torch.ones(len(target_M), device=logits_MV.device)
        total, _ = weighted_cross_entropy(logits_MV, target_M, weight_M)
        return {"loss_lm": total / normalizers["lm_weights"]}

    def loss_normalizers(self, samples: Sequence[dict[str, Any]]) -> dict[str, float]:
        """What the sum of the loss is to be divided by: `lm_weights`, the number of tokens."""
        tokens = sum(len(ids) for s in samples for ids in self._answers(self._drawn(s)))
        return {"lm_weights": float(tokens)}

    def _drawn(self, sample: dict[str, Any]) -> DrawnRegions:
        """Kept in the sample, because they are asked for twice."""
        if "drawn_regions" not in sample:
            sample["drawn_regions"] = draw_regions(sample, self.regions_per_image, self.mask_noise)
        drawn: DrawnRegions = sample["drawn_regions"]
        return drawn

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

        That way is looked for in the first 24 regions whose sentence another one has, names one
        colour twice, or stops in its middle.

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

"""A VLM that is shown one region at a time and writes a sentence about it.

The answer is the bare sentence and the end token, without labels or `<|seg|>`: there is one region,
and no mask is read from the answer.

Legend: M regions, N regions of a batch, H, W size of the picture, S side of the views, A answer
tokens, D hidden size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detecture.d2 import CfgNode, configurable
from detecture.data.prompts import count_phrase, parse_lines, training_description
from detecture.errors import ConfigError
from detecture.modeling.describer.distinct import other_answer, prefix_of
from detecture.modeling.describer.draw import DrawnRegions, draw_regions
from detecture.modeling.describer.texture import TextureFeatures
from detecture.modeling.describer.views import paint_over, square
from detecture.modeling.losses import weighted_cross_entropy
from detecture.modeling.vlm import Qwen3VL, build_vlm
from detecture.modeling.vlm.types import Prefix

ONE = count_phrase(1)


class Describer(nn.Module):
    """Writes one sentence about each region of a picture.

    Attributes:
        vlm: the VLM; all of its settings are those of MODEL.VLM.
        texture: a convolutional look at the regions, or None.
    """

    @configurable
    def __init__(
        self,
        *,
        vlm: Qwen3VL,
        regions_per_picture: int = 3,
        mask_noise: float = 0.6,
        texture: TextureFeatures | None = None,
        lm_weight: float = 1.0,
        words_weight: float = 0.0,
    ) -> None:
        """Wrap a VLM.

        Args:
            vlm: sees a region's view (see `region_views`) and writes.
            regions_per_picture: regions drawn from each training picture, at most.
            mask_noise: share of the training masks that are disturbed.
            texture: gives a vector for each region, which is added to all of its visual tokens.
            lm_weight: weight of the cross-entropy of the answers; at 0 the VLM is not run.
            words_weight: weight of what the texture's vector alone, through the VLM's head, tells
                of the words in the answer; needs `texture`.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__()
        if words_weight > 0 and texture is None:
            raise ConfigError(
                f"LOSS.WORDS_WEIGHT {words_weight}: there is no texture vector to tell the words "
                "from; set MODEL.DESCRIBER.TEXTURE to True"
            )
        if regions_per_picture < 1:
            raise ConfigError(
                f"MODEL.DESCRIBER.REGIONS_PER_PICTURE {regions_per_picture}: must be at least 1"
            )
        if not 0.0 <= mask_noise <= 1.0:
            raise ConfigError(f"MODEL.DESCRIBER.MASK_NOISE {mask_noise}: must be in 0..1")
        self.vlm = vlm
        self.texture = texture
        self.regions_per_picture = regions_per_picture
        self.mask_noise = mask_noise
        self.lm_weight = lm_weight
        self.words_weight = words_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        describer = cfg.MODEL.DESCRIBER
        vlm, texture = build_vlm(cfg), None
        if describer.TEXTURE:
            widths = _checked_widths(describer.TEXTURE_WIDTHS)
            with torch.random.fork_rng():
                torch.manual_seed(cfg.MODEL.RANDOM_WEIGHTS_SEED)
                texture = TextureFeatures(widths, vlm.hidden_size)
        return {
            "vlm": vlm,
            "texture": texture,
            "regions_per_picture": describer.REGIONS_PER_PICTURE,
            "mask_noise": describer.MASK_NOISE,
            "lm_weight": cfg.LOSS.LM_WEIGHT,
            "words_weight": cfg.LOSS.WORDS_WEIGHT,
        }

    # ---- what trains, and what a checkpoint says -------------------------------------------------

    def parameters_by_group(self) -> dict[str, dict[str, nn.Parameter]]:
        """What trains, by the group's name in SOLVER.LR_FACTOR and the parameter's name here."""
        return {
            "vlm": _prefixed("vlm", self.vlm.backbone_parameters()),
            "seg_rows": _prefixed("vlm", self.vlm.seg_row_parameters()),
            "texture": {}
            if self.texture is None
            else _prefixed("texture", self.texture.named_parameters()),
        }

    def header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold."""
        return {**self.vlm.header(), "image_size": self.vlm.image_size}

    # ---- training ---------------------------------------------------------------------------

    def losses(
        self, samples: Sequence[dict[str, Any]], normalizers: dict[str, float] | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses of the drawn regions of training pictures.

        Args:
            samples: mapped dicts with `image`, `image_id`, `sem_seg` and `descriptions`.
            normalizers: sums of `loss_normalizers` over the whole effective batch; None: those of
                these samples.

        Returns:
            Scalars, each where its weight is above 0: `loss_lm`, mean cross-entropy in nats of a
            token, the end token included; `loss_words`, mean over the regions of the cross-entropy
            in nats of the texture's vector to the different tokens of the answer.
        """
        if normalizers is None:
            normalizers = self.loss_normalizers(samples)
        shown, answers = [], []
        for sample in samples:
            drawn = self._drawn(sample)
            shown.append(square(sample["image"], drawn.masks_RSS, self.vlm.image_size))
            answers += self._answers(drawn)
        texture_ND = self._textures(shown)
        losses = {}
        if self.lm_weight > 0:
            total = self._lm_sum(self._prompts(shown, texture_ND), answers)
            losses["loss_lm"] = self.lm_weight * total / normalizers["lm_weights"]
        if self.words_weight > 0 and texture_ND is not None:
            total = _words_sum(self.vlm.logits(texture_ND), answers)
            losses["loss_words"] = self.words_weight * total / normalizers["regions"]
        return losses

    def _lm_sum(self, prefix: Prefix, answers: list[list[int]]) -> Tensor:
        forced = self.vlm.teacher_forced(prefix, answers, predictions=True)
        if forced.predictions_BAD is None:
            raise RuntimeError("the VLM gave no states to predict tokens from")
        target_M = forced.ids_BA[forced.valid_BA]
        logits_MV = self.vlm.logits(forced.predictions_BAD[forced.valid_BA])
        weight_M = torch.ones(len(target_M), device=logits_MV.device)
        return weighted_cross_entropy(logits_MV, target_M, weight_M)[0]

    def loss_normalizers(self, samples: Sequence[dict[str, Any]]) -> dict[str, float]:
        """What the sums of the losses are to be divided by.

        Returns:
            `lm_weights`, the number of tokens, and `regions`.
        """
        answers = [ids for sample in samples for ids in self._answers(self._drawn(sample))]
        return {"lm_weights": float(sum(map(len, answers))), "regions": float(len(answers))}

    def _drawn(self, sample: dict[str, Any]) -> DrawnRegions:
        """Kept in the sample, because they are asked for twice."""
        if "drawn_regions" not in sample:
            sample["drawn_regions"] = draw_regions(
                sample, self.regions_per_picture, self.mask_noise
            )
        drawn: DrawnRegions = sample["drawn_regions"]
        return drawn

    def _answers(self, drawn: DrawnRegions) -> list[list[int]]:
        chat = self.vlm.chat
        return [
            [*chat.ids(training_description(chat.prompts, text)), chat.end_id]
            for text in drawn.descriptions
        ]

    def _textures(self, shown: Sequence[tuple[Tensor, Tensor]]) -> Tensor | None:
        """What the texture features (N,D) are of pictures (3,S,S) and their masks (R,S,S)."""
        if self.texture is None:
            return None
        squares_B3SS = torch.stack([square_3SS for square_3SS, _ in shown])
        texture_ND: Tensor = self.texture(squares_B3SS, [masks for _, masks in shown])
        return texture_ND

    def _prompts(self, shown: Sequence[tuple[Tensor, Tensor]], texture_ND: Tensor | None) -> Prefix:
        """One prompt for each region, of the pictures (3,S,S) and their masks (R,S,S)."""
        views = [view for square_3SS, masks in shown for view in paint_over(square_3SS, masks)]
        vision = self.vlm.encode_images(views)
        if texture_ND is not None:
            tokens = vision.tokens_BVD
            vision = replace(vision, tokens_BVD=tokens + texture_ND.to(tokens)[:, None])
        return self.vlm.prefix(vision, [ONE] * len(views))

    # ---- inference --------------------------------------------------------------------------

    @torch.no_grad()
    def describe(self, image_3HW: Tensor, masks_MHW: Tensor) -> list[str]:
        """One sentence for each region, no two alike where the VLM knows another way to put it.

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
        pictures = [square(image_3HW, masks_MHW[shown], self.vlm.image_size)]
        prefix = self._prompts(pictures, self._textures(pictures))
        answers = self.vlm.write(prefix, self.vlm.new_cache())
        taken: set[tuple[int, ...]] = set()
        for row, (index, answer) in enumerate(zip(shown, answers, strict=True)):
            if tuple(answer) in taken:
                answer = other_answer(self.vlm, prefix_of(prefix, row), answer, taken)
            taken.add(tuple(answer))
            sentences[index] = self._text(answer)
        return sentences

    def _text(self, answer: Sequence[int]) -> str:
        return parse_lines([self.vlm.chat.tokenizer.decode(answer, skip_special_tokens=True)])[0]


def _words_sum(logits_NV: Tensor, answers: list[list[int]]) -> Tensor:
    """Sum over the regions of the mean cross-entropy to the different tokens of each answer."""
    log_NV = logits_NV.float().log_softmax(dim=1)
    means = [
        log_V[torch.tensor(sorted(set(ids)), device=log_V.device)].mean()
        for log_V, ids in zip(log_NV, answers, strict=True)
    ]
    return -torch.stack(means).sum()


def _prefixed(part: str, named: Iterator[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    return {f"{part}.{name}": parameter for name, parameter in named}


def _checked_widths(widths: Sequence[int]) -> tuple[int, int, int, int]:
    if len(widths) != 4 or any(width < 8 or width % 8 for width in widths):
        raise ConfigError(
            f"MODEL.DESCRIBER.TEXTURE_WIDTHS {tuple(widths)}: needs four positive multiples of 8"
        )
    first, second, third, fourth = widths
    return first, second, third, fourth

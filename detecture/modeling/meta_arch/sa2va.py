"""Sa2VA (arXiv 2501.04001): one model that answers in words and masks, as it comes.

Its code is not part of transformers: it comes with its weights and is run from there, which has to
be allowed (MODEL.SA2VA.TRUST_REMOTE_CODE). No tests can run that code without the weights; what
they hold to is the contract of `predict_forward` (benchmark specification, 4.3 and 8.5), with a
stand-in for it. The published code also moves its inputs to an accelerator by itself: on a CPU it
fails.

Legend: M masks that came back, R regions kept, H, W size asked for, h, w size of a mask.
"""

from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from detecture.config.sections.baselines import Sa2VASettings
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.model import ModelSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.data.questions import Questions, load_questions
from detecture.errors import ConfigError, DetectureError
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.region_channels import (
    logits_of_probabilities,
    output_from_regions,
    resize_scores,
    smallest_first,
)
from detecture.modeling.weights.remote_code import load_remote_model

IMAGE_TAG = "<image>"
"""Where the image stands in a question."""


@META_ARCH_REGISTRY.register()
class Sa2VA(nn.Module):
    """Sa2VA's masks, largest first, as many as are known of."""

    @configurable
    def __init__(
        self,
        *,
        model: Any,
        tokenizer: Any,
        questions: Questions,
        settings: Sa2VASettings | None = None,
        max_regions: int = ModelSettings.max_regions,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
    ) -> None:
        """Wrap a model.

        Args:
            model: has `predict_forward`; see `answer`.
            tokenizer: handed on to it.
            questions: what it is asked.
            settings: the subject, and what becomes of masks.
            max_regions: greatest number of regions where the number is not known.
            dustbin_logit: score of the dustbin.

        Raises:
            ConfigError: `questions` has a system text.
        """
        super().__init__()
        if questions.system:
            raise ConfigError("MODEL.SA2VA.PROMPTS: Sa2VA takes no system text; leave system empty")
        self.model = model
        self.tokenizer = tokenizer
        self.questions = questions
        self.settings = settings or Sa2VASettings()
        self.max_regions = max_regions
        self.dustbin_logit = dustbin_logit
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            ConfigError: MODEL.SA2VA.TRUST_REMOTE_CODE is False, or a key makes no sense.
            CheckpointError: the weights or the code cannot be had.
        """
        settings = Sa2VASettings.from_config(cfg)
        questions = load_questions(settings.prompts, "MODEL.SA2VA.PROMPTS")
        model, tokenizer = load_remote_model(
            settings.base,
            settings.revision,
            is_trusted=settings.trust_remote_code,
            node="MODEL.SA2VA",
            use_flash_attn=False,
        )
        return {
            "model": model,
            "tokenizer": tokenizer,
            "questions": questions,
            "settings": settings,
            "max_regions": cfg.MODEL.MAX_REGIONS,
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    def train(self, mode: bool = True) -> "Sa2VA":
        """Evaluation mode whatever `mode` is: nothing here trains."""
        super().train(False)
        return self

    @torch.no_grad()
    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs.

        Returns:
            Standard outputs with `generated_text`, the whole answer; the descriptions are empty,
            because nothing in the contract says which of its words belong to which mask.
        """
        return [self._predict(sample) for sample in batched_inputs]

    def answer(self, image_3HW: Tensor, question: str) -> Mapping[str, Any]:
        """What the model answers to a question about an image.

        Args:
            image_3HW: uint8 RGB.
            question: gets the tag of the image in front, where it has none.

        Returns:
            `prediction` (text) and, where it has masks, `prediction_masks`: for each a bool or
            float array (1,h,w) or (h,w), or None.
        """
        text = question if IMAGE_TAG in question else f"{IMAGE_TAG}{question}"
        answer: Mapping[str, Any] = self.model.predict_forward(
            image=Image.fromarray(image_3HW.permute(1, 2, 0).cpu().numpy()),
            text=text,
            past_text="",
            mask_prompts=None,
            tokenizer=self.tokenizer,
        )
        return answer

    def _predict(self, sample: dict[str, Any]) -> dict[str, Any]:
        hint = sample["k_hint"]
        question = self.questions.ask(hint.k, self.max_regions, self.settings.subject)
        answer = self.answer(sample["image"], question)
        size = (sample["height"], sample["width"])
        masks_RHW = ranked_masks(answer.get("prediction_masks"), size)
        masks_RHW = masks_RHW[: hint.k or self.max_regions]
        if self.settings.complement and hint.k == 2 and len(masks_RHW) == 1:
            rest_1HW = ~masks_RHW
            masks_RHW = torch.cat([masks_RHW, rest_1HW[rest_1HW.flatten(1).any(dim=1)]])
        logits_RHW = logits_of_probabilities(masks_RHW)
        if self.settings.smallest_on_top:
            logits_RHW = logits_RHW[smallest_first(logits_RHW)]
        output = output_from_regions(logits_RHW, [""] * len(logits_RHW), hint, self.dustbin_logit)
        return {**output, "generated_text": str(answer.get("prediction", ""))}


def ranked_masks(masks: Any, size: tuple[int, int]) -> Tensor:
    """The masks of an answer by their area, the largest first; those without any are left out.

    Args:
        masks: None, or a sequence of bool or float arrays (1,h,w) or (h,w) and of None. Those of
            another size are resized (bilinear) and cut at a half.
        size: height and width of the result.

    Returns:
        (R,H,W) bool, on the CPU.

    Raises:
        DetectureError: a mask has another shape.
    """
    found = [_mask(entry, size) for entry in ([] if masks is None else masks) if entry is not None]
    if not found:
        return torch.zeros((0, *size), dtype=torch.bool)
    masks_MHW = torch.stack(found)
    areas_M = masks_MHW.flatten(1).sum(dim=1)
    order_M = torch.argsort(areas_M, descending=True, stable=True)
    return masks_MHW[order_M[areas_M[order_M] > 0]]


def _mask(entry: Any, size: tuple[int, int]) -> Tensor:
    """One mask of an answer at the size that is asked for: bool (H,W).

    Raises:
        DetectureError: it is no mask.
    """
    soft = torch.as_tensor(entry).detach().cpu().float()
    while soft.ndim > 2 and len(soft) == 1:
        soft = soft[0]
    if soft.ndim != 2 or not soft.numel():
        raise DetectureError(
            f"Sa2VA gave a mask of shape {tuple(soft.shape)}, not (1,h,w) or (h,w): the code at "
            "MODEL.SA2VA.REVISION has another interface"
        )
    return resize_scores(soft[None], size)[0] > 0.5

"""Two models as they come, one after the other: a VLM names the regions, SAM 3 finds each by name.

Nothing is trained, which makes this the baseline that training has to beat (benchmark
specification, 4.5 and 7.1): the VLM writes lines `TEXTURE_i: Texture of ..`, each goes through SAM
3's own text encoder, and its semantic head scores every pixel.

Legend: B images, R regions, N prompts, T tokens, D width, H, W size asked for.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.detecture import VlmSettings
from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.model import ModelSettings
from detecture.d2 import META_ARCH_REGISTRY, CfgNode, configurable
from detecture.data.prompts import parse_answer
from detecture.data.questions import Questions, load_questions
from detecture.modeling.encoding.encoders import Encoders, Encoding
from detecture.modeling.meta_arch.inputs import takes_plain_inputs
from detecture.modeling.region_channels import output_from_regions, resize_scores
from detecture.modeling.segmenter import ImageFeatures, Segmenter, build_segmenter
from detecture.modeling.vlm import Qwen3VL, build_vlm
from detecture.modeling.vlm.asking import ask
from detecture.modeling.weights.dtypes import DTYPES
from detecture.modeling.weights.random_weights import seeded

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class DescribeThenSegment(nn.Module):
    """A VLM's sentences as prompts of SAM 3."""

    @configurable
    def __init__(
        self,
        *,
        vlm: Qwen3VL,
        segmenter: Segmenter,
        questions: Questions,
        subject: str = "",
        max_regions: int = ModelSettings.max_regions,
        dustbin_logit: float = EvaluationSettings.dustbin_logit,
    ) -> None:
        """Join the parts; both are frozen and stay in evaluation mode.

        Args:
            vlm: writes the sentences; without `<|seg|>` rows (`with_seg_rows=False`).
            segmenter: with its text encoder.
            questions: what the VLM is asked.
            subject: what the region is where one region is known, such as "water surface".
            max_regions: greatest number of regions where the number is not known.
            dustbin_logit: score of the dustbin.

        Raises:
            DetectureError: the segmenter lacks its text encoder or a tokenizer.
        """
        super().__init__()
        segmenter.require_text()
        self.vlm = vlm
        self.segmenter = segmenter
        self.questions = questions
        self.subject = subject
        self.max_regions = max_regions
        self.dustbin_logit = dustbin_logit
        self.encoders = Encoders(vlm, segmenter, "", train_segmenter=False, cache=None)
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config.

        Raises:
            CheckpointError: weights, MODEL.VLM.BASE or MODEL.SEGMENTER.BASE, cannot be had.
            ConfigError: MODEL.DESCRIBE_THEN_SEGMENT.PROMPTS is no wording.
        """
        own = cfg.MODEL.DESCRIBE_THEN_SEGMENT
        for key, base in (("VLM", cfg.MODEL.VLM.BASE), ("SEGMENTER", cfg.MODEL.SEGMENTER.BASE)):
            if not base:
                logger.warning(
                    "MODEL.%s.BASE is empty: DescribeThenSegment runs with random weights there; "
                    "its answers mean nothing",
                    key,
                )
        # As it comes: nothing beside its weights, and no word that it must put at line ends.
        settings = replace(VlmSettings.from_config(cfg), train="none", stop_supervision="released")
        vlm = build_vlm(cfg, settings=settings, with_seg_rows=False)
        with seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
            segmenter = build_segmenter(cfg, with_text=True)
        return {
            "vlm": vlm,
            "segmenter": segmenter.to(DTYPES[cfg.MODEL.DTYPE]),
            "questions": load_questions(own.PROMPTS, "MODEL.DESCRIBE_THEN_SEGMENT.PROMPTS"),
            "subject": own.SUBJECT,
            "max_regions": cfg.MODEL.MAX_REGIONS,
            "dustbin_logit": cfg.TEST.DUSTBIN_LOGIT,
        }

    def train(self, mode: bool = True) -> "DescribeThenSegment":
        """Evaluation mode whatever `mode` is: nothing here trains, and SAM 3 has dropout."""
        super().train(False)
        return self

    @torch.no_grad()
    @takes_plain_inputs
    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Mapped dicts (`image`: uint8 (3,H,W), `k_hint`) to standard outputs.

        With `descriptions` (TEST.ORACLE) these are the prompts, and the VLM is not asked.

        Returns:
            Standard outputs with `generated_text`, all that the VLM wrote. Of more sentences than
            hinted the first count; those that are missing are empty regions. The status is
            `no_description` where there is none at all.
        """
        oracle = ["descriptions" in sample for sample in batched_inputs]
        if any(oracle) and not all(oracle):
            return [self([sample])[0] for sample in batched_inputs]
        encoding = self.encoders.encode_samples(batched_inputs)
        if all(oracle):
            texts = ["" for _ in batched_inputs]
            described = [list(sample["descriptions"]) for sample in batched_inputs]
        else:
            texts = self.write(encoding, batched_inputs)
            described = [
                parse_answer(text, sample["k_hint"].k or self.max_regions)
                for text, sample in zip(texts, batched_inputs, strict=True)
            ]
        outputs = []
        for index, (sample, text) in enumerate(zip(batched_inputs, texts, strict=True)):
            size, phrases = (sample["height"], sample["width"]), described[index]
            logits_RHW = resize_scores(self.ground(encoding.features, index, phrases), size)
            output = output_from_regions(
                logits_RHW, phrases, sample["k_hint"], dustbin_logit=self.dustbin_logit
            )
            status = {} if phrases else {"status": "no_description"}
            outputs.append({**output, "generated_text": text, **status})
        return outputs

    @torch.no_grad()
    def encode_image(self, sample: dict[str, Any]) -> Encoding:
        """What does not depend on K: both encodings of a mapped dict's `image`."""
        return self.encoders.encode([sample["image"]])

    def write(self, encoding: Encoding, samples: Sequence[dict[str, Any]]) -> list[str]:
        """The VLM's answers about B images; each question follows from the image's `k_hint`."""
        questions = [
            self.questions.ask(sample["k_hint"].k, self.max_regions, self.subject)
            for sample in samples
        ]
        return ask(self.vlm, encoding.vision, self.questions.system, questions)

    def ground(self, features: ImageFeatures, index: int, phrases: Sequence[str]) -> Tensor:
        """Scores of one image's pixels under each phrase, by SAM 3's semantic head.

        Args:
            features: of B images.
            index: which of them.
            phrases: R texts.

        Returns:
            float (R,h,w) logits, at the size of the segmenter's finest level.
        """
        if not phrases:
            return features.levels[0].new_zeros((0, *features.levels[0].shape[-2:]))
        prompt_NTD, mask_NT = self.segmenter.text_features(list(phrases))
        index_N = torch.full((len(phrases),), index, device=self.segmenter.device)
        logits_N1hw = self.segmenter.semantic_logits(features, index_N, prompt_NTD, mask_NT)
        return logits_N1hw[:, 0]

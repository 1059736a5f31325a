"""Grounding DINO (Liu et al. 2023, arXiv 2303.05499) by transformers: a phrase to boxes.

Legend: R boxes, H, W size of an image.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detecture.config.sections.baselines import GroundedSam3Settings
from detecture.d2 import CfgNode, configurable
from detecture.errors import ConfigError
from detecture.modeling.box_detector.boxes import Detections, ranked_detections
from detecture.modeling.box_detector.phrase import normalize_phrase
from detecture.modeling.weights.pretrained import import_parts


class GroundingDino(nn.Module):
    """transformers' `GroundingDinoForObjectDetection` with its processor; never trained here."""

    @configurable
    def __init__(
        self,
        *,
        base: str = "",
        structure: str | Mapping[str, Any] = GroundedSam3Settings.detector_config,
        settings: GroundedSam3Settings | None = None,
    ) -> None:
        """Build it, with the weights of `base` or random ones, in float32.

        Args:
            base: hub id or folder in transformers' layout; empty: random weights.
            structure: of a detector with random weights: name of a shipped one, path of a json
                file, or the dict itself.
            settings: the thresholds of boxes and words.

        Raises:
            ConfigError: the structure cannot be read, or does not fit together.
            CheckpointError: the weights cannot be had or do not fit.
        """
        super().__init__()
        hf = import_parts("detecture.modeling.box_detector.hf_parts", "Grounding DINO")
        self.model, self._processor = hf.load(base) if base else hf.make_random(structure)
        self.settings = settings or GroundedSam3Settings()
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from a config."""
        settings = GroundedSam3Settings.from_config(cfg)
        return {
            "base": settings.detector_base,
            "structure": settings.detector_config,
            "settings": settings,
        }

    def train(self, mode: bool = True) -> "GroundingDino":
        """As torch's, but it stays in evaluation mode: it has dropout, and is never trained."""
        return super().train(False)

    @torch.no_grad()
    def detect(self, image: Tensor, phrase: str) -> Detections:
        """Boxes of what a phrase names, the best first; none at all is a normal answer.

        Args:
            image: uint8 RGB (3,H,W), at its own size.
            phrase: see `normalize_phrase`.

        Raises:
            ConfigError: the phrase is empty, or longer than the detector can read.
        """
        size = (int(image.shape[-2]), int(image.shape[-1]))
        device = next(self.model.parameters()).device
        # Which axis holds the channels is not left to be guessed: an image may be 3 pixels wide.
        inputs = self._processor(
            images=image,
            text=normalize_phrase(phrase),
            input_data_format="channels_first",
            return_tensors="pt",
        ).to(device)
        self._check_length(inputs["input_ids"].shape[1], phrase)
        found = self._processor.post_process_grounded_object_detection(
            self.model(**inputs),
            inputs["input_ids"],
            threshold=self.settings.box_threshold,
            text_threshold=self.settings.text_threshold,
            target_sizes=[size],
        )[0]
        # Without a box transformers gives one empty text all the same.
        labels = [self._without_marks(text) for text in found["text_labels"]][: len(found["boxes"])]
        return ranked_detections(
            found["boxes"], found["scores"], labels, size, self.settings.box_nms
        )

    def _check_length(self, tokens: int, phrase: str) -> None:
        most = self.model.config.max_text_len
        if tokens > most:  # transformers would cut it off
            raise ConfigError(
                f"MODEL.GROUNDED_SAM3.PHRASE has {tokens} tokens, the detector reads {most}; "
                f"shorten it: {phrase[:60]!r}"
            )

    def _without_marks(self, text: str) -> str:
        """A label without the end mark of the text, which scores like a word."""
        for mark in self._processor.tokenizer.all_special_tokens:
            text = text.replace(mark, "")
        return text.strip(" .")

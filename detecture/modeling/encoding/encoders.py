"""What both halves of Detecture make of an image, from a cache on disk where they are frozen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detecture.modeling.encoding.feature_cache import FeatureCache, content_key
from detecture.modeling.segmenter import ImageFeatures, Segmenter
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.types import TeacherForced, VisionFeatures


@dataclass(frozen=True)
class Encoding:
    """Images as VLM and segmenter take them: all that does not depend on the question."""

    vision: VisionFeatures
    features: ImageFeatures


class Encoders:
    """Runs the image encoders of a model's parts; the parts belong to the model.

    Attributes:
        cache: keeps what frozen parts compute; None: nothing is kept.
        segmenter_source: what the segmenter's weights are.
        train_segmenter: whether it trains.
    """

    def __init__(
        self,
        vlm: Qwen3VL,
        segmenter: Segmenter,
        segmenter_source: str,
        train_segmenter: bool,
        cache: FeatureCache | None,
    ) -> None:
        self.cache = cache
        self.segmenter_source = segmenter_source
        self._vlm = vlm
        self._segmenter = segmenter
        self.train_segmenter = train_segmenter

    def encode(self, images: Sequence[Tensor]) -> Encoding:
        """Both encodings of uint8 (3,H,W) images."""
        return Encoding(self.vision_features(images), self.image_features(images))

    def encode_samples(self, samples: Sequence[dict[str, Any]]) -> Encoding:
        """Of mapped dicts: what a single one brings as `encoding`, else both encodings anew."""
        ready = [sample.get("encoding") for sample in samples]
        if len(ready) == 1 and ready[0] is not None:
            encoding: Encoding = ready[0]
            return encoding
        return self.encode([sample["image"] for sample in samples])

    def image_features(self, images: Sequence[Tensor]) -> ImageFeatures:
        """The segmenter's features of uint8 (3,H,W) images.

        They are in the graph only where the segmenter trains.
        """
        segmenter = self._segmenter

        def compute(missing: Sequence[Tensor]) -> dict[str, Tensor]:
            """Features of the images that are missing, uint8 (3,H,W): tensors (B,D,h,w)."""
            features = segmenter.encode_image(segmenter.preprocess(missing))
            # They are the same for all images; a row for each makes entries alike.
            positions = features.positions.expand(len(features), -1, -1, -1)
            return {**features.state(), "positions": positions}

        with torch.set_grad_enabled(torch.is_grad_enabled() and self.train_segmenter):
            # One in training mode may have dropout, which draws anew every time.
            if self.cache is None or self.train_segmenter or segmenter.training:
                return segmenter.encode_image(segmenter.preprocess(images))
            made_by = f"{self.segmenter_source} {segmenter.image_size} {segmenter.dtype}"
            made_by += f" {segmenter.autocast}" if segmenter.autocast else ""
            keys = [content_key(image, made_by) for image in images]
            rows = _to(self.cache.rows(keys, images, compute), segmenter.device)
        return ImageFeatures.from_state({**rows, "positions": rows["positions"][:1]})

    def vision_features(self, images: Sequence[Tensor]) -> VisionFeatures:
        """The VLM's visual tokens of uint8 (3,H,W) images."""
        if self.cache is None or self._vlm.train_kind == "full":
            return self._vlm.encode_images(images)
        keys = [content_key(image, self._vlm.fingerprint()) for image in images]
        rows = self.cache.rows(
            keys, images, lambda missing: self._vlm.encode_images(missing).state()
        )
        return VisionFeatures.from_state(_to(rows, self._vlm.device))

    @torch.no_grad()
    def region_states(
        self,
        cache: FeatureCache,
        images: Sequence[Tensor],
        counts: Sequence[str],
        answers: Sequence[list[int]],
    ) -> TeacherForced:
        """Region states of given answers while nothing of the VLM changes (stage 1).

        Args:
            cache: keeps them.
            images: uint8 (3,H,W).
            counts: for each the phrase of the number of regions.
            answers: for each the token ids.
        """
        vlm = self._vlm
        fingerprint = vlm.fingerprint(with_trained=True)
        keys = [
            content_key(image, f"{fingerprint} {vlm.chat.prompt_ids(count, 0)} {answer}")
            for image, count, answer in zip(images, counts, answers, strict=True)
        ]

        def compute(indices: Sequence[int]) -> dict[str, Tensor]:
            """Those of the samples that are missing: `states` (B,K,D) and `count` (B,)."""
            vision = self.vision_features([images[i] for i in indices])
            prefix = vlm.prefix(vision, [counts[i] for i in indices])
            missing = [answers[i] for i in indices]
            forced = vlm.teacher_forced(prefix, missing, predictions=False)
            return {"states": forced.states_BKD, "count": forced.count_B}

        rows = _to(cache.rows(keys, range(len(keys)), compute), vlm.device)
        nothing = torch.zeros(len(keys), 0, device=vlm.device)
        return TeacherForced(nothing.long(), nothing.bool(), rows["states"], rows["count"], None)


def _to(rows: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same tensors, of any shapes, on a device."""
    return {name: rows[name].to(device) for name in rows}

"""How near an image is to descriptions of textures, and how far from those of objects, by CLIP.

Legend: B, N number of images, P number of positive queries, Q of negative ones, E width of the
common space, H, W size of an image, S side of what CLIP sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from detecture.config.sections.miner_stages import ClipScoreSettings
from detecture.errors import CheckpointError
from detecture.modeling.clip.encoder import PIXEL_DEVIATION, PIXEL_MEAN, ClipEncoder
from detecture.modeling.clip.tokenizer import tokenize
from detecture.modeling.weights.pretrained import LOAD_ERRORS, cannot_load, check_loaded

_BASE_KEY = "MINER.CLIP.BASE"


@dataclass(frozen=True)
class ClipScores:
    """Cosines of images and queries, and what follows.

    Attributes:
        cosines_NP: with each positive query.
        negatives_N: the greatest with a negative query.
        alpha: weight of that.
    """

    cosines_NP: np.ndarray
    negatives_N: np.ndarray
    alpha: float

    @property
    def positives_N(self) -> np.ndarray:
        """The greatest cosine with a positive query, (N,)."""
        return self.cosines_NP.max(axis=1)

    @property
    def scores_N(self) -> np.ndarray:
        """The scores, (N,)."""
        return self.positives_N - self.alpha * self.negatives_N

    def ranks(self) -> np.ndarray:
        """Places of the images, (N,), 1 the best; the earlier one first where equal."""
        ranks_N = np.empty(len(self.negatives_N), np.int64)
        ranks_N[np.argsort(-self.scores_N, kind="stable")] = np.arange(1, ranks_N.size + 1)
        return ranks_N

    def passes(self, threshold: float, top_k: int) -> np.ndarray:
        """Which images pass, bool (N,): by the score, or as one of the best of a query."""
        passed_N = self.scores_N >= threshold
        for cosines in self.cosines_NP.T:
            passed_N[np.argsort(-cosines, kind="stable")[:top_k]] = True
        return passed_N


def clip_scores(
    images_NE: np.ndarray, positive_PE: np.ndarray, negative_QE: np.ndarray, alpha: float
) -> ClipScores:
    """Scores of features; each is brought to length 1.

    Args:
        images_NE: of the images.
        positive_PE: of the positive queries.
        negative_QE: of the negative ones.
        alpha: weight of the negative ones.
    """
    images_NE = unit(images_NE)
    negatives_NQ = images_NE @ unit(negative_QE).T
    return ClipScores(images_NE @ unit(positive_PE).T, negatives_NQ.max(axis=1), alpha)


def unit(features_NE: np.ndarray) -> np.ndarray:
    """Features of length 1, (N,E); what is no number is 0, and so is what has no length."""
    features_NE = np.nan_to_num(features_NE.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.linalg.norm(features_NE, axis=1, keepdims=True)
    return np.divide(features_NE, lengths, out=np.zeros_like(features_NE), where=lengths > 0)


class ClipScorer:
    """CLIP with the features of the queries."""

    def __init__(self, encoder: ClipEncoder, settings: ClipScoreSettings) -> None:
        """Encode the queries.

        Args:
            encoder: CLIP, on its device.
            settings: of the stage.
        """
        self._encoder, self.settings = encoder, settings
        self._side = int(encoder.model.config.vision_config.image_size)
        texts = [*settings.positive, *settings.negative]
        with torch.inference_mode():
            features = encoder.encode_text(tokenize(texts, encoder.context_length))
        table = features.float().cpu().numpy()
        count = len(settings.positive)
        self._positive_PE, self._negative_QE = table[:count], table[count:]

    @classmethod
    def load(cls, settings: ClipScoreSettings, device: torch.device) -> ClipScorer:
        """CLIP with the weights of the settings.

        Raises:
            CheckpointError: they cannot be had.
        """
        from transformers import CLIPModel

        try:
            model, info = CLIPModel.from_pretrained(settings.base, output_loading_info=True)
        except LOAD_ERRORS as error:
            raise CheckpointError(
                cannot_load(
                    settings.base,
                    error,
                    _BASE_KEY,
                    kind="CLIP",
                    files="config.json and model.safetensors, as save_pretrained writes them",
                    origin="The weights are free (openai/clip-vit-base-patch32 on the hub).",
                )
            ) from error
        check_loaded(info, settings.base, "CLIP")
        return cls(ClipEncoder(model.float().eval().to(device)), settings)

    def features(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Features (E,) of images uint8 (H,W,3), a batch at a time, in their order."""
        waiting = iter(images)
        while batch := list(islice(waiting, self.settings.batch_size)):
            pixels_B3SS = torch.stack([self._preprocess(image) for image in batch])
            with torch.inference_mode():
                model = self._encoder.model
                pooled = model.vision_model(
                    pixel_values=pixels_B3SS.to(self._encoder.device)
                ).pooler_output
                features_BE = functional.normalize(model.visual_projection(pooled).float(), dim=1)
            yield from features_BE.cpu().numpy()

    def scores(self, features: Sequence[np.ndarray]) -> ClipScores:
        """Scores of the features (E,) of images."""
        images_NE = np.stack(features)
        return clip_scores(images_NE, self._positive_PE, self._negative_QE, self.settings.alpha)

    def _preprocess(self, image: np.ndarray) -> Tensor:
        """As CLIP was trained: the shorter side to S, bicubic, and the square in the middle.

        Args:
            image: uint8 (H,W,3).

        Returns:
            float (3,S,S), normalised.
        """
        side = self._side
        scale = side / min(image.shape[:2])
        height, width = (max(side, round(length * scale)) for length in image.shape[:2])
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        square = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32)
        normalised = (square - np.array(PIXEL_MEAN, np.float32)) / np.array(
            PIXEL_DEVIATION, np.float32
        )
        return torch.from_numpy(normalised.transpose(2, 0, 1).copy())


def is_candidate(
    passed: bool, size: tuple[int, int], settings: ClipScoreSettings, *, published: bool
) -> bool:
    """Whether CLIP is asked about an image.

    The published run asks only about those that passed the first stage, so that only they have
    CLIP's part in their scores; here it is asked about all.

    Args:
        passed: the first stage.
        size: height and width.
        settings: of the stage.
        published: as published.
    """
    return not published or (passed and min(size) >= settings.least_side)

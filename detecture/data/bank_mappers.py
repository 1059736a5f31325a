"""Maps records of data sets composed from a bank of textures, for training only."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

from detecture.d2 import CfgNode, configurable
from detecture.data.mapper import DATASET_MAPPER_REGISTRY
from detecture.data.synthetic.bank_source import BankSource
from detecture.errors import ConfigError

Composed = tuple[np.ndarray, np.ndarray, dict[str, Any]]


class _BankMapper(ABC):
    """From records `{image_id, seed, index}` to mapped dicts."""

    @configurable
    def __init__(self, *, source: BankSource, size: int) -> None:
        """Keep what composes the images, and their side in pixels.

        It is built in the main process, before any worker starts, so that a bank is drawn only
        once.
        """
        self.source = source
        self.size = size

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, dataset_name: str | None = None
    ) -> dict[str, Any]:
        """Arguments from a config.

        Raises:
            ConfigError: the data set is requested for evaluation.
        """
        if not is_train:
            raise ConfigError(
                f"data set {dataset_name} is for training only. Set DATASETS.TEST to synthetic_val"
            )
        return {"source": BankSource(cfg), "size": cfg.INPUT.TRAIN_SIZE}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Compose the image: `image`, `sem_seg` (never 0), and the entries of every mapped dict."""
        image, labels, words = self.compose(record["seed"], record["index"])
        return {
            "file_name": record["image_id"],
            "image_id": record["image_id"],
            "height": self.size,
            "width": self.size,
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(labels + 1),
            **words,
        }

    @abstractmethod
    def compose(self, seed: int, index: int) -> Composed:
        """Image uint8 (S,S,3), regions int64 (S,S) from 0 on, and what is known about them."""


@DATASET_MAPPER_REGISTRY.register()
class MosaicMapper(_BankMapper):
    """Records of `synthetic_mosaics`, whose regions have no words."""

    def compose(self, seed: int, index: int) -> Composed:
        """See `compose_mosaic`."""
        return *self.source.mosaic(seed, index, self.size), {"descriptions": []}


@DATASET_MAPPER_REGISTRY.register()
class SwatchMapper(_BankMapper):
    """Records of `synthetic_swatches`; mapped dicts also have `attributes`, one per region."""

    def compose(self, seed: int, index: int) -> Composed:
        """See `compose_swatches`."""
        scene = self.source.swatches(seed, index, self.size)
        words = {"descriptions": scene.descriptions, "attributes": scene.attributes}
        return scene.image, scene.masks.argmax(axis=0), words

"""Maps records of `synthetic_mosaics`, for training only."""

from typing import Any

import numpy as np
import torch

from detecture.d2 import CfgNode, configurable
from detecture.data.mapper import DATASET_MAPPER_REGISTRY
from detecture.data.synthetic.mosaic_source import MosaicSource
from detecture.errors import ConfigError


@DATASET_MAPPER_REGISTRY.register()
class MosaicMapper:
    """From records `{image_id, seed, index}` to mapped dicts whose regions have no words."""

    @configurable
    def __init__(self, *, source: MosaicSource, size: int) -> None:
        """Keep what composes the pictures, and their side in pixels.

        It is made in the main process, before any worker starts, so that a bank is drawn once.
        """
        self.source = source
        self.size = size

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, dataset_name: str | None = None
    ) -> dict[str, Any]:
        """Arguments from a config.

        Raises:
            ConfigError: the data set is asked for an evaluation.
        """
        if not is_train:
            raise ConfigError(
                f"data set {dataset_name} is for training only: its regions have no words. Set "
                "DATASETS.TEST to synthetic_val"
            )
        return {"source": MosaicSource(cfg), "size": cfg.INPUT.TRAIN_SIZE}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Compose the picture: `image`, `sem_seg` (0 nowhere), and what every mapped dict has."""
        image, labels = self.source.compose(record["seed"], record["index"], self.size)
        return {
            "file_name": record["image_id"],
            "image_id": record["image_id"],
            "height": self.size,
            "width": self.size,
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(labels + 1),
            "descriptions": [],
        }

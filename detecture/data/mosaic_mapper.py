"""Maps records of `synthetic_mosaics`, for training only."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from detecture.d2 import CfgNode, configurable
from detecture.data.mapper import DATASET_MAPPER_REGISTRY
from detecture.data.synthetic.bank import open_bank
from detecture.data.synthetic.mosaic import compose_mosaic
from detecture.errors import ConfigError


@DATASET_MAPPER_REGISTRY.register()
class MosaicMapper:
    """From records `{image_id, seed, index}` to mapped dicts whose regions have no words.

    Args:
        folder: of the texture bank.
        count, first: of its textures.
        size: side of the pictures in pixels.
    """

    @configurable
    def __init__(self, *, folder: str, count: int, first: int, size: int) -> None:
        self.folder = folder
        self.count = count
        self.first = first
        self.size = size
        # In the main process, before any worker starts: it is drawn once, and takes minutes.
        open_bank(folder, count, first)
        self._bank: np.ndarray | None = None

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
        bank = cfg.INPUT.TEXTURE_BANK
        return {
            "folder": bank.FOLDER or str(Path(cfg.OUTPUT_DIR) / "texture_bank"),
            "count": bank.COUNT,
            "first": bank.FIRST,
            "size": cfg.INPUT.TRAIN_SIZE,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Compose the picture: `image`, `sem_seg` (0 nowhere), and what every mapped dict has."""
        if self._bank is None:  # a memory map must not be sent to workers
            self._bank = open_bank(self.folder, self.count, self.first)
        image, labels = compose_mosaic(self._bank, record["seed"], record["index"], self.size)
        return {
            "file_name": record["image_id"],
            "image_id": record["image_id"],
            "height": self.size,
            "width": self.size,
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(labels + 1),
            "descriptions": [],
        }

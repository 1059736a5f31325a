"""From a dataset dict to a model's input."""

import logging
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode

from detecture.config.sections.evaluation import EvaluationSettings
from detecture.config.sections.images import InputSettings
from detecture.d2 import MetadataCatalog, Registry, configurable
from detecture.data.ground_truth import GroundTruth, draw_procedural, load_ground_truth
from detecture.data.image_io import read_image
from detecture.data.k_hint import FROM_TRUTH, KHint, resolve_k_hint
from detecture.data.synthetic import DEFAULT_SIZE, LEAST_SIZE
from detecture.data.transforms import keep_survivors, micro_crop, resize_image, resize_labels
from detecture.errors import ConfigError, DatasetError, DetectureError, ImageError

logger = logging.getLogger(__name__)

DATASET_MAPPER_REGISTRY = Registry("DATASET_MAPPER")
DATASET_MAPPER_REGISTRY.__doc__ = """
Registry of mappers. A data set's metadata names its mapper (`register_texture_dataset(mapper=)`).

The registered object is called as `obj(cfg, is_train, dataset_name=name)` and returns a function
from a dataset dict to a mapped dict, such as `TextureMapper` describes. In training that function
may return None: the record is unusable and another one takes its place. In evaluation it never may,
and never lets anything of the ground truth into its result (but with TEST.ORACLE).
"""


def build_mapper(cfg: CfgNode, name: str, is_train: bool, dataset_name: str) -> Any:
    """Build the mapper that a data set's metadata names.

    Raises:
        ConfigError: no mapper of this name is registered.
    """
    if name not in DATASET_MAPPER_REGISTRY:
        known = ", ".join(sorted(key for key, _ in DATASET_MAPPER_REGISTRY))
        raise ConfigError(
            f"data set {dataset_name!r} wants the mapper {name!r}, which is not registered; known "
            f"are {known}. Import the module that registers it"
        )
    return DATASET_MAPPER_REGISTRY.get(name)(cfg, is_train, dataset_name=dataset_name)


@DATASET_MAPPER_REGISTRY.register()
class TextureMapper:
    """Maps records of texture data sets (`register_texture_dataset`).

    In evaluation a record becomes `image` (uint8 RGB tensor (3,H,W), native size), `file_name`,
    `image_id`, `height`, `width`, `k_hint`, and nothing of the ground truth. An image that cannot
    be read becomes a dict without `image`, with `height` and `width` 0, a `status`
    (`image_unreadable`, or `ground_truth_unreadable` where the hint or the oracle needs the masks)
    and an `error` text, so that the run continues and the failure is recorded.

    In training the image is stretched to a square of INPUT.TRAIN_SIZE, and `sem_seg` (int64
    (S,S): 0 dustbin, i texture i, later masks over earlier) and `descriptions`
    come with it; `height` and `width` are the image's own. Textures without a visible pixel are
    left out of both; with INPUT.KEEP_HIDDEN only those whose own mask has no pixel left. A record
    that cannot be used is logged and becomes None.

    Random numbers come from torch's generator of the process, which the loader seeds for every
    worker; the mapper itself has no state, so a resumed run has nothing to restore.

    Args:
        is_train: training or evaluation.
        settings: the pixel limit, the side of the training square, the training crop.
        count: `TEST.COUNT`, see `resolve_k_hint`.
        k_regime: the data set's regime.
        oracle: evaluation only: add the true `descriptions` and `oracle: True`.

    Raises:
        ConfigError: a value is out of its range.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        settings: InputSettings | None = None,
        count: str | int = EvaluationSettings.count,
        k_regime: str = "autonomous",
        oracle: bool = EvaluationSettings.oracle,
    ) -> None:
        resolve_k_hint(count, k_regime, true_k=1)  # a wrong TEST.COUNT fails now, not in a worker
        self.is_train = is_train
        self.settings = settings or InputSettings()
        self.count = count
        self.k_regime = k_regime
        self.oracle = oracle

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, dataset_name: str | None = None
    ) -> dict[str, Any]:
        """Arguments from a config; `dataset_name` gives the regime (none: `autonomous`)."""
        metadata = MetadataCatalog.get(dataset_name) if dataset_name else None
        return {
            "is_train": is_train,
            "settings": InputSettings.from_config(cfg),
            "count": cfg.TEST.COUNT,
            "k_regime": metadata.get("k_regime", "autonomous") if metadata else "autonomous",
            "oracle": cfg.TEST.ORACLE,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """Map one dataset dict, which is not changed; see the class for the result."""
        return self._for_training(record) if self.is_train else self._for_evaluation(record)

    def load(
        self, record: dict[str, Any], with_truth: bool
    ) -> tuple[np.ndarray, GroundTruth | None]:
        """The image of a record, uint8 (H,W,3), and, if requested, its true regions.

        Raises:
            ImageError: the image cannot be read.
            DatasetError: its ground truth cannot be read.
        """
        image = read_image(record["file_name"], self.settings.max_pixels, self.settings.bands)
        return image, load_ground_truth(record, self.settings.max_pixels) if with_truth else None

    def _for_evaluation(self, record: dict[str, Any]) -> dict[str, Any]:
        mapped = {
            "file_name": _file_name(record),
            "image_id": record["image_id"],
            "height": 0,
            "width": 0,
            "k_hint": KHint(),
        }
        try:
            image, truth = self.load(record, self.oracle or self.count in FROM_TRUTH)
        except ImageError as error:
            return {**mapped, "status": "image_unreadable", "error": str(error)}
        except DatasetError as error:
            return {**mapped, "status": "ground_truth_unreadable", "error": str(error)}
        true_k = None if truth is None else len(truth.masks)
        mapped["k_hint"] = resolve_k_hint(self.count, self.k_regime, true_k)
        mapped["height"], mapped["width"] = image.shape[:2]
        mapped["image"] = _as_tensor(image)
        if self.oracle and truth is not None:
            mapped["descriptions"] = truth.descriptions
            mapped["oracle"] = True
        return mapped

    def _for_training(self, record: dict[str, Any]) -> dict[str, Any] | None:
        try:
            image, truth = self.load(record, True)
        except DetectureError as error:
            logger.warning("Training record %r is left out: %s", record["image_id"], error)
            return None
        if truth is None:
            raise TypeError(f"{type(self).__name__}.load: gives no ground truth where it is asked")
        height, width = image.shape[:2]
        image, labels, descriptions = self._augment(image, truth)
        if not descriptions:
            logger.warning(
                "Training record %r is left out: at INPUT.TRAIN_SIZE %d no texture of %s has a "
                "pixel left",
                record["image_id"],
                self.settings.train_size,
                _file_name(record),
            )
            return None
        return {
            "file_name": _file_name(record),
            "image_id": record["image_id"],
            "height": height,
            "width": width,
            "image": _as_tensor(image),
            "sem_seg": torch.from_numpy(labels),
            "descriptions": descriptions,
        }

    def _augment(
        self, image: np.ndarray, truth: GroundTruth
    ) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """An image, uint8 (H,W,3), and its truth at INPUT.TRAIN_SIZE = S, sometimes cropped.

        Returns:
            uint8 (S,S,3), int64 (S,S) and the descriptions of the regions that are left.
        """
        square = (self.settings.train_size, self.settings.train_size)
        masks = None
        if self.settings.keep_hidden:
            masks = np.stack([resize_labels(mask, square) for mask in truth.masks])
        labels, descriptions = keep_survivors(
            resize_labels(truth.index_map, square), truth.descriptions, masks=masks
        )
        if masks is not None:
            masks = masks[masks.any(axis=(1, 2))]
        random = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        image = resize_image(image, square)
        return micro_crop(self.settings.micro_crop, image, labels, descriptions, random, masks)


@DATASET_MAPPER_REGISTRY.register()
class SyntheticMapper(TextureMapper):
    """Maps records of procedural data sets: draws their images instead of reading files.

    Like `TextureMapper`, except that `file_name` is the `image_id`. In evaluation images are
    `DEFAULT_SIZE` pixels wide and high; in training they are drawn at INPUT.TRAIN_SIZE, or, if that
    is more than `GREATEST_TRAIN_SIZE`, at the latter and stretched.
    """

    GREATEST_TRAIN_SIZE = 512
    """Drawing time grows with the square of the side; a larger one would starve the training."""

    def load(
        self, record: dict[str, Any], with_truth: bool
    ) -> tuple[np.ndarray, GroundTruth | None]:
        """Draw the image, uint8 (S,S,3), of a `{image_id, seed, index}`; the truth is free."""
        size = DEFAULT_SIZE
        if self.is_train:
            size = min(max(self.settings.train_size, LEAST_SIZE), self.GREATEST_TRAIN_SIZE)
        image, truth = draw_procedural(record, size)
        return image, truth if with_truth else None


def _file_name(record: dict[str, Any]) -> str:
    """A record's name in messages; procedural ones have no file."""
    name: str = record.get("file_name", record["image_id"])
    return name


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H,W,3) to uint8 (3,H,W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

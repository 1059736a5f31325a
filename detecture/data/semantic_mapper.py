"""From a dataset dict of semantic segmentation to a model's input."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detecture.config.sections.images import InputSettings
from detecture.config.sections.semantic import SemanticTestSettings, VocabularySettings
from detecture.d2 import CfgNode, configurable
from detecture.data.datasets.semantic import SemanticSet, is_semantic, semantic_set
from detecture.data.image_io import read_image
from detecture.data.k_hint import KHint
from detecture.data.mapper import DATASET_MAPPER_REGISTRY
from detecture.data.semantic_transforms import SemanticAugmentation
from detecture.data.semantic_truth import NO_CLASS, load_labels
from detecture.data.vocabulary import Vocabulary
from detecture.errors import ConfigError, DatasetError, DetectureError, ImageError

logger = logging.getLogger(__name__)


@DATASET_MAPPER_REGISTRY.register()
class SemanticMapper:
    """Maps records of sets of semantic segmentation (`register_semantic_dataset`).

    In evaluation a record becomes `image` (uint8 RGB tensor (3,H,W), native size), `file_name`,
    `image_id`, `height`, `width`, `k_hint` (nothing) and `vocabulary`: the classes that the model
    is to tell apart, all of the set's, or, for an oracle, those in the image; the mapped dict then
    has `oracle: True`, and their numbers in `class_ids`. An image that cannot be read becomes a
    dict without `image`, as with `TextureMapper`.

    In training image and labels are changed as `SemanticAugmentation` says; `sem_seg` (int64 (h,w))
    has `ignore_value` where a pixel has no class. A record that cannot be used is logged and
    becomes None.

    Args:
        is_train: training or evaluation.
        source: the set.
        ignore_value: MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
        settings: the pixel limit.
        vocabulary: replaces the set's own; has the same number of classes.
        augmentation: for training.
        per_image: evaluation only: the oracle.

    Raises:
        ConfigError: the class list differs in length from the set's, or the ignored value would be
            a class.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        source: SemanticSet,
        ignore_value: int,
        settings: InputSettings | None = None,
        vocabulary: Vocabulary | None = None,
        augmentation: SemanticAugmentation | None = None,
        per_image: bool = False,
    ) -> None:
        self.is_train = is_train
        self.source = source
        self.settings = settings or InputSettings()
        self.vocabulary = vocabulary or source.vocabulary
        self.augmentation = augmentation
        self.per_image = per_image
        self.ignore_value = ignore_value
        self._told_of_empty = False
        classes = len(source.vocabulary)
        if len(self.vocabulary) != classes:
            part = "TRAIN" if is_train else "TEST"
            raise ConfigError(
                f"MODEL.VOCABULARY.{part} has {len(self.vocabulary)} classes, the data set "
                f"{source.name} {classes}; give a list of {classes}, in the order of its labels"
            )
        if is_train and 0 <= ignore_value < classes:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE {ignore_value} is one of the {classes} classes "
                f"of {source.name}; set it to 65535"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool, dataset_name: str) -> dict[str, Any]:
        """Arguments from a config, for a registered set."""
        names = VocabularySettings.from_config(cfg)
        named = names.train if is_train else names.test
        source = semantic_set(dataset_name)
        if is_train and not named:
            _require_one_vocabulary(tuple(cfg.DATASETS.TRAIN))
        return {
            "is_train": is_train,
            "source": source,
            "settings": InputSettings.from_config(cfg),
            "vocabulary": Vocabulary.load(named) if named else None,
            "augmentation": SemanticAugmentation.from_config(cfg) if is_train else None,
            "per_image": SemanticTestSettings.from_config(cfg).vocabulary == "per_image",
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """Map one dataset dict, which is not changed; see the class for the result."""
        return self._for_training(record) if self.is_train else self._for_evaluation(record)

    def _for_evaluation(self, record: dict[str, Any]) -> dict[str, Any]:
        mapped = {
            "file_name": record["file_name"],
            "image_id": record["image_id"],
            "height": 0,
            "width": 0,
            "k_hint": KHint(),
            "vocabulary": self.vocabulary,
        }
        try:
            image = read_image(record["file_name"], self.settings.max_pixels, self.settings.bands)
            if self.per_image:
                mapped |= self._oracle(self._labels(record, image))
        except ImageError as error:
            return {**mapped, "status": "image_unreadable", "error": str(error)}
        except DatasetError as error:
            return {**mapped, "status": "ground_truth_unreadable", "error": str(error)}
        mapped["height"], mapped["width"] = image.shape[:2]
        return {**mapped, "image": _as_tensor(image)}

    def _oracle(self, labels: np.ndarray) -> dict[str, Any]:
        """The classes in labels, integers (H,W); all, if there are none."""
        present = [int(label) for label in np.unique(labels) if label != NO_CLASS]
        present = present or list(range(len(self.vocabulary)))
        items = tuple(self.vocabulary.items[label] for label in present)
        vocabulary = replace(self.vocabulary, items=items)
        return {"vocabulary": vocabulary, "class_ids": present, "oracle": True}

    def _for_training(self, record: dict[str, Any]) -> dict[str, Any] | None:
        if self.augmentation is None:
            raise TypeError("SemanticMapper: training needs an augmentation")
        try:
            image = read_image(record["file_name"], self.settings.max_pixels, self.settings.bands)
            labels = self._labels(record, image)
        except DetectureError as error:
            logger.warning("Training record %r is left out: %s", record["image_id"], error)
            return None
        if not self._told_of_empty and (labels == NO_CLASS).all():
            self._told_of_empty = True  # once is enough: in some sets many images are empty
            logger.warning(
                "%s: no pixel has a class (all are %d). From such images no mask is learnt; if "
                "those of %s are all so, the training learns none",
                *(record["sem_seg_file_name"], self.source.ignore_label, self.source.label_root),
            )
        height, width = image.shape[:2]
        random = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        image, labels = self.augmentation(image, labels, random)
        labels[labels == NO_CLASS] = self.ignore_value
        return {
            "file_name": record["file_name"],
            "image_id": record["image_id"],
            "height": height,
            "width": width,
            "image": _as_tensor(image),
            "sem_seg": torch.from_numpy(labels),
        }

    def _labels(self, record: dict[str, Any], image: np.ndarray) -> np.ndarray:
        """Labels, int32 (H,W), of an image, uint8 (H,W,3)."""
        return load_labels(
            record,
            len(self.source.vocabulary),
            self.source.ignore_label,
            self.settings.max_pixels,
            size=(image.shape[0], image.shape[1]),
        )


def _require_one_vocabulary(names: tuple[str, ...]) -> None:
    """Check that all training sets share one class list: a batch is asked for one.

    Raises:
        ConfigError: they have several.
    """
    others = [name for name in names if is_semantic(name)]
    lists = {semantic_set(name).vocabulary for name in others}
    if len(lists) > 1 or len(others) < len(names):
        raise ConfigError(
            f"DATASETS.TRAIN {names}: the sets have different classes; train on one, or on sets of "
            "one class list"
        )


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H,W,3) to uint8 (3,H,W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

"""Maps records of the procedural data sets of open-vocabulary segmentation.

Legend: T names, S side of the images.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detecture.config.sections.images import InputSettings
from detecture.d2 import CfgNode, MetadataCatalog, configurable
from detecture.data.k_hint import KHint
from detecture.data.mapper import DATASET_MAPPER_REGISTRY
from detecture.data.synthetic import DEFAULT_SIZE
from detecture.data.synthetic.bank_source import BankSource
from detecture.data.synthetic.combinations import draw_combinations
from detecture.data.synthetic.named_mosaics import Look, NamedMosaic
from detecture.data.synthetic.names import concepts_of, draw_names, draw_others, is_held_out
from detecture.data.synthetic.streams import WORDS, stream
from detecture.data.vocabulary import Vocabulary

_MOST_OTHERS = 3
_NAMES = 3  # per class in training
_EVALUATION_BANK = (10_000_000, 600)
"""First texture and number of textures: no training bank reaches that far."""


@dataclass(frozen=True)
class NamedRegions:
    """The ground truth of an evaluation image.

    Attributes:
        image: uint8 (S,S,3).
        names: T of them.
        masks: bool (T,S,S).
        held_out: for each name, whether its combination was never named in training.
    """

    image: np.ndarray
    names: list[str]
    masks: np.ndarray
    held_out: list[bool]


@DATASET_MAPPER_REGISTRY.register()
class OpenVocabularyMapper:
    """Maps records of `synthetic_open_train` and `synthetic_open_val`.

    A mapped dict has `image` (uint8 (3,S,S)), `vocabulary`, the names of this image in any order,
    and in training `sem_seg` (int64 (S,S)): the number of a name, or `ignore_value` where a region
    has none, because it may not be named (`names.is_held_out`) or words cannot tell it from
    another; and `concepts` of each class (`names.concepts_of`). In training new names are drawn
    each time a record is read, several for each class, including some for things that are absent;
    in evaluation each has a colour and a noun, and all are present.
    """

    @configurable
    def __init__(self, *, is_train: bool, source: BankSource, size: int, ignore_value: int) -> None:
        """Keep what composes the images.

        Args:
            is_train: training or evaluation.
            source: source of the images; built in the main process, so that a bank is drawn only
                once.
            size: S.
            ignore_value: MODEL.SEM_SEG_HEAD.IGNORE_VALUE.
        """
        self.is_train, self.source, self.size = is_train, source, size
        self.ignore_value = ignore_value

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, dataset_name: str | None = None
    ) -> dict[str, Any]:
        """Arguments from a config."""
        del dataset_name
        source = BankSource(cfg) if is_train else _evaluation_source(cfg)
        return {
            "is_train": is_train,
            "source": source,
            "size": cfg.INPUT.TRAIN_SIZE if is_train else DEFAULT_SIZE,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """Compose and name the image of a record; None where no region can be named."""
        mapped = {
            "file_name": record["image_id"],
            "image_id": record["image_id"],
            "height": self.size,
            "width": self.size,
        }
        if not self.is_train:
            truth = self.truth(record)
            vocabulary = Vocabulary.of([[name] for name in truth.names])
            image = _as_tensor(truth.image)
            return {**mapped, "image": image, "vocabulary": vocabulary, "k_hint": KHint()}
        scene = self.source.named(record["seed"], record["index"], self.size)
        rng = np.random.default_rng(int(torch.randint(2**63 - 1, ())))
        named = self._named(rng, scene)
        if named is None:
            return None
        classes, labels = named
        return {
            **mapped,
            "image": _as_tensor(scene.image),
            "sem_seg": torch.from_numpy(labels),
            "vocabulary": Vocabulary.of([names for names, _ in classes]),
            "concepts": [concepts_of(look) for _, look in classes],
        }

    def truth(self, record: dict[str, Any]) -> NamedRegions:
        """Image, names and masks of a record, as an evaluation needs them."""
        seed, index = record["seed"], record["index"]
        scene = self.source.named(seed, index, self.size)
        rng = stream(seed, index, WORDS)
        numbers = [i for i, look in enumerate(scene.looks) if look is not None]
        looks = [look for look in scene.looks if look is not None]
        names = draw_names(rng, looks, plain=True)
        told = [i for i, found in enumerate(names) if found]
        return NamedRegions(
            scene.image,
            [names[i][0] for i in told],
            np.stack([scene.labels == numbers[i] for i in told])
            if told
            else np.zeros((0, self.size, self.size), bool),
            [is_held_out(looks[i]) for i in told],
        )

    def _named(
        self, rng: np.random.Generator, scene: NamedMosaic
    ) -> tuple[list[tuple[list[str], Look]], np.ndarray] | None:
        """Names and looks of classes in any order, and labels int64 (S,S)."""
        numbers = [i for i, look in enumerate(scene.looks) if look is not None]
        looks = [look for look in scene.looks if look is not None]
        classes = [
            (number, names, look)
            for number, names, look in zip(
                numbers, draw_names(rng, looks, _NAMES), looks, strict=True
            )
            if names and not is_held_out(look)
        ]
        if not classes:
            return None
        absent = int(rng.integers(_MOST_OTHERS + 1))
        others = draw_others(rng, looks, self.source.kinds, absent, _NAMES)
        used = {name for _, names, _ in classes for name in names}
        classes += [(-1, names, look) for names, look in others if used.isdisjoint(names)]
        labels = np.full(scene.labels.shape, self.ignore_value, np.int64)
        order = [classes[int(i)] for i in rng.permutation(len(classes))]
        for place, (number, _, _) in enumerate(order):
            labels[scene.labels == number] = place
        return [(names, look) for _, names, look in order], labels


@DATASET_MAPPER_REGISTRY.register()
class CombinationMapper:
    """Maps records of `synthetic_combinations_train` and `_held_out`.

    A mapped dict has `image` (uint8 (3,S,S)) and `sem_seg` (int64 (S,S)), in evaluation too: the
    sets are for measuring whether training works.
    """

    @configurable
    def __init__(self, *, size: int, held_out: bool) -> None:
        """Args: `size`: S; `held_out`: which combinations the images show."""
        self.size, self.held_out = size, held_out

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool, dataset_name: str | None = None
    ) -> dict[str, Any]:
        """Arguments from a config."""
        del is_train
        held_out = MetadataCatalog.get(str(dataset_name)).held_out
        return {"size": cfg.INPUT.TRAIN_SIZE, "held_out": held_out}

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Draw the image of a record."""
        seed, index = record["seed"], record["index"]
        image, labels = draw_combinations(seed, index, self.size, self.held_out)
        return {
            "file_name": record["image_id"],
            "image_id": record["image_id"],
            "height": self.size,
            "width": self.size,
            "image": _as_tensor(image),
            "sem_seg": torch.from_numpy(labels),
            "k_hint": KHint(),
        }


def _evaluation_source(cfg: CfgNode) -> BankSource:
    """Textures that no training has seen; their bank lies beside the training bank."""
    settings = InputSettings.from_config(cfg)
    bank = settings.texture_bank
    first, count = _EVALUATION_BANK
    folder = bank.folder or str(Path(cfg.OUTPUT_DIR) / "texture_bank")
    own = replace(bank, first=first, count=min(count, bank.count))
    return BankSource(folder=f"{folder}_evaluation", settings=replace(settings, texture_bank=own))


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (S,S,3) to uint8 (3,S,S)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

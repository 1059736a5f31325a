"""The procedural data sets: endless by nature, three splits by seed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import Any, overload

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.synthetic import FIRST_EDITION, plan_of


@dataclass(frozen=True)
class ProceduralRecords(Sequence[dict[str, Any]]):
    """Records `{image_id, seed, index, edition}` of one split, made when they are asked for.

    Attributes:
        name: of the data set; begins the image ids.
        seed: of the data set.
        length: number of records.
        edition: of the generator.
        fits: a condition on K and on whether part of the image is unlabelled; the first images that
            meet it count. None: all do.
    """

    name: str
    seed: int
    length: int
    edition: int = FIRST_EDITION
    fits: Callable[[int, bool], bool] | None = None

    @cached_property
    def _indices(self) -> Sequence[int]:
        if self.fits is None:
            return range(self.length)
        fitting = (index for index in count() if self.fits(*plan_of(self.seed, index)))
        return list(islice(fitting, self.length))

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self._record(i) for i in self._indices[index]]
        return self._record(self._indices[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._record, self._indices)

    def __call__(self) -> "ProceduralRecords":
        """Itself: what a catalog calls to load the data set."""
        return self

    def _record(self, index: int) -> dict[str, Any]:
        return {
            "image_id": f"{self.name}_{index:07d}",
            "seed": self.seed,
            "index": index,
            "edition": self.edition,
        }


# A test set's images must never be trained on: each split has a seed of its own. `synthetic_test`
# is frozen (tests/data/synthetic/frozen.json): its seed, length and edition never change.
SPLITS = {
    split.name: split
    for split in (
        ProceduralRecords("synthetic_train", seed=1, length=1_000_000, edition=2),
        ProceduralRecords("synthetic_val", seed=2, length=500, edition=2),
        ProceduralRecords("synthetic_test", seed=3, length=1_000, edition=1),
    )
}
"""The splits by the names of their data sets."""


def register_synthetic_datasets() -> None:
    """Register `synthetic_train`, `synthetic_val` and `synthetic_test`; again does no harm."""
    for records in SPLITS.values():
        register_procedural(records)


def register_procedural(
    records: ProceduralRecords, *, k_regime: str = "autonomous", subject: str = ""
) -> None:
    """Register a procedural data set under its name; again does no harm.

    Args:
        records: of the data set.
        k_regime: see `register_texture_dataset`.
        subject: likewise.
    """
    # Catalogs say "list", but need no more than a sequence: a million dicts would be waste.
    loader: Any = records
    if records.name not in DatasetCatalog.list():
        DatasetCatalog.register(records.name, loader)
    MetadataCatalog.get(records.name).set(
        k_regime=k_regime,
        subject=subject,
        evaluator_type="texture",
        mapper="SyntheticMapper",
        seed=records.seed,
        edition=records.edition,
    )

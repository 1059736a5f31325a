"""The procedural data sets: endless by nature, three splits by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.synthetic import FIRST_EDITION


@dataclass(frozen=True)
class ProceduralRecords(Sequence[dict[str, Any]]):
    """Records `{image_id, seed, index, edition}` of one split, made when they are asked for.

    Attributes:
        name: of the data set; begins the image ids.
        seed: of the data set.
        length: number of records.
        edition: of the generator.
    """

    name: str
    seed: int
    length: int
    edition: int = FIRST_EDITION

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self._record(i) for i in range(*index.indices(self.length))]
        # range does what a list does: negative indices, and IndexError beyond the end.
        return self._record(range(self.length)[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._record, range(self.length))

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


# A test set's pictures must never be trained on: each split has a seed of its own. `synthetic_test`
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
    for name, records in SPLITS.items():
        # Catalogs say "list", but need no more than a sequence: a million dicts would be waste.
        loader: Any = records
        if name not in DatasetCatalog.list():
            DatasetCatalog.register(name, loader)
        MetadataCatalog.get(name).set(
            k_regime="autonomous",
            subject="",
            evaluator_type="texture",
            mapper="SyntheticMapper",
            seed=records.seed,
            edition=records.edition,
        )

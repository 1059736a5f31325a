"""Procedural data sets in the regimes of the published ones, to run a benchmark without those.

They show that all goes through, and what a method does where K is 1, 2 or unknown; they are not
like the pictures of the data sets they stand in for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import Any, overload

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.synthetic import LATEST_EDITION, plan_of

_SEED = 6


@dataclass(frozen=True)
class ChosenRecords(Sequence[dict[str, Any]]):
    """Records of the first procedural pictures of a seed that fit.

    Attributes:
        name: of the data set; begins the image ids.
        length: number of records.
        fits: of K, and whether a part of the picture is unlabelled.
    """

    name: str
    length: int
    fits: Callable[[int, bool], bool]

    @cached_property
    def _indices(self) -> list[int]:
        fitting = (index for index in count() if self.fits(*plan_of(_SEED, index)))
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

    def __call__(self) -> "ChosenRecords":
        """Itself: what a catalog calls to load the data set."""
        return self

    def _record(self, index: int) -> dict[str, Any]:
        return {
            "image_id": f"{self.name}_{index:07d}",
            "seed": _SEED,
            "index": index,
            "edition": LATEST_EDITION,
        }


STAND_INS = {
    "stld": "synthetic_pair",
    "ade20k_detecture": "synthetic_autonomous",
    "caid": "synthetic_single",
}
"""Which stand-in is for which published data set."""

_REGIMES = {
    # One region and the rest of the picture, as CAID has water and land.
    ChosenRecords("synthetic_single", 200, lambda k, rest: k == 1 and rest): "single",
    ChosenRecords("synthetic_pair", 200, lambda k, rest: k == 2 and not rest): "pair",
    ChosenRecords("synthetic_autonomous", 212, lambda k, rest: True): "autonomous",
}


def register_stand_ins() -> None:
    """Register the three under their names; again does no harm."""
    for records, regime in _REGIMES.items():
        loader: Any = records
        if records.name not in DatasetCatalog.list():
            DatasetCatalog.register(records.name, loader)
        MetadataCatalog.get(records.name).set(
            k_regime=regime,
            # All that one name can say of textures that differ from picture to picture.
            subject="textured region" if regime == "single" else "",
            evaluator_type="texture",
            mapper="SyntheticMapper",
            seed=_SEED,
            edition=LATEST_EDITION,
        )

"""What the review shows of an image."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """One image.

    Attributes:
        dataset: name of its source.
        item_id: of it.
        image: its file.
        status: `selected`, `borderline`, `rejected`, or another word.
        score: 0 to 100; None: it has none.
        index_mask: file of its regions; None: it has none.
        class_names: of the regions; empty ones are not shown.
        descriptions: of the regions; empty before they are described.
        facts: what else is shown, plain values, such as `s_geom`, `split`, `reason`.
    """

    dataset: str
    item_id: str
    image: Path
    status: str
    score: float | None = None
    index_mask: Path | None = None
    class_names: Sequence[str] = ()
    descriptions: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def by_score(rows: Iterable[ReviewRow]) -> list[ReviewRow]:
    """The best first; those without a score last; equals by their ids."""
    return sorted(
        rows,
        key=lambda row: (row.score is None, -(row.score or 0.0), row.dataset, row.item_id),
    )

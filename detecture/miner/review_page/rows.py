"""What the review shows of an image, and a choice of images where there are too many."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SELECTED, BORDERLINE, REJECTED = "selected", "borderline", "rejected"

_SHARES = {SELECTED: 0.35, BORDERLINE: 0.25, REJECTED: 0.40}


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


def balanced_subset(rows: Iterable[ReviewRow], limit: int, seed: int = 42) -> list[ReviewRow]:
    """Images of all kinds: 35 % selected, 25 % borderline, 40 % others; what one lacks others fill.

    Of the others half are the best ones, half are drawn.

    Args:
        rows: all there are.
        limit: so many at most; 0: all.
        seed: of what is drawn.

    Returns:
        The best first.
    """
    ordered = by_score(rows)
    if not limit or len(ordered) <= limit:
        return ordered
    pools: dict[str, list[ReviewRow]] = {kind: [] for kind in _SHARES}
    for row in ordered:
        pools[row.status if row.status in pools else REJECTED].append(row)
    counts = _quotas({kind: len(pool) for kind, pool in pools.items()}, limit)
    chosen = [row for kind in (SELECTED, BORDERLINE) for row in pools[kind][: counts[kind]]]
    top = (counts[REJECTED] + 1) // 2
    rest = pools[REJECTED][top:]
    chosen += pools[REJECTED][:top]
    chosen += random.Random(seed).sample(rest, counts[REJECTED] - top)
    return by_score(chosen)


def _quotas(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """How many of each pool: together `limit`, which is no more than there are."""
    counts = {kind: min(sizes[kind], round(share * limit)) for kind, share in _SHARES.items()}
    while (missing := limit - sum(counts.values())) > 0:
        # In turn, and those with the most left first.
        spare = sorted(counts, key=lambda kind: counts[kind] - sizes[kind])
        for kind in [k for k in spare if counts[k] < sizes[k]][:missing]:
            counts[kind] += 1
    return counts

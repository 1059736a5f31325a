"""Batches of files by their size, and a small balanced subset for review."""

import random
from collections.abc import Sequence


def batch_numbers(sizes: Sequence[float], budget: float) -> list[int]:
    """The batch of each file, in order: a new one begins where a file would not fit any more.

    A file that is larger than the budget has a batch of its own.

    Args:
        sizes: of the files, in any unit.
        budget: of a batch, in the same.
    """
    numbers, number, filled = [], 0, 0.0
    for size in sizes:
        if filled and filled + size > budget:
            number, filled = number + 1, 0.0
        numbers.append(number)
        filled += size
    return numbers


def balanced_counts(selected: int, borderline: int, rejected: int, limit: int) -> list[int]:
    """How many of each status a review of `limit` images shows.

    35 % selected, 25 % borderline, 40 % rejected, as far as there are so many; what is left goes
    round, to the status that has most to spare first.

    Args:
        selected: images of this status.
        borderline: likewise.
        rejected: likewise.
        limit: images in all.

    Returns:
        Three numbers, in this order.
    """
    there = (selected, borderline, rejected)
    limit = min(limit, sum(there))
    taken: list[int] = []
    for share, most in zip((0.35, 0.25, 0.40), there, strict=True):
        taken.append(min(round(share * limit), most, limit - sum(taken)))
    while sum(taken) < limit:
        for i in sorted(range(3), key=lambda i: taken[i] - there[i]):
            if taken[i] < there[i] and sum(taken) < limit:
                taken[i] += 1
    return taken


def balanced_subset(
    scores: dict[str, float], statuses: dict[str, str], limit: int, seed: int = 42
) -> list[str]:
    """Ids of a subset for review, in the order of their scores.

    Selected and borderline images are those with the best scores; rejected ones are half the best,
    half drawn by lot.

    Args:
        scores: of each id.
        statuses: of each id: `selected`, `borderline` or `rejected`.
        limit: images in all.
        seed: of the lot.
    """
    ranked = sorted(scores, key=lambda name: (-scores[name], name))
    pools = [
        [name for name in ranked if statuses[name] == status]
        for status in ("selected", "borderline", "rejected")
    ]
    counts = balanced_counts(len(pools[0]), len(pools[1]), len(pools[2]), limit)
    chosen = [*pools[0][: counts[0]], *pools[1][: counts[1]]]
    best = (counts[2] + 1) // 2
    chosen += pools[2][:best]
    chosen += random.Random(seed).sample(pools[2][best:], counts[2] - best)
    kept = set(chosen)
    return [name for name in ranked if name in kept]

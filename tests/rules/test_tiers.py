"""Every test is in one tier."""

from collections import Counter

from tests.conftest import TIERS, tiers_of


def test_every_test_is_in_one_tier(request):
    """Of those that were collected: of all, where all are run."""
    tiers = {item.nodeid: tiers_of(item) for item in request.session.items}
    assert [name for name, found in tiers.items() if len(found) > 1] == []
    counts = Counter(found[0] if found else "every day" for found in tiers.values())
    assert sum(counts.values()) == len(request.session.items)
    print("tiers:", dict(counts))
    assert set(counts) <= {"every day", *TIERS}

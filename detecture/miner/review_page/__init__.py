"""A static page on which mined images are looked at and picked, and the list of what was picked."""

from detecture.miner.review_page.building import ReviewSettings, build_review
from detecture.miner.review_page.picks import ReviewPick, picked_ids, read_picks
from detecture.miner.review_page.rows import ReviewRow

__all__ = [
    "ReviewPick",
    "ReviewRow",
    "ReviewSettings",
    "build_review",
    "picked_ids",
    "read_picks",
]

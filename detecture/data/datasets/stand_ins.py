"""Procedural data sets in the regimes of the published ones, to run a benchmark without the latter.

They show that everything runs, and what a method does if K is 1, 2 or unknown; they are not
like the images of the data sets they stand in for: `synthetic_pair` for STLD,
`synthetic_autonomous` for ADE20k_Detecture, `synthetic_single` for CAID.
"""

from detecture.data.datasets.synthetic import ProceduralRecords, register_procedural
from detecture.data.synthetic import LATEST_EDITION

_SEED = 6


def _is_single(k: int, leaves_part: bool) -> bool:
    """One region and the rest of the image, as CAID has water and land."""
    return k == 1 and leaves_part


def _is_pair(k: int, leaves_part: bool) -> bool:
    return k == 2 and not leaves_part


SINGLE = ProceduralRecords("synthetic_single", _SEED, 200, LATEST_EDITION, _is_single)
PAIR = ProceduralRecords("synthetic_pair", _SEED, 200, LATEST_EDITION, _is_pair)
AUTONOMOUS = ProceduralRecords("synthetic_autonomous", _SEED, 212, LATEST_EDITION)


def register_stand_ins() -> None:
    """Register the three under their names; repeating it is harmless."""
    # All that one name can say of textures that differ from image to image.
    register_procedural(SINGLE, k_regime="single", subject="textured region")
    register_procedural(PAIR, k_regime="pair")
    register_procedural(AUTONOMOUS)

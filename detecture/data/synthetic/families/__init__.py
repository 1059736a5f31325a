"""Texture families: each draws a scalar field from random numbers. Importing registers all.

Images depend on the order of the families: within an edition it must stay lattice, noise,
organic, stamped (and within each as they are written).
"""

from detecture.data.synthetic.families import (
    coats,
    lattice,
    natural,
    noise,
    organic,
    stamped,
    terrain,
)
from detecture.data.synthetic.families.registry import (
    FAMILIES,
    Drawn,
    Family,
    Style,
    draw_family,
    family,
    get_family,
)

__all__ = [
    "FAMILIES",
    "Drawn",
    "Family",
    "Style",
    "coats",
    "draw_family",
    "family",
    "get_family",
    "lattice",
    "natural",
    "noise",
    "organic",
    "stamped",
    "terrain",
]

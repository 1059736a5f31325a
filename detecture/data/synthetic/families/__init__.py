"""Texture families: each draws a scalar field from random numbers. Importing registers all."""

from detecture.data.synthetic.families import lattice, noise, organic, stamped
from detecture.data.synthetic.families.registry import (
    FAMILIES,
    Drawn,
    Family,
    Style,
    family,
    get_family,
)

__all__ = [
    "FAMILIES",
    "Drawn",
    "Family",
    "Style",
    "family",
    "get_family",
    "lattice",
    "noise",
    "organic",
    "stamped",
]

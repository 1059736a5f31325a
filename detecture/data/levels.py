"""Converts image values of any type to 8 bits: one rule for files and arrays.

Let `low` and `high` be the smallest and the greatest value of an image, over all bands shown.
Values that are not finite, or that the file calls "no data", count for neither, and their pixels
become black. The first rule that applies is used:

1. uint8, and whole numbers within 0..255, are the levels as they are.
2. Whole numbers whose `high` is 32768..65535 (`low` >= 0) fill 16 bits:
   level = (v + 128) // 257.
3. Floats within 0..1: level = round(255 * v).
4. All others, such as 10 to 14 bits stored in 16, signed values, temperatures, are stretched:
   level = round(255 * clip((v - a) / (b - a), 0, 1)), where a and b are the 0.1 and the 99.9
   percentile of the image (`numpy.percentile`, linear), or `low` and `high` where those are equal.
   A note says so.

A float image whose values are all whole numbers, not all within 0..1, is treated as one of whole
numbers. True and false are 255 and 0.

Legend: H, W size of an image, C bands.
"""

import numpy as np

from detecture.data.image_notes import note
from detecture.errors import ImageError

PERCENTILES = (0.1, 99.9)
"""Which of an image's values become black and white when they are stretched."""

_ROWS = 1 << 20  # pixels computed at a time


def to_levels(values: np.ndarray, name: str, no_data: float | None = None) -> np.ndarray:
    """Convert values of any numeric type to 8 bits, see this module.

    Args:
        values: (H,W,C), not empty; a masked array's masked values are no data.
        name: the image's name, for errors and notes.
        no_data: the value that means "no data".

    Returns:
        uint8 (H,W,C).

    Raises:
        ImageError: they are not real numbers, or none of them is finite.
    """
    if values.dtype == bool:
        return _filled(values).astype(np.uint8) * 255
    if values.dtype.kind not in "uif":
        raise ImageError(
            f"{name}: its values are {values.dtype}, not real numbers; convert them to uint8, "
            "uint16 or float (of complex ones, to their magnitude)"
        )
    gaps_HW = _gaps(values, name, no_data)
    if gaps_HW is None:
        shown = np.asarray(values)
        low, high = shown.min().item(), shown.max().item()
    else:
        inside = np.asarray(values)[~gaps_HW]
        low, high = inside.min().item(), inside.max().item()
        shown = np.where(gaps_HW[..., None], values.dtype.type(low), np.asarray(values))
    levels = _levels(shown, low, high, name, None if gaps_HW is None else inside)
    if gaps_HW is not None:
        levels[gaps_HW] = 0
    return levels


def opacity_levels(values: np.ndarray) -> np.ndarray:
    """Opacity as uint8 (H,W), from values (H,W): the type's greatest value, or 1.0, is opaque."""
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    most = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    return (np.clip(np.nan_to_num(values) / most, 0, 1) * 255).round().astype(np.uint8)


def mask_levels(values: np.ndarray, name: str) -> np.ndarray:
    """Like `to_levels` for a mask, with rules 1 to 3: nothing is stretched.

    Two values, 0 and another above 255, are background and foreground as well.

    Args:
        values: (H,W), not empty.
        name: the mask's name, for errors.

    Returns:
        uint8 (H,W).

    Raises:
        ImageError: the values are those of a class map, are measurements, or are not finite.
    """
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    low, high = values.min().item(), values.max().item()  # NaN where there is one
    if values.dtype.kind not in "uif" or not np.isfinite(low) or not np.isfinite(high):
        raise ImageError(f"{name}: holds values that are no numbers; {_MASK}")
    ruled = rule_of(values, low, high)
    if ruled == "stretched":
        if low == 0 and ((values == 0) | (values == high)).all():
            return (values == high).astype(np.uint8) * 255
        raise ImageError(
            f"{name}: holds values from {low:g} to {high:g} ({values.dtype}), as a map of classes "
            f"or of measurements does; {_MASK}"
        )
    return _levels(values[..., None], low, high, name, None)[..., 0]


_MASK = "a mask is 0 where there is background, and 255 (in 16 bits also 65535) in the region"


def rule_of(values: np.ndarray, low: float, high: float) -> str:
    """`as_is`, `16_bit`, `unit` or `stretched`, of finite real values (..,); see this module."""
    is_float = values.dtype.kind == "f"
    if is_float and low >= 0 and high <= 1:
        return "unit"
    if low < 0 or high > 65535 or (is_float and not (np.rint(values) == values).all()):
        return "stretched"
    if high <= 255:
        return "as_is"
    return "16_bit" if high > 32767 else "stretched"


def _levels(
    values: np.ndarray, low: float, high: float, name: str, inside: np.ndarray | None
) -> np.ndarray:
    """uint8 (H,W,C), writeable, of finite values (H,W,C); `inside` (N,C): those that count."""
    rule = rule_of(values, low, high)
    if rule == "as_is":
        return np.array(values, np.uint8)
    if rule == "16_bit":
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if rule == "unit":
        black, white = 0.0, 1.0
    else:
        counted = values if inside is None else inside
        # In 64 bits, so that great floats do not overflow between two values.
        wide = counted.astype(np.float64) if counted.dtype.kind == "f" else counted
        black, white = (float(value) for value in np.percentile(wide, PERCENTILES))
        if black == white:
            black, white = float(low), float(high)
        note(
            "stretched",
            f"{name}: its values, from {low:g} to {high:g}, are stretched to 8 bits: {black:g} "
            f"becomes black and {white:g} white; convert it to 8 bits yourself for other limits",
        )
    if black == white:
        return np.zeros(values.shape, np.uint8)
    levels = np.empty(values.shape, np.uint8)
    step = max(1, _ROWS // values.shape[1])
    for top in range(0, len(values), step):
        some = values[top : top + step].astype(np.float64)
        # Divided first, so that the span between two great values does not overflow.
        share = some / (white - black) - black / (white - black)
        levels[top : top + step] = (np.clip(share, 0, 1) * 255).round()
    return levels


def _gaps(values: np.ndarray, name: str, no_data: float | None) -> np.ndarray | None:
    """Which pixels of values (H,W,C) lack a value in a band, bool (H,W); None if none does."""
    gaps_HW = np.ma.getmaskarray(values).any(axis=2)
    plain = np.asarray(values)
    if values.dtype.kind == "f":
        gaps_HW |= ~np.isfinite(plain).all(axis=2)
    if no_data is not None:
        # In the file's own type: -3.4e38 is written with fewer digits than it has.
        if values.dtype.kind == "f":
            near = np.abs(plain.astype(np.float64) - no_data) <= 1e-5 * abs(no_data)
        else:
            near = plain == no_data
        gaps_HW |= near.all(axis=2)
    count = int(gaps_HW.sum())
    if not count:
        return None
    if count == gaps_HW.size:
        raise ImageError(
            f"{name}: has no pixel with a value (all are NaN, infinite or marked as no data); "
            "look how it was written"
        )
    note(
        "no value",
        f"{name}: {count:,} of {gaps_HW.size:,} pixels have no value (NaN, infinite or marked as "
        "no data) and become black",
    )
    return gaps_HW


def _filled(values: np.ndarray) -> np.ndarray:
    """A masked array (..,) without its mask, (..,): masked values are 0."""
    return values.filled(0) if isinstance(values, np.ma.MaskedArray) else values

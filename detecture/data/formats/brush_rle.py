"""Label Studio's run lengths of brushed masks: bits in a list of bytes, of pixels with four values.

The bytes hold: 32 bits, how many values (4*H*W, rows first, red, green, blue and opacity of each
pixel); 5 bits, bits of a value less one; four times 4 bits, bits of a length less one. Then, until
all values are there: one bit, whether one value is repeated; two bits, which of the four lengths;
the length less one; then the value, or as many values. It is the dialect of thi.ng's rle-pack. The
mask is the opacity.

Legend: H, W size of an image in pixels, N values.
"""

from typing import Any

import numpy as np

from detecture.data.formats.rle import counts_of
from detecture.errors import DatasetError, brief

_CHANNELS = 4
_LENGTH_BITS = (3, 4, 8, 16)
_VALUE_BITS = 8
_LONGEST = 1 << _LENGTH_BITS[-1]
_HALF = 128
_HEADER_BITS = 32 + 5 + 4 * 4
_WINDOW = 8  # bytes; a token's head has 35 bits at most


def to_brush_rle(mask: np.ndarray) -> list[int]:
    """The bytes of a bool mask (H,W)."""
    counts = counts_of(np.ravel(mask)) * _CHANNELS
    values = np.where(np.arange(len(counts)) % 2, 255, 0)
    # Runs too long for one length are split into several.
    pieces = -(-counts // _LONGEST)
    lengths = np.full(pieces.sum(), _LONGEST)
    last = np.cumsum(pieces)[counts > 0] - 1
    lengths[last] = (counts - (pieces - 1) * _LONGEST)[counts > 0]
    values = np.repeat(values, pieces)
    kinds = np.searchsorted([1 << bits for bits in _LENGTH_BITS], lengths)
    length_bits = np.array(_LENGTH_BITS)[kinds]
    tokens = (((1 << 2 | kinds) << length_bits) | (lengths - 1)) << _VALUE_BITS | values
    widths = 1 + 2 + length_bits + _VALUE_BITS
    header = 4 * mask.size
    for bits, content in ((5, _VALUE_BITS - 1), *((4, bits - 1) for bits in _LENGTH_BITS)):
        header = header << bits | content
    ends = _HEADER_BITS + np.cumsum(widths)
    stream = np.zeros(int(ends[-1]) if len(ends) else _HEADER_BITS, np.uint8)
    stream[:_HEADER_BITS] = [header >> i & 1 for i in reversed(range(_HEADER_BITS))]
    for place in range(int(widths.max(initial=0))):  # from the last bit of each token
        chosen = widths > place
        stream[ends[chosen] - 1 - place] = tokens[chosen] >> place & 1
    return np.packbits(stream).tolist()


def from_brush_rle(rle: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The bool mask (H,W) of Label Studio's bytes: where the opacity is a half or more.

    Args:
        rle: as it stood in a file.
        size: height and width.
        where: where it comes from, for errors.

    Raises:
        DatasetError: it is malformed, or of another size.
    """
    if not isinstance(rle, list) or not all(type(n) is int and 0 <= n < 256 for n in rle):
        raise DatasetError(f"{where}: its rle is {brief(rle)}, no list of bytes; export it anew")
    total = size[0] * size[1] * _CHANNELS
    try:
        values = _decoded(bytes(rle), total)
    except ValueError as error:
        raise DatasetError(f"{where}: its rle is damaged ({error}); export it anew") from error
    return values.reshape(*size, _CHANNELS)[..., -1] >= _HALF


def _decoded(content: bytes, total: int) -> np.ndarray:
    """The values, uint8 (4*H*W,).

    Raises:
        ValueError: they are not that many.
    """
    bits = 8 * len(content)
    padded = content + bytes(_WINDOW)
    header = int.from_bytes(padded[:_WINDOW], "big")
    count, value_bits = header >> 32, (header >> 27 & 31) + 1
    length_bits = [(header >> shift & 15) + 1 for shift in (23, 19, 15, 11)]
    if bits < _HEADER_BITS or count != total:
        raise ValueError(f"{count if bits >= _HEADER_BITS else 0} values, not {total}")
    if value_bits != _VALUE_BITS:
        raise ValueError(f"values of {value_bits} bits")
    out = np.zeros(total, np.uint8)
    at, filled = _HEADER_BITS, 0
    while filled < total:
        start = at >> 3
        window = int.from_bytes(padded[start : start + _WINDOW], "big")
        window = window << (at & 7) & 0xFFFFFFFFFFFFFFFF
        size = length_bits[window >> 61 & 3]
        head = 3 + size
        length = (window >> (64 - head) & (1 << size) - 1) + 1
        end = filled + length
        if end > total:
            raise ValueError("a run leads out of the image")
        at += head
        if window >> 63:
            if value := window >> (56 - head) & 255:
                out[filled:end] = value
            at += _VALUE_BITS
        else:
            out[filled:end] = _bytes_at(content, at, length)
            at += _VALUE_BITS * length
        if at > bits:
            raise ValueError("it ends too early")
        filled = end
    return out


def _bytes_at(content: bytes, at: int, length: int) -> np.ndarray:
    """Values, uint8 (N,) with N = `length`, that begin at any bit.

    Raises:
        ValueError: there are fewer.
    """
    if at + 8 * length > 8 * len(content):
        raise ValueError("it ends too early")
    part = np.frombuffer(content, np.uint8, -(-(at % 8 + 8 * length) // 8), at >> 3)
    return np.packbits(np.unpackbits(part)[at % 8 : at % 8 + 8 * length])

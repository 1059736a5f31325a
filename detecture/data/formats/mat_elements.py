"""The structure of a Matlab file, looked at before scipy reads it.

scipy's reader kills the process if an element has a type for which it has no number format. A file
of version 5 is a header of 128 bytes and elements: a tag of type and size, then so many bytes, up
to the next multiple of eight. A matrix is an element that holds others; a packed one holds one.
"""

import struct
import zlib
from collections.abc import Iterator

MOST_UNPACKED = 256 << 20
"""Bytes of all elements, unpacked."""

_HEADER_BYTES, _ORDER = 128, slice(126, 128)
_MATRIX, _PACKED = 14, 15
_PLAIN = frozenset({1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18})  # types of numbers and letters
_FLAGS_TYPE, _FLAGS_BYTES = 6, 8
_HOLDERS = {1: 3, 2: 5, 3: 6}  # classes whose parts are matrices, and how many parts are none
_NUMBER_CLASSES = range(4, 16)
_MOST_DEPTH, _MOST_ELEMENTS = 16, 100_000


def unpacked(content: bytes) -> bytes:
    """The content of a Matlab file with nothing packed in it, of sound structure.

    A file of a version other than 5 is returned unchanged.

    Raises:
        ValueError: it is damaged, or too large.
    """
    if len(content) < _HEADER_BYTES or 0 in content[:4]:
        return content
    order = "<" if content[_ORDER] == b"IM" else ">"
    count = 0
    parts, room = [content[:_HEADER_BYTES]], MOST_UNPACKED
    for kind, body in _elements(content[_HEADER_BYTES:], order, padded=False):
        if kind == _PACKED:
            whole = _unzipped(body, room)
            ((kind, body),) = _elements(whole, order)
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind}, where a matrix is due")
        room -= len(body)
        count += _check_matrix(body, order, 1, _MOST_ELEMENTS - count)
        padding = bytes(-len(body) % 8)
        parts.append(struct.pack(order + "II", _MATRIX, len(body)) + body + padding)
    return b"".join(parts)


def _unzipped(packed: bytes, most: int) -> bytes:
    unzip = zlib.decompressobj()
    try:
        content = unzip.decompress(packed, most)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if unzip.unconsumed_tail or not unzip.eof:
        raise ValueError(f"cut off, or more than {MOST_UNPACKED:,} bytes when it is unpacked")
    return content


def _elements(content: bytes, order: str, padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """Type and bytes of each element; packed ones at the top are followed at once by the next."""
    at = 0
    while at < len(content):
        if len(content) - at < 8:
            raise ValueError("it is cut off")
        kind, size = struct.unpack_from(order + "II", content, at)
        start, step = at + 8, size + (-size % 8 if padded or kind != _PACKED else 0)
        if kind >> 16:  # a short one: size and type in one word, the bytes in the other
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 0
            if size > 4:
                raise ValueError("a short element of more than four bytes")
        if start + size > len(content):
            raise ValueError("it is cut off")
        yield kind, content[start : start + size]
        at += 8 + step


def _check_matrix(content: bytes, order: str, depth: int, most: int) -> int:
    """Check that a matrix is sound; returns the number of elements in it."""
    if depth > _MOST_DEPTH:
        raise ValueError(f"matrices in matrices, more than {_MOST_DEPTH} deep")
    count, holds_from, inner = 0, None, 0
    for number, (kind, body) in enumerate(_elements(content, order)):
        count += 1
        if count + inner > most:
            raise ValueError(f"more than {_MOST_ELEMENTS:,} elements")
        if number == 0:
            if kind != _FLAGS_TYPE or len(body) != _FLAGS_BYTES:
                raise ValueError("a matrix without a class")
            matrix_class = struct.unpack(order + "II", body)[0] & 0xFF
            if matrix_class not in _HOLDERS and matrix_class not in _NUMBER_CLASSES:
                raise ValueError(f"a matrix of class {matrix_class}")
            holds_from = _HOLDERS.get(matrix_class)
        elif holds_from is not None and number >= holds_from:
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind}, where a matrix is due")
            inner += _check_matrix(body, order, depth + 1, most - count - inner) if body else 0
        elif kind not in _PLAIN:
            raise ValueError(f"an element of type {kind}, where numbers are due")
    return count + inner

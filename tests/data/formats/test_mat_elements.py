"""Matlab files: what is damaged is told; scipy's own reader ended the process with some of it."""

import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from detecture.data.formats import mat_elements
from detecture.data.formats.mat_elements import unpacked
from detecture.data.formats.mat_files import read_mat
from detecture.errors import ImageError

LABELS = (np.arange(192) % 4).astype(np.uint16).reshape(12, 16)
FIRST = 128  # byte of the first element
DATA = 128 + 8 + 16 + 16 + 16  # of the tag of a matrix's numbers, behind flags, size and name


def mat_of(value, packed=False):
    file = io.BytesIO()
    savemat(file, {"LabelMap": value}, do_compression=packed)
    return file.getvalue()


def cells():
    found = np.empty((1, 2), object)
    for number in range(2):
        found[0, number] = {"Segmentation": LABELS + 1, "Boundaries": LABELS > 1}
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("value", [LABELS, cells(), np.array(["a", "bc"]), np.array(1 + 2j), {}])
def test_what_is_sound_is_the_same(value, packed):
    content = mat_of(value, packed)
    one, other = (loadmat(io.BytesIO(c))["LabelMap"] for c in (content, unpacked(content)))
    assert repr(one) == repr(other) and one.shape == other.shape
    assert unpacked(unpacked(content)) == unpacked(content)


@pytest.mark.parametrize("kind", [0, 8, 10, 11, 14, 15, 99, 0xFFFF])
def test_numbers_of_no_known_type_are_told_and_end_no_process(kind, tmp_path):
    content = bytearray(mat_of(LABELS))
    assert struct.unpack_from("<II", content, DATA) == (4, LABELS.nbytes)
    struct.pack_into("<I", content, DATA, kind)
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ImageError, match="where numbers are due"):
        read_mat(tmp_path / "a.mat", "LabelMap")


def packed_element(content):
    inner = zlib.compress(content)
    return mat_of(LABELS)[:FIRST] + struct.pack("<II", 15, len(inner)) + inner


def nested(depth):
    """A cell in a cell in a cell .."""
    body = b""
    for _ in range(depth):
        flags = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1)
        name = struct.pack("<II", 1, 0)
        body = struct.pack("<II", 14, len(flags + name + body)) + flags + name + body
    return mat_of(LABELS)[:FIRST] + body


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (mat_of(LABELS)[:-8], "cut off"),
        (mat_of(LABELS, packed=True)[:-8], "cut off"),
        (packed_element(mat_of(LABELS)[FIRST:-8]), "cut off"),
        (packed_element(b"\0" * 8), "where a matrix is due"),
        (packed_element(b""), "values to unpack"),
        (nested(100), "more than 16 deep"),
        (mat_of(LABELS)[:FIRST] + struct.pack("<II", 14, 0xFFFFFFFF), "cut off"),
    ],
)
def test_damage_is_told(content, text, tmp_path):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ImageError, match=text):
        read_mat(tmp_path / "a.mat", "LabelMap")


def test_what_unpacks_to_more_than_there_is_room_for_is_refused(monkeypatch):
    monkeypatch.setattr(mat_elements, "MOST_UNPACKED", 1 << 20)
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        unpacked(mat_of(np.zeros((2000, 2000), np.uint8), packed=True))
    assert unpacked(mat_of(LABELS, packed=True))

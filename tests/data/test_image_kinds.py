"""Images of the kinds that scientists and phones have: what is read, by which rule, and what is
said of the rest. Nothing that is sound is called damaged.

It is over 400 lines: each kind of file has its cases.
"""

import importlib.util
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_makers import deep_png, write_bands, write_rgb, write_tiff
from PIL import Image, features

from detecture.config.sections.images import InputSettings
from detecture.data import decoders, image_notes
from detecture.data.formats.item_files import ending_of
from detecture.data.image_io import (
    as_image,
    image_format,
    image_size,
    read_image,
    read_label_map,
    read_mask,
    read_mask_levels,
)
from detecture.data.image_notes import collect_notes
from detecture.data.levels import to_levels
from detecture.data.mapper import TextureMapper
from detecture.data.validate import check_dataset
from detecture.errors import ConfigError, DatasetError, ImageError

LIMIT = 10_000
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (5, 7, 3), np.uint8)
SEVEN = RNG.integers(0, 256, (5, 7, 7), np.uint8)
TWELVE = np.linspace(64, 4095, 35).round().astype(np.uint16).reshape(5, 7)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    """As in a new process: what was said of images before does not count."""
    monkeypatch.setattr(image_notes, "_told", {})


def stretched(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """The rule as the documentation has it."""
    a, b = np.percentile(values if counted is None else counted, (0.1, 99.9))
    return np.round(255 * np.clip((values.astype(float) - a) / (b - a), 0, 1)).astype(np.uint8)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.int64, np.float32, ">u2"])
def test_whole_numbers_of_eight_bits_are_levels_in_any_type(kind):
    np.testing.assert_array_equal(as_image(COLOURS.astype(kind), LIMIT, "x"), COLOURS)


def test_sixteen_bits_that_are_used_are_scaled():
    values = np.array([[0, 128, 129, 32768, 65535]], np.uint16)
    expected = three(np.array([[0, 0, 1, 128, 255]], np.uint8))
    np.testing.assert_array_equal(as_image(values, LIMIT, "x"), expected)
    np.testing.assert_array_equal(as_image(values.astype(np.float64), LIMIT, "x"), expected)


@pytest.mark.parametrize("bits", [10, 12, 14, 15])
def test_ten_to_fifteen_bits_in_sixteen_are_stretched_and_that_is_said(caplog, bits):
    values = RNG.integers(0, 2**bits, (50, 60), dtype=np.uint16)
    values[0, 0] = 2**bits - 1
    np.testing.assert_array_equal(as_image(values, LIMIT, "dim"), three(stretched(values)))
    (record,) = caplog.records
    assert re.match(r"dim: its values, from \d+ to \d+, are stretched", record.getMessage())


def test_signed_and_real_values_are_stretched():
    for values in (
        TWELVE.astype(np.int16) - 1000,
        TWELVE / 100.0 - 7,
        TWELVE.astype(np.int64) * 99,
    ):
        np.testing.assert_array_equal(as_image(values, LIMIT, "x"), three(stretched(values)))


def test_few_bright_pixels_do_not_make_the_rest_dark():
    values = np.zeros((60, 60), np.float32)
    values[:, ::2], values[0, 0] = 2.0, 1e6
    assert set(np.unique(as_image(values, LIMIT, "x"))) == {0, 255}


def test_an_image_with_one_value_is_black_where_there_is_no_scale():
    assert not as_image(np.full((4, 4), 1000, np.uint16), LIMIT, "x").any()
    mostly = np.zeros((100, 100), np.int16)
    mostly[3, 3] = -500  # both percentiles are 0
    levels = as_image(mostly, LIMIT, "x")
    assert levels[3, 3, 0] == 0 and levels[0, 0, 0] == 255


def test_true_and_false_are_black_and_white():
    np.testing.assert_array_equal(
        as_image(COLOURS[..., 0] > 99, LIMIT, "x"), three((COLOURS[..., 0] > 99) * np.uint8(255))
    )


def test_pixels_without_a_value_are_black_and_that_is_said(caplog):
    values = TWELVE / 100.0
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    levels = as_image(values, LIMIT, "x")
    expected = stretched(np.nan_to_num(values), values[np.isfinite(values)])
    expected[[0, 1, 2], [0, 1, 2]] = 0
    np.testing.assert_array_equal(levels, three(expected))
    assert "x: 3 of 35 pixels have no value" in caplog.text
    unit = np.where(np.isfinite(values), 0.5, np.nan)
    assert set(np.unique(as_image(unit, LIMIT, "x"))) == {0, 128}
    with pytest.raises(ImageError, match="has no pixel with a value"):
        as_image(np.full((2, 2), np.nan), LIMIT, "x")


def test_masked_arrays_have_no_value_where_they_are_masked():
    masked = np.ma.masked_array(COLOURS, COLOURS < 20)
    gaps = (COLOURS < 20).any(axis=2)
    levels = as_image(masked, LIMIT, "x")
    assert not levels[gaps].any() and (levels[~gaps] == COLOURS[~gaps]).all()


@pytest.mark.parametrize("values", [COLOURS * 1j, COLOURS.astype(object), COLOURS.astype("U3")])
def test_values_that_are_no_numbers_are_told(values):
    with pytest.raises(ImageError, match=r"x: its values are .*, not real numbers"):
        as_image(values, LIMIT, "x")


def test_opacity_is_not_stretched():
    values = np.zeros((2, 2, 4), np.uint16)
    values[..., 3] = [[0, 65535], [32768, 65535]]
    levels = as_image(values, LIMIT, "x")
    assert levels[..., 0].tolist() == [[255, 0], [127, 0]]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]),
    seed=st.integers(0, 99),
    exponent=st.integers(0, 300),
)
def test_any_real_values_become_levels(kind, seed, exponent):
    dtype = np.dtype(kind)
    raw = np.random.default_rng(seed).integers(0, 256, 24 * dtype.itemsize, np.uint8).tobytes()
    values = np.frombuffer(raw, dtype).reshape(2, 4, 3)
    if dtype.kind == "f":
        values = np.where(np.isfinite(values), values, 0.25).astype(dtype)
        values[0, 0] = min(10.0**exponent, float(np.finfo(dtype).max))
    levels = to_levels(values, "x")
    assert levels.dtype == np.uint8 and levels.shape == values.shape
    order = np.argsort(values.ravel().astype(float), kind="stable")
    assert (np.diff(levels.ravel()[order].astype(int)) >= 0).all()


# ---- the same rule for files, arrays and tensors -----------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        TWELVE,
        TWELVE.astype(np.int16) - 2000,
        TWELVE.astype(np.int32) - 2000,
        TWELVE.astype(np.float32) / 7,
        TWELVE.astype(np.float64) / 4095,
        (TWELVE / 4095).astype(np.float16),
        TWELVE.astype(np.uint32) * 99,
    ],
    ids=lambda values: str(values.dtype),
)
def test_a_file_and_its_values_come_out_alike(tmp_path, values):
    path = write_tiff(tmp_path / "x.tif", values)
    expected = as_image(values, LIMIT, "x")
    assert expected.max() > 200
    np.testing.assert_array_equal(read_image(path, LIMIT), expected)
    np.testing.assert_array_equal(as_image(path.read_bytes(), LIMIT, "x"), expected)
    if values.dtype not in (np.uint32,):
        np.testing.assert_array_equal(as_image(torch.from_numpy(values), LIMIT, "x"), expected)
    assert image_size(path) == values.shape


@pytest.mark.parametrize("kind", [np.uint16, np.float32, np.float64, np.int16])
def test_colours_of_more_than_eight_bits(tmp_path, kind):
    values = (np.stack([TWELVE, TWELVE[::-1], TWELVE[:, ::-1]], 2) / 3).astype(kind)
    expected = as_image(values, LIMIT, "x")
    np.testing.assert_array_equal(expected, stretched(values))
    path = write_rgb(tmp_path / "x.tif", values)
    np.testing.assert_array_equal(read_image(path, LIMIT), expected)
    assert image_size(path) == (5, 7) and image_format(path) == "TIFF"
    if kind is np.uint16:
        (tmp_path / "x.png").write_bytes(deep_png(values))
        np.testing.assert_array_equal(read_image(tmp_path / "x.png", LIMIT), expected)


@pytest.mark.parametrize("count", [2, 4])
def test_deep_png_with_opacity(tmp_path, count):
    values = np.stack([TWELVE] * count, 2)
    values[..., -1] = np.where(TWELVE > 2000, 65535, 0)
    (tmp_path / "x.png").write_bytes(deep_png(values))
    expected = np.where(TWELVE > 2000, stretched(values[..., :-1])[..., 0], 255)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", LIMIT), three(expected))


def test_truncated_deep_files_are_damaged(tmp_path):
    values = RNG.integers(0, 4096, (60, 60, 3)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(deep_png(values)[:-3000])
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_image(tmp_path / "x.png", LIMIT)
    whole = write_bands(tmp_path / "x.tif", np.zeros((60, 60, 7), np.uint8)).read_bytes()
    (tmp_path / "x.tif").write_bytes(whole[:-3000])
    with pytest.raises(ImageError, match=r"x\.tif: is truncated, its pixels end at byte"):
        read_image(tmp_path / "x.tif", LIMIT, bands=(1,))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_deep_tiff_is_set_upright(tmp_path, orientation):
    bands = np.stack([COLOURS[..., 0]] * 7, 2)
    Image.fromarray(COLOURS[..., 0]).save(tmp_path / "plain.tif", tiffinfo={274: orientation})
    tag = (274, "H", 1, orientation, True)
    write_bands(tmp_path / "seven.tif", bands, extratags=[tag])
    np.testing.assert_array_equal(
        read_image(tmp_path / "seven.tif", LIMIT, bands=[1]),
        read_image(tmp_path / "plain.tif", LIMIT),
    )
    assert image_size(tmp_path / "seven.tif") == image_size(tmp_path / "plain.tif")


def test_values_that_the_file_calls_no_data(tmp_path):
    values = TWELVE.astype(np.float32)
    values[0] = -3.4028235e38
    tag = (42113, "s", 0, "-3.40282e+38", True)
    path = write_tiff(tmp_path / "x.tif", values, extratags=[tag])
    with collect_notes() as notes:
        levels = read_image(path, LIMIT)
    assert not levels[0].any() and levels[1:].max() == 255
    assert "7 of 35 pixels have no value" in notes[0]
    integers = write_tiff(
        tmp_path / "i.tif", np.maximum(TWELVE, 100), extratags=[(42113, "s", 0, "100", True)]
    )
    assert not read_image(integers, LIMIT)[0, 0].any()


def test_white_is_zero_in_sixteen_bits_too(tmp_path):
    values = np.linspace(0, 65535, 35).astype(np.uint16).reshape(5, 7)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="miniswhite")
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.tif", LIMIT), as_image(65535 - values, LIMIT, "x")
    )


# ---- bands -------------------------------------------------------------------------------------


def write_planes(path: Path, values: np.ndarray) -> Path:
    planes = np.ascontiguousarray(np.moveaxis(values, 2, 0))
    tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
    return path


@pytest.mark.parametrize("write", [write_bands, write_planes])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_many_bands_are_listed_and_chosen_among(tmp_path, write, kind, caplog):
    path = write(tmp_path / "seven.tif", SEVEN.astype(kind))
    with pytest.raises(ImageError) as caught:
        read_image(path, LIMIT)
    assert str(caught.value).startswith(
        f"{path}: has 7 bands (1, 2, 3, 4, 5, 6, 7; {np.dtype(kind)}), and which are red, green "
        "and blue is unknown; choose one or three of them with INPUT.BANDS"
    )
    assert image_size(path) == (5, 7)
    np.testing.assert_array_equal(read_image(path, LIMIT, (4, 3, 2)), SEVEN[..., [3, 2, 1]])
    np.testing.assert_array_equal(read_image(path, LIMIT, [7]), three(SEVEN[..., 6]))
    with pytest.raises(ImageError, match=r"has 7 bands .*INPUT\.BANDS asks for band 8; choose"):
        read_image(path, LIMIT, (8, 1, 2))
    assert not caplog.records


def test_names_of_bands_are_shown(tmp_path):
    names = "".join(
        f'<Item name="DESCRIPTION" sample="{n}" role="description">B{n + 2:02}</Item>'
        for n in range(7)
    )
    tag = (42112, "s", 0, f"<GDALMetadata>{names}</GDALMetadata>", True)
    path = write_bands(tmp_path / "x.tif", SEVEN, extratags=[tag])
    with pytest.raises(ImageError, match=r"has 7 bands \(1 'B02', 2 'B03', "):
        read_image(path, LIMIT)


def test_three_bands_are_colours_and_one_is_grey(tmp_path):
    for count in (1, 3):
        path = write_bands(tmp_path / f"{count}.tif", SEVEN[..., :count])
        expected = np.broadcast_to(SEVEN[..., :count], (5, 7, 3))
        np.testing.assert_array_equal(read_image(path, LIMIT), expected)
    for count in (2, 4):
        with pytest.raises(ImageError, match=f"has {count} bands .*INPUT.BANDS"):
            read_image(write_bands(tmp_path / f"{count}.tif", SEVEN[..., :count]), LIMIT)


def test_bands_that_the_file_calls_colours_are_colours(tmp_path):
    path = write_rgb(tmp_path / "near.tif", SEVEN[..., :4], extrasamples=[0])
    np.testing.assert_array_equal(read_image(path, LIMIT), SEVEN[..., :3])
    np.testing.assert_array_equal(read_image(path, LIMIT, (4, 1, 2)), SEVEN[..., [3, 0, 1]])


def test_bands_of_images_of_every_kind(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "x.png", LIMIT, (3, 2, 1)), COLOURS[..., ::-1]
    )
    Image.fromarray(COLOURS[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png", LIMIT, (1,)), three(COLOURS[..., 0])
    )
    for path, count in ((tmp_path / "x.png", "3 bands"), (tmp_path / "grey.png", "1 band")):
        with pytest.raises(ImageError, match=rf"has {count} \(.*INPUT\.BANDS asks for band 4"):
            read_image(path, LIMIT, (4, 3, 2))
    np.testing.assert_array_equal(as_image(SEVEN, LIMIT, "x", (7, 1, 2)), SEVEN[..., [6, 0, 1]])
    tensor = torch.from_numpy(SEVEN).permute(2, 0, 1)
    np.testing.assert_array_equal(as_image(tensor, LIMIT, "x", (7, 1, 2)), SEVEN[..., [6, 0, 1]])
    with pytest.raises(ImageError, match=r"shape \(5, 7, 7\); give .*INPUT\.BANDS"):
        as_image(SEVEN, LIMIT, "x")


@pytest.mark.parametrize("bands", [(1, 2), (0,), (-1, 2, 3), (1, 2, 3, 4), ("a",), (1.5,), 3])
def test_bands_that_are_none_are_told_before_anything_is_read(bands):
    with pytest.raises(ConfigError, match=r"INPUT\.BANDS .*give one band \(grey\) or three"):
        read_image("absent.tif", LIMIT, bands)
    if isinstance(bands, tuple):
        with pytest.raises(ConfigError, match=r"INPUT\.BANDS"):
            InputSettings(bands=bands)


def test_pages_count_as_bands_where_bands_are_asked_for(tmp_path):
    path = write_tiff(tmp_path / "x.tif", np.moveaxis(SEVEN, 2, 0).copy())
    with collect_notes() as notes:
        np.testing.assert_array_equal(read_image(path, LIMIT, (4, 3, 2)), SEVEN[..., [3, 2, 1]])
    assert not notes


def test_more_values_than_pixels_are_limited(tmp_path):
    path = write_bands(tmp_path / "x.tif", np.zeros((5, 7, 50), np.uint8))
    with pytest.raises(ImageError, match=r"in 50 bands are more than 4 x 100 values"):
        read_image(path, 100, (1,))
    with pytest.raises(ImageError, match="more than the limit of 34"):
        read_image(write_rgb(tmp_path / "y.tif", TWELVE[..., None].repeat(3, 2)), 34)


def test_a_compression_that_needs_another_package(tmp_path, monkeypatch):
    Image.fromarray(COLOURS).save(tmp_path / "rgb.tif", compression="tiff_lzw")
    path = write_bands(tmp_path / "x.tif", SEVEN, compression="zlib")
    np.testing.assert_array_equal(read_image(path, LIMIT, [2]), three(SEVEN[..., 1]))

    class Empty(dict):
        def __missing__(self, key: object) -> object:
            raise KeyError(key)

    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", Empty())
    with pytest.raises(ImageError, match=r"x\.tif: is a TIFF in .* compression.*imagecodecs"):
        read_image(path, LIMIT, [2])
    # What Pillow reads by itself is read.
    np.testing.assert_array_equal(
        read_image(tmp_path / "rgb.tif", LIMIT, [2, 1, 3]).shape, (5, 7, 3)
    )
    deep = write_rgb(tmp_path / "deep.tif", np.stack([TWELVE] * 3, 2))
    with collect_notes() as notes:
        assert read_image(deep, LIMIT).max() == 15
    assert "the upper 8 of its 16 bits are read" in notes[0]


# ---- what else an image may be -----------------------------------------------------------------


def encoded(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOURS).save(stream, kind, **options)
    return stream.getvalue()


class Pipe(io.RawIOBase):
    """A stream that cannot seek, as an answer of a server."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        return self._stream.readinto(buffer)


def test_the_content_of_a_file(tmp_path):
    content = encoded("PNG")
    (tmp_path / "x.png").write_bytes(content)
    with (tmp_path / "x.png").open("rb") as file:
        for image in (content, bytearray(content), io.BytesIO(content), Pipe(content), file):
            np.testing.assert_array_equal(as_image(image, LIMIT, "x"), COLOURS)
    stream = io.BytesIO(content)
    stream.seek(9)  # as one that was written just now
    np.testing.assert_array_equal(as_image(stream, LIMIT, "x"), COLOURS)
    with pytest.raises(ImageError, match=r"x: is a stream of text; open it in binary mode"):
        as_image(io.StringIO("text"), LIMIT, "x")
    with pytest.raises(ImageError, match=r"x: is no image in one of the formats"):
        as_image(b"hello", LIMIT, "x")
    with pytest.raises(ImageError, match="more than the limit of 34"):
        as_image(content, 34, "x")


def test_tensors_of_every_form():
    grey = torch.from_numpy(COLOURS[..., 0])
    expected = three(COLOURS[..., 0])
    np.testing.assert_array_equal(as_image(grey.to_sparse(), LIMIT, "x"), expected)
    np.testing.assert_array_equal(as_image(grey.float().to_sparse_csr(), LIMIT, "x"), expected)
    np.testing.assert_array_equal(as_image(grey.bfloat16(), LIMIT, "x"), expected)
    with pytest.raises(ImageError, match=r"x: is a tensor .*meta.* without values.*dense"):
        as_image(torch.zeros(3, 4, 4, device="meta"), LIMIT, "x")
    huge = torch.sparse_coo_tensor(size=(10**6, 10**6))
    with pytest.raises(ImageError, match="more than the limit"):
        as_image(huge, LIMIT, "x")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"GIF89a" + bytes(40), "a GIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "a JPEG 2000"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"\x93NUMPY\1\0", "a NumPy array; load it with numpy"),
        (b"%PDF-1.7", "a PDF"),
        (b"\n<!DOCTYPE html><html>", "a web page; was the download"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS; run `git lfs pull`"),
        (bytes(128) + b"DICM" + bytes(20), "a DICOM file"),
        (b"SIMPLE  =                    T", "a FITS file"),
    ],
)
def test_what_is_no_image_here_is_called_by_its_name(tmp_path, content, what):
    (tmp_path / "x.jpg").write_bytes(content)
    for read in (lambda p: read_image(p, LIMIT), lambda p: read_mask(p, LIMIT), image_size):
        with pytest.raises(ImageError, match="is no image in one of the formats") as caught:
            read(tmp_path / "x.jpg")
        assert f"(it is {what}" in str(caught.value) and "damaged" not in str(caught.value)


def test_raw_files_of_cameras_are_not_read_as_their_preview(tmp_path):
    tag = (50706, "B", 4, (1, 4, 0, 0), True)
    write_rgb(tmp_path / "x.dng", COLOURS, extratags=[tag])
    (tmp_path / "x.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(40))
    for name in ("x.dng", "x.cr2"):
        with pytest.raises(ImageError, match="is a camera's raw file"):
            read_image(tmp_path / name, LIMIT)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), MemoryError()])
def test_what_is_not_the_files_fault_is_not_called_damage(tmp_path, monkeypatch, error):
    (tmp_path / "x.png").write_bytes(encoded("PNG"))

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(
        ImageError, match=r"x\.png: (cannot be read from its disk|there is not eno)"
    ):
        read_image(tmp_path / "x.png", LIMIT)


def test_a_name_that_no_disk_takes():
    with pytest.raises(ImageError, match="does not exist"):
        read_image("a\0b.png", LIMIT)


# ---- AVIF and HEIC -----------------------------------------------------------------------------


@pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow reads no AVIF")
def test_avif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth = Image.fromarray(COLOURS).resize((70, 50), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.avif", quality=95, exif=exif)
    (tmp_path / "x.avif").rename(tmp_path / "x.jpg")
    found = read_image(tmp_path / "x.jpg", LIMIT)
    assert found.shape == (70, 50, 3) and image_size(tmp_path / "x.jpg") == (70, 50)
    difference = np.abs(found.astype(int) - np.rot90(np.asarray(smooth), -1).astype(int))
    assert difference.mean() < 9 and image_format(tmp_path / "x.jpg") == "AVIF"


HEIC = b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf" + bytes(40)


def test_avif_where_pillow_does_not_read_it(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "HAS_AVIF", False)
    (tmp_path / "x.avif").write_bytes(HEIC.replace(b"heic", b"avif"))
    with pytest.raises(ImageError, match="is an AVIF image, which this build of Pillow"):
        read_image(tmp_path / "x.avif", LIMIT)


def test_heic_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(decoders, "HAS_HEIF", False)
    (tmp_path / "x.heic").write_bytes(HEIC)
    with pytest.raises(ImageError, match=r"x\.heic: is a HEIC image, for which .*pillow-heif"):
        read_image(tmp_path / "x.heic", LIMIT)


def test_heic_goes_to_pillow_heif(tmp_path, monkeypatch):
    """With a stand-in, whether the package is there or not; the next test has the real one."""

    class HeifImageFile(Image.Image):
        def __init__(self, stream: io.BytesIO, name: str) -> None:
            super().__init__()
            self.im, self._mode, self._size = Image.new("RGB", (3, 2), (9, 8, 7)).im, "RGB", (3, 2)
            self.format = "HEIF"

    module = type(sys)("pillow_heif")
    module.HeifImageFile = HeifImageFile
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(decoders, "HAS_HEIF", True)
    decoders._factory.cache_clear()
    (tmp_path / "x.heic").write_bytes(HEIC)
    try:
        assert (read_image(tmp_path / "x.heic", LIMIT) == [9, 8, 7]).all()
        assert image_format(tmp_path / "x.heic") == "HEIF"
    finally:
        decoders._factory.cache_clear()


@pytest.mark.skipif(
    importlib.util.find_spec("pillow_heif") is None, reason="the extra heif is not installed"
)
def test_heic_as_phones_write_it(tmp_path):
    import pillow_heif

    exif = Image.Exif()
    exif[0x0112] = 6
    flat = Image.new("RGB", (64, 48), (200, 100, 50))
    written = pillow_heif.from_pillow(flat)
    written.save(tmp_path / "x.heic", quality=90, exif=exif.tobytes())
    found = read_image(tmp_path / "x.heic", LIMIT)
    assert found.shape[:2] == image_size(tmp_path / "x.heic")
    assert (np.abs(found.astype(int) - [200, 100, 50]) < 12).all()


# ---- animations and pages ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.webp"])
def test_of_an_animation_the_first_image_is_read_and_that_is_said(tmp_path, name, caplog):
    options = {"lossless": True} if name.endswith("webp") else {}
    later = Image.fromarray(255 - COLOURS)
    Image.fromarray(COLOURS).save(tmp_path / name, save_all=True, append_images=[later], **options)
    image_size(tmp_path / name)
    assert not caplog.records
    for _ in range(2):
        np.testing.assert_array_equal(read_image(tmp_path / name, LIMIT), COLOURS)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / name}: is animated, or has several images; the first one is read"
    ]


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_of_several_pages_the_first_is_read_and_that_is_said(tmp_path, caplog, kind):
    path = write_tiff(tmp_path / "x.tif", np.moveaxis(COLOURS, 2, 0).astype(kind))
    np.testing.assert_array_equal(read_image(path, LIMIT), three(COLOURS[..., 0]))
    assert f"{path}: has several pages; the first one is read" in caplog.text


def test_smaller_versions_and_masks_of_a_page_are_no_pages(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(COLOURS, photometric="rgb")
        file.write(COLOURS[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(COLOURS[..., 0] > 99, photometric="minisblack", subfiletype=4)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif", LIMIT), COLOURS)
    assert not caplog.records


def test_of_many_images_some_are_named(caplog):
    for number in range(30):
        as_image(TWELVE, LIMIT, f"image_{number}")
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 20 and texts[-1].endswith("further images like this are not named")


# ---- masks and label maps ----------------------------------------------------------------------

INSIDE = np.arange(35).reshape(5, 7) % 3 == 0


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("level", [1, 255, 1023, 65535])
def test_masks_of_any_depth(tmp_path, kind, level):
    values = INSIDE.astype(np.float64) * min(level, 32767 if kind is np.int16 else level)
    path = write_tiff(tmp_path / "mask.tif", values.astype(kind))
    levels = read_mask_levels(path, LIMIT)
    if level == 1 and kind not in (np.float32, np.float64):
        # As in 8 bits: who reads it says that foreground must be 255.
        np.testing.assert_array_equal(levels, INSIDE.astype(np.uint8))
    else:
        np.testing.assert_array_equal(levels, INSIDE * 255)


def test_a_map_of_classes_is_no_mask(tmp_path):
    classes = np.arange(35).reshape(5, 7) * 20
    path = write_tiff(tmp_path / "map.tif", classes.astype(np.uint16))
    with pytest.raises(ImageError, match=r"map\.tif: holds values from 0 to 680 .*map of classes"):
        read_mask(path, LIMIT)
    Image.fromarray(classes.astype(np.uint16)).save(tmp_path / "map.png")
    with pytest.raises(ImageError, match=r"map\.png: holds values from 0 to 680 .*map of classes"):
        read_mask(tmp_path / "map.png", LIMIT)
    with pytest.raises(ImageError, match="no numbers"):
        read_mask(write_tiff(tmp_path / "nan.tif", np.full((5, 7), np.nan, np.float32)), LIMIT)


def test_masks_in_colours_of_more_than_eight_bits(tmp_path):
    same = np.stack([INSIDE * np.uint16(65535)] * 3, 2)
    (tmp_path / "x.png").write_bytes(deep_png(same))
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png", LIMIT), INSIDE)
    np.testing.assert_array_equal(read_mask(write_rgb(tmp_path / "x.tif", same), LIMIT), INSIDE)
    same[0, 0, 0] ^= 1
    (tmp_path / "x.png").write_bytes(deep_png(same))
    with pytest.raises(ImageError, match="is a colour image, not a mask"):
        read_mask(tmp_path / "x.png", LIMIT)
    with pytest.raises(ImageError, match=r"has 7 bands .*and a mask has one"):
        read_mask(write_bands(tmp_path / "seven.tif", SEVEN), LIMIT)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_label_maps_of_any_type(tmp_path, kind):
    labels = np.arange(35).reshape(5, 7)
    path = write_tiff(tmp_path / "x.tif", labels.astype(kind))
    found = read_label_map(path, LIMIT, (5, 7))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.array([[0, -1]], np.int16), r"holds int\d+ values from -1 to 0.*from 0 on; draw it"),
        (np.array([[0, 0.5]], np.float32), "holds float32 values from 0 to 0.5"),
        (np.array([[0, np.nan]], np.float32), "holds float32 values from nan to nan"),
    ],
)
def test_what_is_no_label_map_says_why(tmp_path, values, text):
    with pytest.raises(ImageError, match=f"is no label map, it {text}"):
        read_label_map(write_tiff(tmp_path / "x.tif", values), LIMIT, remedy="draw it")
    with pytest.raises(ImageError, match="is no label map, it has 7 bands"):
        read_label_map(write_bands(tmp_path / "y.tif", SEVEN), LIMIT)


# ---- data sets of such images ------------------------------------------------------------------


def test_a_data_set_of_many_bands_is_checked_and_mapped(tmp_path):
    path = write_bands(tmp_path / "field.tif", SEVEN)
    Image.fromarray(INSIDE.astype(np.uint16)).save(tmp_path / "dim.png")
    Image.fromarray(INSIDE.astype(np.uint16) * 65535).save(tmp_path / "mask.png")
    textures = [{"description": "a", "mask_path": name} for name in ("mask.png", "dim.png")]
    entry = {"id": "1", "image_path": "field.tif", "textures": textures}
    (tmp_path / "metadata.json").write_text(json.dumps([entry]))
    place = (str(tmp_path / "metadata.json"), str(tmp_path))
    found = {
        bands: [str(f) for f in check_dataset("x", *place, max_pixels=LIMIT, bands=bands).findings]
        for bands in ((), (4, 3, 2))
    }
    assert len(found[()]) == 2 and "has 7 bands" in found[()][0]
    # As of a mask of 8 bits.
    assert len(found[4, 3, 2]) == 1 and "holds 0 and 1, so all of it" in found[4, 3, 2][0]
    mapper = TextureMapper(is_train=False, settings=InputSettings(bands=(4, 3, 2)))
    record = {"file_name": str(path), "image_id": "1", "textures": []}
    np.testing.assert_array_equal(
        mapper(record)["image"].permute(1, 2, 0).numpy(), SEVEN[..., [3, 2, 1]]
    )


@pytest.mark.parametrize(
    ("kind", "ending"), [("PNG", ".png"), ("TIFF", ".tif"), ("AVIF", ".avif"), ("BMP", ".bmp")]
)
def test_endings_of_copies_are_those_of_what_an_image_is(tmp_path, kind, ending):
    (tmp_path / "x").write_bytes(encoded(kind))
    assert ending_of(tmp_path / "x") == ending
    assert ending_of(write_bands(tmp_path / "y", SEVEN)) == ".tif"
    (tmp_path / "z.png").write_bytes(b"GIF89a")
    with pytest.raises(DatasetError, match=r"z\.png: is no image .*it is a GIF"):
        ending_of(tmp_path / "z.png")

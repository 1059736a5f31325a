"""Reading images and masks of every kind.

It is over 400 lines: each kind of file that images come in has its cases.
"""

import io
import os
import re
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detecture.data.image_io import (
    image_size,
    read_image,
    read_label_map,
    read_mask,
    read_mask_levels,
)
from detecture.errors import ImageError
from detecture.visualize import label_map_image

LIMIT = 10_000
GREY = np.array([[0, 60, 120], [128, 200, 255]], np.uint8)
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


@pytest.mark.parametrize("extension", ["png", "bmp", "tiff", "webp"])
def test_lossless_formats_give_the_pixels_back(tmp_path, extension):
    path = tmp_path / f"image.{extension}"
    Image.fromarray(COLOURS).save(path, **({"lossless": True} if extension == "webp" else {}))
    image = read_image(path, LIMIT)
    assert image.dtype == np.uint8 and image.flags.writeable
    np.testing.assert_array_equal(image, COLOURS)
    assert image_size(path) == (5, 7)


def test_format_is_told_by_content_not_by_name(tmp_path):
    path = tmp_path / "really_a.jpg"
    Image.fromarray(COLOURS).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(str(path), LIMIT), COLOURS)


def test_grey_gets_three_channels(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", LIMIT), three(GREY))


def test_one_bit(tmp_path):
    Image.fromarray(GREY > 100).save(tmp_path / "bits.png")
    expected = three((GREY > 100).astype(np.uint8) * 255)
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png", LIMIT), expected)


@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bit_grey_is_scaled(tmp_path, extension):
    levels = np.array([[0, 128, 129, 257], [32768, 65278, 65406, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / f"deep.{extension}")
    expected = three(np.array([[0, 0, 1, 1], [128, 254, 254, 255]], np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / f"deep.{extension}", LIMIT), expected)


def test_palette(tmp_path):
    indices = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indices.save(tmp_path / "palette.png")
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png", LIMIT), expected)
    indices.save(tmp_path / "see_through.png", transparency=1)
    expected[0][1] = expected[1][1] = [255, 255, 255]
    np.testing.assert_array_equal(read_image(tmp_path / "see_through.png", LIMIT), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    image = Image.new(mode, (3, 1), 0)
    black = (0,) * (len(mode) - 1)
    for x, alpha in enumerate((255, 0, 51)):
        image.putpixel((x, 0), (*black, alpha))
    image.save(tmp_path / "alpha.png")
    expected = three(np.array([[0, 255, 204]], np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png", LIMIT), expected)


def test_cmyk(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.save(tmp_path / "print.jpg", quality=100)
    image.save(tmp_path / "print.tiff")
    for name in ("print.jpg", "print.tiff"):
        pixels = read_image(tmp_path / name, LIMIT).astype(int)
        assert pixels.shape == (16, 16, 3)
        assert (np.abs(pixels - [255, 0, 0]) <= 3).all(), name


def test_one_by_one(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    np.testing.assert_array_equal(read_image(tmp_path / "dot.png", LIMIT), [[[1, 2, 3]]])


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 3), (value, 0, 0)) for value in (10, 200)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "moving.png", LIMIT)[..., 0] == 10).all()


UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
# What is stored, so that a viewer that obeys the tag shows UPRIGHT.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "tiff", "webp"])
def test_exif_orientation(tmp_path, orientation, extension):
    path = tmp_path / f"turned.{extension}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if extension == "webp" else {}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    if extension == "webp":
        stored = stored.convert("RGB")
    stored.save(path, exif=exif, **options)
    np.testing.assert_array_equal(read_image(path, LIMIT), three(UPRIGHT))
    assert image_size(path) == UPRIGHT.shape
    np.testing.assert_array_equal(read_mask(path, LIMIT), UPRIGHT >= 128)


def test_exif_orientation_of_a_photograph(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "phone.jpg", exif=exif)
    assert image_size(tmp_path / "phone.jpg") == (40, 20)
    assert read_image(tmp_path / "phone.jpg", LIMIT).shape == (40, 20, 3)


def test_nonsense_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.fromarray(UPRIGHT).save(tmp_path / "odd.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "odd.png", LIMIT), three(UPRIGHT))


def test_size_is_read_without_decoding(tmp_path):
    data = encoded(COLOURS, "PNG")
    (tmp_path / "cut.png").write_bytes(data[: data.index(b"IDAT") + 12])
    assert image_size(tmp_path / "cut.png") == (5, 7)


# ---- masks -------------------------------------------------------------------------------------


def test_mask_threshold(tmp_path):
    levels = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", LIMIT)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [[False, False, False, True, True, True]])
    np.testing.assert_array_equal(read_mask_levels(tmp_path / "mask.png", LIMIT), levels)


def test_mask_modes(tmp_path):
    truth = np.array([[True, False, True], [False, False, True]])
    levels = truth.astype(np.uint8) * 255
    grey = Image.fromarray(levels)
    palette = Image.fromarray(truth.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    see_through = Image.new("LA", (3, 2), (255, 0))  # white everywhere, seen only in the region
    see_through.putalpha(grey)
    versions = {
        "one.png": Image.fromarray(truth),
        "grey.png": grey,
        "palette.png": palette,
        "colour.png": grey.convert("RGB"),
        "alpha.png": grey.convert("RGBA"),
        "see_through.png": see_through,
        "deep.png": Image.fromarray(truth.astype(np.uint16) * 65535),
    }
    for name, image in versions.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name, LIMIT), truth, err_msg=name)


def test_palette_mask_counts_as_drawn(tmp_path):
    """Index 200 painted black is background, index 1 painted white is foreground."""
    mask = Image.fromarray(np.array([[200, 1]], np.uint8), mode="P")
    palette = [0] * 768
    palette[3:6] = [255, 255, 255]
    mask.putpalette(palette)
    mask.save(tmp_path / "drawn.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "drawn.png", LIMIT), [[False, True]])


def test_colour_image_is_no_mask(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "photo.png")
    with pytest.raises(ImageError, match=r"photo\.png: is a colour image, not a mask"):
        read_mask(tmp_path / "photo.png", LIMIT)


def test_mask_of_another_size(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "mask.png")
    read_mask(tmp_path / "mask.png", LIMIT, expected_size=(2, 3))
    with pytest.raises(ImageError, match=r"mask\.png: is 2 x 3 pixels .* where 3 x 2 are expected"):
        read_mask(tmp_path / "mask.png", LIMIT, expected_size=(3, 2))


# ---- the limit on pixels -----------------------------------------------------------------------


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that promises pixels and has none: decoding it could only fail."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_decompression_bomb_is_refused_undecoded(tmp_path, read):
    (tmp_path / "bomb.png").write_bytes(png_header_only(20_032, 20_032))
    with pytest.raises(ImageError) as caught:
        read(tmp_path / "bomb.png", 100_000_000)
    assert str(caught.value) == (
        f"{tmp_path}/bomb.png: 20032 x 20032 = 401,281,024 pixels are more than the limit of "
        "100,000,000; shrink the image, or raise INPUT.MAX_PIXELS if you trust the file"
    )


def test_limit_is_inclusive(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "image.png")
    read_image(tmp_path / "image.png", 35)
    with pytest.raises(ImageError, match="5 x 7 = 35 pixels are more than the limit of 34"):
        read_image(tmp_path / "image.png", 34)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp"])
def test_our_limit_may_exceed_pillows(tmp_path, extension, monkeypatch):
    path = tmp_path / f"large.{extension}"
    Image.fromarray(COLOURS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 35 pixels: beyond Pillow's double limit
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path, 35).shape == (5, 7, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("extension", ["webp", "tiff"])
def test_pillows_inner_limits_are_told_apart_from_damage(tmp_path, extension, monkeypatch):
    path = tmp_path / f"large.{extension}"
    Image.fromarray(COLOURS).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    try:
        shape = read_image(path, 35).shape
    except ImageError as error:
        assert re.search(r"more pixels than Pillow decodes.*store it as PNG", str(error))
    else:  # which of the two plugins has a limit differs between versions of Pillow
        assert shape == (5, 7, 3)


def test_limits_of_threads_do_not_mix(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)

    def allowed(limit: int) -> bool:
        try:
            read_image(path, limit)
        except ImageError:
            return False
        return True

    limits = [4096, 4095] * 100
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(allowed, limits)) == [limit == 4096 for limit in limits]


# ---- files that are no images ----------------------------------------------------------------


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind)
    return stream.getvalue()


NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_truncated(tmp_path, kind):
    data = encoded(NOISE, kind)
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=r"cut: cannot be decoded, it is truncated or damaged .*;"):
        read_image(tmp_path / "cut", LIMIT)


def test_zero_bytes(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png: is empty \(0 bytes\); replace the file"):
        read_image(tmp_path / "empty.png", LIMIT)


@pytest.mark.parametrize(
    "content", [b"hello, this is text", b"<svg></svg>", b"GIF89a" + b"\0" * 40]
)
def test_not_a_image_or_not_a_known_format(tmp_path, content):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"notes\.png: is no image .*PNG, JPEG, WEBP, BMP, TIFF"):
        read_image(tmp_path / "notes.png", LIMIT)


def test_a_real_gif_is_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "moving.gif")
    with pytest.raises(ImageError, match=r"moving\.gif: is no image in one of the formats"):
        read_image(tmp_path / "moving.gif", LIMIT)


def test_missing(tmp_path):
    with pytest.raises(ImageError, match=r"absent\.png: does not exist; correct the path"):
        read_image(tmp_path / "absent.png", LIMIT)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ImageError, match="does not exist"):
        image_size(tmp_path / "file" / "below.png")


def test_folder(tmp_path):
    with pytest.raises(ImageError, match="is a folder; give the path of an image"):
        read_image(tmp_path, LIMIT)


def test_no_permission(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "secret.png")
    if os.geteuid() == 0:  # root may read everything: refuse in its stead

        def refuse(self: Path, *args: object) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "open", refuse)
    else:
        (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageError, match=r"secret\.png: may not be read by this user.*chmod"):
        read_image(tmp_path / "secret.png", LIMIT)


def test_fifo_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    seen: list[str] = []

    def read() -> None:
        try:
            read_image(tmp_path / "pipe.png", LIMIT)
        except ImageError as error:
            seen.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=10)
    assert seen and "no regular file" in seen[0]


def text_bomb() -> bytes:
    """A PNG whose compressed comment unpacks to far more than Pillow allows."""
    comment = b"note\0\0" + zlib.compress(bytes(2**25))
    chunk = struct.pack(">I", len(comment)) + b"zTXt" + comment
    chunk += struct.pack(">I", zlib.crc32(b"zTXt" + comment))
    data = encoded(COLOURS, "PNG")
    return data[:33] + chunk + data[33:]  # behind IHDR


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (text_bomb(), "ValueError"),
        (encoded(COLOURS, "PNG").replace(b"IHDR", b"IHDX"), "SyntaxError"),
        (encoded(COLOURS, "TIFF")[:8], ""),
        (encoded(COLOURS, "BMP")[:20], ""),
    ],
)
def test_decoders_may_fail_in_their_own_ways(tmp_path, content, cause):
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(ImageError, match=rf"odd: cannot be decoded.*\({cause}"):
        read_image(tmp_path / "odd", LIMIT)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 10**6),
)
def test_damaged_bytes_give_a_image_or_an_image_error(tmp_path, kind, changes, cut):
    data = bytearray(encoded(COLOURS, kind))
    for position, value in changes:
        data[position % len(data)] = value
    (tmp_path / "damaged").write_bytes(data[: len(data) - cut % 8])
    for read in (read_image, read_mask):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert read(tmp_path / "damaged", LIMIT).size <= 3 * LIMIT
            except ImageError as error:
                assert "damaged: " in str(error)


@pytest.mark.parametrize("highest", [3, 255, 300])
def test_label_maps_come_back_as_they_were_written(tmp_path, highest):
    labels = np.array([[0, 1], [2, highest]], np.int32)
    label_map_image(labels).save(tmp_path / "map.png")
    read = read_label_map(tmp_path / "map.png", 4)
    assert read.dtype == np.int32 and (read == labels).all()
    with pytest.raises(ImageError, match="more than the limit of 3"):
        read_label_map(tmp_path / "map.png", 3)


def test_a_colour_image_is_no_label_map(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "map.png")
    with pytest.raises(ImageError, match="is no label map"):
        read_label_map(tmp_path / "map.png", 4)

"""Images, masks, label maps and arrays."""

import io
import struct
import warnings
import zlib
from functools import cache

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from detecture.data.image_io import (
    as_image,
    image_size,
    read_image,
    read_label_map,
    read_mask,
    read_mask_levels,
)
from detecture.errors import ImageError
from tests.fuzz.case import target
from tests.fuzz.inputs import write
from tests.fuzz.mutators import damaged, hostile

MOST_PIXELS = 1 << 20
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB", "HSV", "PA")
FORMATS = ("PNG", "PNG", "JPEG", "WEBP", "BMP", "TIFF", "TIFF", "GIF", "ICO", "PPM", "TGA", "DDS")
SIZES = [(1, 1), (1, 7), (16, 12), (33, 20), (64, 64), (1, 3000), (255, 3)]


def array_of(draw, shape, kind=np.uint8):
    """Random values of a shape, uint8 or uint16."""
    count = int(np.prod(shape))
    data = draw.randbytes(count * np.dtype(kind).itemsize)
    return np.frombuffer(data, kind).reshape(shape).copy()


_REFUSALS = (TypeError, AttributeError, RuntimeError)


def encoded(image, name, **options):
    """The bytes of an image in a format; None where that has no such mode."""
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(file, name, **options)
    except (OSError, LookupError, ValueError, struct.error, SystemError, *_REFUSALS):
        return None
    return file.getvalue()


def png_chunk(kind, data):
    """A chunk of a PNG, with a right checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height, data, bits=8, colour=0, extra=b""):
    """A PNG whose header says what it is told to."""
    head = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, bits, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


PNG_GREY = encoded(Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16)), "PNG")
"""A sound image of 12 x 16 pixels."""


@cache
def packed_zeros(count):
    """A thousandth of so many bytes, which is what they become when they are unpacked."""
    return zlib.compress(bytes(count), 9)


def _crafted(draw):
    """Files whose headers promise more than they hold, or hold more than they should."""
    zeros = packed_zeros(draw.choice((1, 1, 1, 1, 200)) << 20)
    huge = draw.choice((0, 1 << 15, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF))
    kind = draw.randrange(11)
    if kind == 0:
        return png_of(huge, draw.choice((1, huge)), zeros)
    if kind == 1:
        return png_of(8, 8, zeros, extra=png_chunk(b"zTXt", b"a\0\0" + zeros))
    if kind == 2:
        return png_of(8, 8, zeros, extra=png_chunk(b"iCCP", b"a\0\0" + zeros))
    if kind == 3:
        return png_of(8, 8, zeros, bits=draw.randrange(33), colour=draw.randrange(9))
    if kind == 4:
        return png_of(8, 8, zeros, colour=3, extra=png_chunk(b"PLTE", draw.randbytes(3)))
    if kind == 5:
        exif = draw.choice((b"II*\0", b"MM\0*")) + draw.randbytes(60)
        return png_of(8, 8, zeros, extra=png_chunk(b"eXIf", exif))
    if kind == 6:  # BMP, with a size and an offset of one's own
        size = struct.pack("<ii", draw.choice((8, -8, huge & 0x7FFFFFFF)), draw.choice((8, -8)))
        head = struct.pack("<I", 40) + size + struct.pack("<HHIIiiII", 1, 24, 0, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54 + 192, 0, 0, 54) + head + bytes(192)
    if kind == 7:  # JPEG, with an EXIF block of another's making
        image = encoded(Image.new("RGB", (16, 12), (9, 99, 200)), "JPEG")
        block = b"Exif\0\0" + draw.choice((b"II*\0", b"MM\0*")) + draw.randbytes(80)
        return image[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + image[2:]
    if kind == 8:  # TIFF whose directories go in a circle, or whose counts have no end
        entries = [(256, 4, 1, draw.choice((8, huge))), (257, 4, 1, 8), (258, 3, 1, 8)]
        entries += [(262, 3, 1, 1), (273, 4, draw.choice((1, huge)), 8), (279, 4, 1, 64)]
        body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 8)
    if kind == 9:
        return draw.choice((b"RIFF", b"II*\0", b"MM\0*", b"BM", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"))
    return (
        b"RIFF"
        + struct.pack("<I", huge)
        + b"WEBPVP8X"
        + struct.pack("<I", 10)
        + b"\0" * 4
        + (b"\xff" * 6)
    )


def drawn(case):
    """(bytes, image, whether they are lossless) of an image of any kind."""
    draw = case.draw
    width, height = draw.choice(SIZES)
    mode, name = draw.choice(MODES), draw.choice(FORMATS)
    if mode == "I;16":
        image = Image.fromarray(array_of(draw, (height, width), np.uint16))
    else:
        channels = {"RGB": 3, "RGBA": 4}.get(mode)
        shape = (height, width, channels) if channels else (height, width)
        image = Image.fromarray(array_of(draw, shape))
        if mode not in ("L", "RGB", "RGBA"):
            try:
                image = image.convert("RGB").convert(mode)
            except ValueError:
                image = image.convert("L")
    options = {}
    if name == "TIFF":
        kinds = [None, "tiff_lzw", "tiff_deflate", "packbits"]
        # Pillow's own writer crashes on JPEG in a TIFF of other modes.
        kinds += ["jpeg"] if image.mode in ("L", "RGB") else []
        options["compression"] = draw.choice(kinds)
    if name == "WEBP":
        options["lossless"] = draw.random() < 0.5
    if name == "PNG" and draw.random() < 0.3:
        info = PngImagePlugin.PngInfo()
        info.add_text("a", "b" * draw.choice((1, 5000)), zip=True)
        options["pnginfo"] = info
    if draw.random() < 0.2 and name in ("GIF", "TIFF", "WEBP", "PNG"):
        options |= {"save_all": True, "append_images": [image.rotate(90), image.resize((3, 5))]}
    if draw.random() < 0.3 and name in ("JPEG", "PNG", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 0, 9))
        options["exif"] = exif.tobytes()
    if draw.random() < 0.1 and mode in ("L", "RGB", "P") and name == "PNG":
        options["transparency"] = 0 if mode != "RGB" else (0, 0, 0)
    if draw.random() < 0.05:
        options["icc_profile"] = draw.randbytes(200)
    data = encoded(image, name, **options)
    plain = set(options) <= {"compression", "pnginfo"} and options.get("compression") != "jpeg"
    exact = plain and name in ("PNG", "BMP", "TIFF") and mode in ("L", "RGB", "I;16")
    return (PNG_GREY, None, False) if data is None else (data, image, exact)


def _input(case):
    """The path of an image of any kind, mostly damaged; with its values where those are known."""
    data, image, exact = drawn(case)
    kind = case.draw.random()
    path = case.folder / f"image{case.draw.choice(('.png', '.jpg', '.tif', '', '.txt'))}"
    if kind < 0.3:
        path.write_bytes(data)
        return path, np.asarray(image) if exact else None
    if kind < 0.5:
        write(case, path, _crafted(case.draw))
    else:
        write(case, path, damaged(case.draw, data))
    return path, None


def _in_order(found, values):
    """Whether grey of 16 bits, (H,W), has become 8 bits so that what was lighter is no darker."""
    order = np.argsort(values, axis=None)
    return bool((np.diff(found[..., 0].ravel()[order].astype(int)) >= 0).all())


@target(weight=16)
def image(case):
    """An image file, read as colours."""
    path, values = _input(case)
    case.sound = values is not None
    found = read_image(path, MOST_PIXELS)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
    assert 0 < found.shape[0] * found.shape[1] <= MOST_PIXELS
    assert image_size(path) == found.shape[:2]
    if values is not None:
        if values.dtype.itemsize == 2:
            assert _in_order(found, values)
        else:
            due = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
            assert np.array_equal(found, due)
    assert np.array_equal(found, read_image(path, MOST_PIXELS))


@target(weight=8)
def mask(case):
    """An image file, read as a mask."""
    path, values = _input(case)
    levels = read_mask_levels(path, MOST_PIXELS)
    assert levels.dtype == np.uint8 and levels.ndim == 2 and 0 < levels.size <= MOST_PIXELS
    found = read_mask(path, MOST_PIXELS, levels.shape)
    assert found.dtype == bool and np.array_equal(found, levels >= 128)
    if values is not None and values.ndim == 2:
        is_wide = values.dtype.itemsize == 2
        assert _in_order(levels[..., None], values) if is_wide else np.array_equal(levels, values)
    try:
        read_mask(path, MOST_PIXELS, (levels.shape[0] + 1, levels.shape[1]))
    except ImageError:
        return
    raise AssertionError("another size passes")


@target(weight=8)
def label_map(case):
    """An image file, read as a label map."""
    path, values = _input(case)
    case.sound = values is not None and values.ndim == 2
    found = read_label_map(path, MOST_PIXELS)
    assert found.dtype == np.int32 and found.ndim == 2 and 0 < found.size <= MOST_PIXELS
    assert found.min() >= 0 and found.max() < 65536
    if case.sound:
        assert np.array_equal(found, values)


def _array(draw):
    shapes = [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4), (4, 5, 2), (0, 5), (4, 0, 3), (5,), ()]
    shape = draw.choice([*shapes, (1, 4, 5, 3), (4, 5, 5), (3, 4, 5), (1, 1, 1), (2000, 2000)])
    kind = draw.choice(
        ["u1", "u1", "u2", "u4", "i4", "i8", "f2", "f4", "f8", "?", "c8", "O", "U3", "M8[s]", ">u2"]
    )
    values = np.zeros(shape, kind)
    if values.size and kind[0] in "fc":
        values.flat[0] = draw.choice((0.5, 1.0, 1.0001, -0.1, np.nan, np.inf, 254.0))
    if values.size and kind in ("u1", "u2", ">u2"):
        values.flat[0] = draw.choice((0, 1, 255))
    return draw.choice((values, values[::-1] if values.ndim else values, np.asfortranarray(values)))


@target(weight=6)
def array(case):
    """Arrays, tensors and Pillow's images, taken as images."""
    draw = case.draw
    kind = draw.randrange(4)
    if kind < 2:
        given = _array(draw)
    elif kind == 2:
        try:
            given = torch.from_numpy(np.ascontiguousarray(_array(draw)))
        except (TypeError, ValueError):
            given = torch.zeros((3, 4, 5), dtype=draw.choice((torch.bfloat16, torch.complex64)))
        if draw.random() < 0.2:
            kinds = [lambda t: t.to("meta"), lambda t: t.float().to_sparse(), lambda t: t[None]]
            given = draw.choice(kinds)(given)
    else:
        given = draw.choice((hostile(draw), drawn(case)[1], b"x", Image.new("RGB", (0, 5))))
    (case.folder / "given.txt").write_text(f"{type(given)} {given!r:.2000}", "utf-8", "replace")
    found = as_image(given, MOST_PIXELS, "x")
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3
    assert 0 < found.size <= 3 * MOST_PIXELS
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.shape[2:] == (3,):
        assert np.array_equal(found, given) and found.base is not given

"""Files of kinds that Pillow does not write."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a colour, of (H,W,C): grey, grey and opacity, RGB or RGBA."""
    height, width, count = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def write_bands(path: Path, values: np.ndarray, **options: Any) -> Path:
    """A TIFF of (H,W,C), of which it says nothing but that the smallest value is black."""
    options |= {"planarconfig": "contig"} if values.shape[2] > 1 else {}
    tifffile.imwrite(path, np.squeeze(values), photometric="minisblack", **options)
    return path


def write_tiff(path: Path, values: np.ndarray, **options: Any) -> Path:
    """A TIFF of (H,W), or of (N,H,W) in pages."""
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    return path


def write_rgb(path: Path, values: np.ndarray, **options: Any) -> Path:
    """A TIFF of (H,W,C), whose first three bands are red, green and blue."""
    tifffile.imwrite(path, values, photometric="rgb", **options)
    return path


def put_no_images(folder):
    """Put what is named like an image and is no file into a folder; gives name -> what is said."""
    (folder / "dead.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "device.png").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    return {
        "dead.png": "does not exist",
        "loop.png": "symbolic links",
        "device.png": "is no regular file",
        "pipe.png": "is no regular file",
        "folder.png": "is a folder",
    }

"""Textures of games in Debian packages: the archives, their terms, and windows of the images.

Legend: H, W size of an image.
"""

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detecture.data.decoders import opened
from detecture.data.formats.dds import dds_size, read_dds
from detecture.data.formats.debian import CopyrightFile, Grant, installed_version, read_copyright
from detecture.data.image_io import as_image
from detecture.data.preparation import MAX_PIXELS
from detecture.data.transforms import resize_image
from detecture.errors import DatasetError, ImageError, brief
from detecture.untrusted import open_file, read_at_most

SIDE, LEAST_SIDE, MOST_WINDOWS = 256, 128, 4
"""Of a window; of an image that gives one; windows of an image."""

_MOST_BYTES = 64 << 20  # of a file in an archive; the largest has 6 million
_CHUNK = 1 << 20
_KEPT = 16  # decoded images: windows of one image are made one after the other
_CACHED = ".cached.dds"  # what 0 A.D.'s build appends to the name of a source file
_ENDINGS = re.compile(r"(\.(?:png|jpg|jpeg|dds))(?:\.cached\.dds)?\Z")


@dataclass(frozen=True)
class Package:
    """A Debian package with textures.

    Attributes:
        name: of the package.
        archive: below the root.
        folder: of the textures, in the archive.
        source: where the archive's files are in the source package, as the copyright file says.
        version: the one that the names were reviewed with.
        archive_sha256, copyright_sha256: of its archive and its copyright file.
    """

    name: str
    archive: str
    folder: str
    source: str
    version: str
    archive_sha256: str
    copyright_sha256: str

    @property
    def copyright(self) -> str:
        """Its copyright file, below the root."""
        return f"usr/share/doc/{self.name}/copyright"


PACKAGES = (
    Package(
        "0ad-data",
        "usr/share/games/0ad/mods/public/public.zip",
        "art/textures/terrain/types/",
        "binaries/data/mods/public/",
        "0.0.26-1",
        "451d739a9825e18597502996f082afbeb51796175b4f0814e30a3705ee35af17",
        "4477dcafc01a5aeab6d73ed5f7b22b2ebcf1e419661356ea024515f0bf80cb9f",
    ),
    Package(
        "ufoai-textures",
        "usr/share/games/ufoai/base/0textures.pk3",
        "textures/",
        "base/",
        "2.5-2",
        "5fb8813eeb8e1de4a4565fa5691afc62bae38f6287bdb03c500a33561f96af75",
        "f9c5ee43376c06823b5ad154f6bc42e970c083f6b23055dd17de12fd51484c0b",
    ),
)


def boxes_of(size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Top, left and side of the windows of an image; none if it is too small.

    Args:
        size: height and width in pixels.
    """
    if min(size) < LEAST_SIDE:
        return []
    side = min(SIDE, *size)
    counts = [1, 1] if side < SIDE else [length // SIDE for length in size]
    if min(counts) > 1:
        counts = [2, 2]
    tops, lefts = (
        [(2 * i + 1) * length // (2 * count) - side // 2 for i in range(count)]
        for length, count in zip(size, (min(n, MOST_WINDOWS) for n in counts), strict=True)
    )
    return [(top, left, side) for top in tops for left in lefts]


@contextmanager
def reading(archive: Path) -> Iterator[None]:
    """Turns errors of a zip archive into a `DatasetError` that names it."""
    try:
        yield
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # RuntimeError: it has a password, or an unknown compression.
        raise DatasetError(
            f"{archive}: cannot be unpacked ({error!s:.200}); install its package again"
        ) from error


class Installed:
    """A package that is there: its archive, opened, and what is known of it.

    Args:
        package: which.
        root: of the installation.
        stack: closes the archive.

    Attributes:
        package: which.
        path: of its archive.
        terms: its copyright file.
        is_pinned: both are those that the names were reviewed with.
        about: its version (None: unknown), and the SHA-256 of both.

    Raises:
        DatasetError: the archive or the copyright file cannot be read.
    """

    def __init__(self, package: Package, root: Path, stack: ExitStack) -> None:
        self.package, self.path = package, root / package.archive
        self.terms: CopyrightFile = read_copyright(root / package.copyright)
        with reading(self.path):
            file = stack.enter_context(open_file(self.path))
            sums = (_sha256(self.path), _sha256(root / package.copyright))
            self._archive = stack.enter_context(zipfile.ZipFile(file))
        self.is_pinned = sums == (package.archive_sha256, package.copyright_sha256)
        version = package.version if self.is_pinned else installed_version(root, package.name)
        self.about = {"version": version, "archive": sums[0], "copyright": sums[1]}
        self._pixels = lru_cache(maxsize=_KEPT)(self._decoded)

    def paths(self) -> list[str]:
        """Paths of the images in the folder of the textures, sorted."""
        folder = self.package.folder
        found = set(self._archive.namelist())
        return sorted(p for p in found if p.startswith(folder) and _ENDINGS.search(p))

    def name_of(self, path: str) -> str:
        """A path below the folder of the textures, without the endings of an image."""
        return _ENDINGS.sub("", path)[len(self.package.folder) :]

    def grant_of(self, path: str) -> Grant | None:
        """The terms of a file of the archive; None: the package does not say."""
        return self.terms.grant_of(self.package.source + path.removesuffix(_CACHED))

    def content(self, path: str) -> bytes:
        """Content of a file of the archive.

        Raises:
            DatasetError: it cannot be unpacked, or is too large.
        """
        with reading(self.path), self._archive.open(path) as file:
            content = read_at_most(file, _MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DatasetError(
                f"{self.path}: {brief(path)} has more than {_MOST_BYTES:,} bytes; install the "
                f"package {self.package.name} again"
            )
        return content

    def size(self, path: str, content: bytes) -> tuple[int, int]:
        """Height and width in pixels, of a file's header."""
        try:
            if path.endswith(".dds"):
                return dds_size(content, path)
            with opened(io.BytesIO(content), path) as image:
                return image.size
        except ImageError as error:
            raise DatasetError(f"{self.path}: {error}") from error

    def window(self, path: str, number: int, _source: Path) -> np.ndarray:
        """A window of an image, uint8 (256,256,3): the one of that number of `boxes_of`."""
        pixels = self._pixels(path)
        top, left, side = boxes_of(pixels.shape[:2])[number]
        found = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        return found if side == SIDE else resize_image(found, (SIDE, SIDE))

    def _decoded(self, path: str) -> np.ndarray:
        """The colours of an image, uint8 (H,W,3)."""
        if path.endswith(".dds"):
            return read_dds(self.content(path), path, MAX_PIXELS)
        return as_image(self.content(path), MAX_PIXELS, path)


def _sha256(path: Path) -> str:
    """Of a file of any size, with a progress bar."""
    digest = hashlib.sha256()
    with (
        open_file(path) as file,
        tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar,
    ):
        while part := file.read(_CHUNK):
            digest.update(part)
            bar.update(len(part))
    return digest.hexdigest()

"""Make `datasets/samples/`: a tiny texture data set out of images that ship inside two wheels.

    python datasets/prepare_samples.py [--output datasets/samples] [--overwrite]

Composites of photographed textures with exactly known masks, in the published layout
(`images/`, `textures_mask/`, `metadata.json`), and a few photographs without masks (`photos/`).
Nothing is downloaded and nothing is random: the same versions of Pillow, scikit-image and
scikit-learn give the same files. Where others are in their place, nothing is written.
"""

import argparse
import importlib.util
import io
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from detecture.checkpoint.atomic import write_atomic
from detecture.data.image_io import read_image

MAX_PIXELS = 10_000_000
QUALITY = 88
PHOTO_SIDE = 448


@dataclass(frozen=True)
class Source:
    """An image inside an installed package, and under which terms it may be passed on."""

    package: str
    path: str
    title: str
    author: str
    licence: str


SOURCES = {
    "brick": Source(
        "skimage",
        "data/brick.png",
        "Bricks25 of CC0Textures (cc0textures.com)",
        "CC0Textures",
        "CC0 1.0",
    ),
    "grass": Source(
        "skimage",
        "data/grass.png",
        "Grass-01 (deviantart.com/linolafett/art/Grass-01-434853879)",
        "linolafett",
        "CC0 1.0",
    ),
    "gravel": Source(
        "skimage",
        "data/gravel.png",
        "Gravel04 of CC0Textures (cc0textures.com)",
        "CC0Textures",
        "CC0 1.0",
    ),
    "coffee": Source(
        "skimage",
        "data/coffee.png",
        "Coffee cup",
        "Rachel Michetti, Pikolo Espresso Bar",
        "CC0 1.0",
    ),
    "chelsea": Source(
        "skimage", "data/chelsea.png", "Chelsea the cat", "Stefan van der Walt", "CC0 1.0"
    ),
    "hubble": Source(
        "skimage",
        "data/hubble_deep_field.jpg",
        "Hubble eXtreme Deep Field (hubblesite.org, release 2012-37)",
        "NASA",
        "public domain",
    ),
    "china": Source(
        "sklearn",
        "datasets/images/china.jpg",
        "flickr.com/photos/danielbuechele/6061409035",
        "danielbuechele",
        "CC BY 2.0",
    ),
    "flower": Source(
        "sklearn",
        "datasets/images/flower.jpg",
        "flickr.com/photos/vultilion/6056698931",
        "vultilion (scikit-learn's README says danielbuechele)",
        "CC BY 2.0",
    ),
}


@dataclass(frozen=True)
class Texture:
    """A piece of a source: its box (left, top, right, bottom), magnification, and description.

    `tone` colours a grey image: the colours of its black, middle and white.
    """

    source: str
    box: tuple[int, int, int, int]
    description: str
    scale: float = 1.0
    tone: tuple[str, str, str] | None = None


TEXTURES = {
    "grey_grass": Texture(
        "grass", (0, 0, 512, 512), "Texture of a lawn with fine, tangled blades in grey tones."
    ),
    "grey_gravel": Texture(
        "gravel", (0, 0, 512, 512), "Texture of coarse gravel with angular pebbles in grey tones."
    ),
    "green_grass": Texture(
        "grass",
        (0, 0, 512, 512),
        "Texture of green grass with thin, criss-crossing blades.",
        tone=("#10200a", "#5f8436", "#e6efc0"),
    ),
    "brown_gravel": Texture(
        "gravel",
        (0, 0, 512, 512),
        "Texture of reddish-brown gravel with small, sharp-edged stones.",
        tone=("#1c0d08", "#9a6a4c", "#f3e3d0"),
    ),
    "red_brick": Texture(
        "brick",
        (0, 0, 512, 512),
        "Texture of a red brick wall with narrow upright bricks and pale mortar joints.",
        tone=("#2a0d06", "#a4503a", "#f2d9c4"),
    ),
    "wood": Texture(
        "coffee",
        (480, 130, 600, 400),
        "Texture of varnished reddish-brown wood with diagonal grain.",
        scale=1.3,
    ),
    "fur": Texture(
        "chelsea",
        (150, 8, 296, 84),
        "Texture of short tabby fur in sandy brown with dark stripes.",
        scale=1.5,
    ),
    "foliage": Texture(
        "china",
        (425, 320, 560, 427),
        "Texture of dense grey-green foliage with tiny leaves.",
        scale=1.4,
    ),
    "petals": Texture(
        "flower",
        (216, 130, 400, 314),
        "Texture of overlapping, cupped orange petals of a dahlia.",
        scale=1.2,
    ),
    "stars": Texture(
        "hubble",
        (100, 60, 740, 620),
        "Texture of a black night sky sprinkled with small coloured galaxies.",
        scale=0.6,
    ),
}


@dataclass(frozen=True)
class Composite:
    """Which textures lie where: one centre (x, y in 0..1) each, and how wavy their borders are."""

    size: tuple[int, int]
    textures: tuple[str, ...]
    centres: tuple[tuple[float, float], ...]
    wave: float
    phase: float


COMPOSITES = {
    "grass_gravel": Composite(
        (320, 320), ("grey_grass", "grey_gravel"), ((0.3, 0.35), (0.7, 0.7)), 0.10, 0.1
    ),
    "brick_wood": Composite(
        (288, 384), ("red_brick", "wood"), ((0.3, 0.5), (0.9, 0.45)), 0.06, 0.4
    ),
    "grass_path": Composite(
        (320, 320), ("green_grass", "brown_gravel"), ((0.5, 0.2), (0.45, 0.85)), 0.12, 0.75
    ),
    "petals_stars_fur": Composite(
        (288, 352),
        ("petals", "stars", "fur"),
        ((0.25, 0.3), (0.8, 0.35), (0.45, 0.85)),
        0.07,
        0.25,
    ),
    "foliage_brick_gravel": Composite(
        (320, 320),
        ("foliage", "red_brick", "brown_gravel"),
        ((0.2, 0.75), (0.35, 0.15), (0.85, 0.6)),
        0.08,
        0.6,
    ),
    "four_corners": Composite(
        (320, 384),
        ("wood", "green_grass", "petals", "foliage"),
        ((0.22, 0.25), (0.75, 0.2), (0.3, 0.8), (0.8, 0.75)),
        0.06,
        0.9,
    ),
}

PHOTOS = ("coffee", "chelsea", "china", "flower")


def main(argv: list[str] | None = None) -> int:
    """Write the folder; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "samples")
    parser.add_argument("--overwrite", action="store_true", help="replace other files there")
    args = parser.parse_args(argv)
    output: Path = args.output
    files: dict[str, bytes] = {}
    records = [_draw_composite(files, name, spec) for name, spec in COMPOSITES.items()]
    files["metadata.json"] = (json.dumps(records, indent=2) + "\n").encode("utf-8")
    for name in PHOTOS:
        photo = Image.fromarray(_read_source(name))
        photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
        files[f"photos/{name}.jpg"] = _encode(photo, "JPEG", quality=QUALITY)
    files["LICENSES.md"] = _licences().encode("utf-8")
    others = [n for n, c in files.items() if (output / n).exists() and not _holds(output / n, c)]
    if others and not args.overwrite:
        print(
            f"prepare_samples: {output / others[0]} is there already and holds something else "
            f"({len(others)} such files); choose another --output, or give --overwrite",
            file=sys.stderr,
        )
        return 2
    for name, content in files.items():
        write_atomic(output / name, lambda file, content=content: file.write(content))
    size = sum(map(len, files.values()))
    print(f"{output}: {len(records)} composites, {len(PHOTOS)} photos, {size / 1024:.0f} KiB")
    return 0


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _encode(image: Image.Image, file_format: str, **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **settings)
    return file.getvalue()


def _draw_composite(files: dict[str, bytes], name: str, spec: Composite) -> dict[str, object]:
    """Add the image and the masks to the files; returns the record."""
    labels = _layout(spec)
    image = np.zeros((*spec.size, 3), np.uint8)
    textures = []
    for i, key in enumerate(spec.textures):
        mask = labels == i
        # The texture starts at the region's corner, so that as little as possible is mirrored.
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        image[box][mask[box]] = _fill(TEXTURES[key], mask[box].shape)[mask[box]]
        mask_path = f"textures_mask/{name}_mask_{i}.png"
        drawn = Image.fromarray(mask.astype(np.uint8) * 255)
        files[mask_path] = _encode(drawn, "PNG", optimize=True)
        textures.append({"description": TEXTURES[key].description, "mask_path": mask_path})
    image_path = f"images/{name}.jpg"
    files[image_path] = _encode(Image.fromarray(image), "JPEG", quality=QUALITY)
    return {"id": name, "image_path": image_path, "textures": textures}


def _layout(spec: Composite) -> np.ndarray:
    """Index of the nearest centre in a plane bent by two sine waves: integers (H,W)."""
    height, width = spec.size
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    turn = 2 * math.pi
    bent_x = x + spec.wave * np.sin(turn * (1.3 * y + spec.phase))
    bent_y = y + spec.wave * np.sin(turn * (1.1 * x + 2 * spec.phase))
    distances = [(bent_x - cx) ** 2 + (bent_y - cy) ** 2 for cx, cy in spec.centres]
    return np.argmin(distances, axis=0)


def _fill(texture: Texture, size: tuple[int, ...]) -> np.ndarray:
    """Cover `size` with a texture, mirrored at its edges where it is too small: uint8 (H,W,3)."""
    piece = Image.fromarray(_read_source(texture.source)).crop(texture.box)
    if texture.scale != 1:
        new_size = (round(piece.width * texture.scale), round(piece.height * texture.scale))
        piece = piece.resize(new_size, Image.Resampling.BICUBIC)
    if texture.tone is not None:
        black, mid, white = texture.tone
        piece = ImageOps.colorize(ImageOps.autocontrast(piece.convert("L")), black, white, mid)
    pixels = np.asarray(piece)
    missing = [max(0, wanted - have) for wanted, have in zip(size, pixels.shape, strict=False)]
    padded = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="reflect")
    return padded[: size[0], : size[1]]


def _read_source(name: str) -> np.ndarray:
    source = SOURCES[name]
    spec = importlib.util.find_spec(source.package)
    if spec is None or spec.origin is None:
        sys.exit(f"{source.package} is not installed; run: pip install scikit-image scikit-learn")
    return read_image(Path(spec.origin).parent / source.path, MAX_PIXELS)


def _licences() -> str:
    """What is made of what, for the folder's LICENSES.md."""
    used: dict[str, list[str]] = {name: [] for name in SOURCES}
    for name, spec in COMPOSITES.items():
        for key in spec.textures:
            used[TEXTURES[key].source].append(f"images/{name}.jpg")
    for name in PHOTOS:
        used[name].append(f"photos/{name}.jpg")
    packages = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
    rows = [
        f"| {source.title} | {source.author} | {source.licence} | "
        f"{packages[source.package]}: `{source.path}` | {', '.join(sorted(set(used[name])))} |"
        for name, source in SOURCES.items()
    ]
    return "\n".join(
        [
            "# Sources and licences of these samples",
            "",
            "Written by `datasets/prepare_samples.py` from images that ship inside scikit-image "
            "and scikit-learn;",
            "authors and licences as those packages state them. In the composites the images "
            "are cut, scaled,",
            "mirrored and (some of the grey ones) coloured; the photos are scaled. The masks and "
            "descriptions are this",
            "project's, under its own licence.",
            "",
            "| image | author | licence | taken from | used in |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "CC BY 2.0: https://creativecommons.org/licenses/by/2.0/. "
            "CC0 1.0: https://creativecommons.org/publicdomain/zero/1.0/.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

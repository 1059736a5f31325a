"""Labelled images made on the spot."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detecture.data.formats.labelled_image import LabelledImage

NAMES = (
    "ADE_train_00000037_textured_degree0.3",
    "ADE_train_00000037_textured_degree0.4",
    "with a space",
    "a:colon",
    "Überfläche 石の壁",
    "%41 percent",
    ".hidden",
    "ends with a dot.",
    "x" * 300,
)


def blobs(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """An index mask (H,W): regions that touch, with holes, in parts, some of one pixel."""
    mask = rng.integers(0, count + 1, (-(-height // 3), -(-width // 4))).astype(np.uint8)
    mask = np.kron(mask, np.ones((3, 4), np.uint8))[:height, :width].copy()
    places = rng.choice(height * width, count, replace=False)
    mask.ravel()[places] = np.arange(1, count + 1)  # each has a pixel; this also makes holes
    return mask


def labelled(
    folder: Path,
    item_id: str,
    mask: np.ndarray,
    *,
    split: str = "",
    image_format: str = "png",
    seed: int = 0,
    **more,
) -> LabelledImage:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"source_{len(list(folder.iterdir()))}.{image_format}"
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*mask.shape, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return LabelledImage(
        item_id=item_id,
        image_path=path,
        index_mask=mask,
        descriptions=[f'Texture of «{i}» & "words" <石>' for i in range(mask.max(initial=0))],
        split=split,
        more=more,
    )


@pytest.fixture
def items(tmp_path: Path) -> list[LabelledImage]:
    """Of all kinds: names, splits, formats of images, 0 to 20 regions, one pixel."""
    rng = np.random.default_rng(7)
    counts = (0, 1, 2, 3, 20, 4, 5, 6, 2)
    found = [
        labelled(
            tmp_path / "sources",
            name,
            blobs(rng, 11 + 5 * i, 37 - 2 * i, count),
            split=("", "train", "val")[i % 3],
            image_format=("png", "jpg", "webp")[i % 3],
            seed=i,
            score=1.5 * i,
            class_names=["wall", "floor"][:count],
        )
        for i, (name, count) in enumerate(zip(NAMES, counts, strict=True))
    ]
    last = np.zeros((1, 1), np.uint8)
    last[0, 0] = 1
    ring = np.ones((9, 9), np.uint8)
    ring[3:6, 3:6] = 2
    ring[4, 4] = 0
    found += [labelled(tmp_path / "sources", n, m) for n, m in (("one", last), ("ring", ring))]
    return found


def same(read: list[LabelledImage], written: list[LabelledImage], more: bool = True) -> None:
    """Check that all came back: masks by the pixel, images by the byte."""
    by_id = {item.item_id: item for item in read}
    assert len(by_id) == len(read)
    assert sorted(by_id) == sorted(item.item_id for item in written)
    for item in written:
        found = by_id[item.item_id]
        assert found.index_mask.dtype == np.uint8
        np.testing.assert_array_equal(found.index_mask, item.index_mask)
        assert list(found.descriptions) == list(item.descriptions)
        assert found.split == item.split
        assert found.image_path.read_bytes() == item.image_path.read_bytes()
        assert found.image_path.suffix == item.image_path.suffix
        if more:
            assert json.loads(json.dumps(dict(found.more))) == dict(item.more)

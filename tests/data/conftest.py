"""Small data sets made on the spot."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MakeDataset = Callable[..., Path]


@pytest.fixture
def make_dataset(tmp_path: Path) -> MakeDataset:
    """Writes a data set of `count` images (24 x 32) with two regions, left and right.

    Returns the path of its metadata.json. `change` may edit the list of entries first.
    """

    def make(
        name: str = "mine",
        count: int = 3,
        change: Callable[[list[dict[str, Any]]], Any] | None = None,
        size: tuple[int, int] = (24, 32),
    ) -> Path:
        root = tmp_path / name
        for folder in ("images", "textures_mask"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        entries = [write_image(root, f"p{i}", i, size) for i in range(count)]
        written: Any = entries
        if change is not None:
            changed = change(entries)
            written = entries if changed is None else changed
        path = root / "metadata.json"
        path.write_text(written if isinstance(written, str) else json.dumps(written))
        return path

    return make


def write_image(root: Path, name: str, seed: int, size: Sequence[int]) -> dict[str, Any]:
    height, width = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(root / "images" / f"{name}.png")
    textures = []
    for i, columns in enumerate((slice(0, width // 2), slice(width // 2, width))):
        mask = np.zeros((height, width), np.uint8)
        mask[:, columns] = 255
        path = f"textures_mask/{name}_mask_{i}.png"
        Image.fromarray(mask).save(root / path)
        textures.append({"description": f"Texture {i} of {name}", "mask_path": path})
    return {"id": name, "image_path": f"images/{name}.png", "textures": textures}

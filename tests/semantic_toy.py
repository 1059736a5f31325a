"""Sets of semantic segmentation made on the spot."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))
NAMES = ["red", "green", "blue"]
SIZE = (24, 32)


def toy_labels(number: int, size=SIZE) -> np.ndarray:
    """Three regions of classes 0, 1 and 2, and a strip without a class: uint8 (H,W)."""
    labels = np.zeros(size, np.uint8)
    labels[:, size[1] // 2 - number % 3 :] = 1
    labels[size[0] // 2 + number % 4 :] = 2
    labels[:2] = 255
    return labels


def write_semantic_part(folder: Path, count: int, size=SIZE) -> None:
    """`images/` and `labels/` of plain regions, each of the colour that its class is called."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        labels = toy_labels(number, size)
        colors = np.array([*COLORS, (90, 90, 90)], np.uint8)
        image = colors[np.where(labels == 255, 3, labels)]
        Image.fromarray(image).save(folder / f"images/toy_{number}.png")
        Image.fromarray(labels).save(folder / f"labels/toy_{number}.png")


def write_semantic_folder(root: Path, train: int = 0, val: int = 4, names=None, size=SIZE) -> Path:
    """A user's own folder: `val` images, or, with `train`, two parts. Returns it."""
    if train:
        write_semantic_part(root / "train", train, size)
        write_semantic_part(root / "val", val, size)
    else:
        write_semantic_part(root, val, size)
    (root / "classes.json").write_text(json.dumps(NAMES if names is None else names))
    return root

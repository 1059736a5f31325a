"""An ADE20K look-alike in the layout of the challenge: seeded images of a few large textures."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {1: "wall", 3: "sky", 4: "floor, flooring", 10: "grass", 13: "person", 22: "water"}
_TEXTURES = (1, 3, 4, 10, 22)


def object_info() -> str:
    """objectInfo150.txt, with the blank before a tab that the published file has in places."""
    lines = ["Idx\tRatio\tTrain\tVal\tName"]
    for number in range(1, 151):
        blank = " " if number in (22, 24, 25, 26, 27) else ""
        name = CLASSES.get(number, f"thing {number}")
        lines.append(f"{number}{blank}\t0.0100\t100\t10\t{name}")
    return "\n".join(lines) + "\n"


def labels_and_image(seed: int, height: int = 64, width: int = 96) -> tuple:
    """Label map uint8 (H,W) and image uint8 (H,W,3): stripes of classes, sometimes a person."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 5))
    classes = rng.choice(_TEXTURES, count, replace=False)
    edges = np.linspace(0, width, count + 1).astype(int)
    labels = np.zeros((height, width), np.uint8)
    image = np.zeros((height, width, 3), np.uint8)
    for number, left, right in zip(classes, edges[:-1], edges[1:], strict=True):
        labels[:, left:right] = number
        color = np.random.default_rng(int(number)).integers(40, 216, 3)
        noise = rng.integers(-30, 31, (height, right - left, 1))
        image[:, left:right] = np.clip(color + noise, 0, 255)
    if rng.random() < 0.2:
        labels[10:30, 10:30] = 13
        image[10:30, 10:30] = (200, 150, 120)
    return labels, image


def write_ade_toy(root: Path, count: int = 12, val: int = 2, seed: int = 0) -> Path:
    """Write `count` training and `val` validation images; returns the challenge folder."""
    folder = root / "ADEChallengeData2016"
    for part, short, number in (("training", "train", count), ("validation", "val", val)):
        images, annotations = folder / "images" / part, folder / "annotations" / part
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for index in range(1, number + 1):
            labels, image = labels_and_image(seed * 100_003 + index + 50_000 * (short == "val"))
            name = f"ADE_{short}_{index:08d}"
            Image.fromarray(image).save(images / f"{name}.jpg", quality=92)
            Image.fromarray(labels).save(annotations / f"{name}.png")
    (folder / "objectInfo150.txt").write_text(object_info())
    return folder


def write_textured_toy(root: Path, ade: Path, style: str = "dot", flat: bool = True) -> Path:
    """Write variants of the training images at the degrees 0.0, 0.5 and 1.0.

    Args:
        root: the folder `textured` is made in it.
        ade: of `write_ade_toy`.
        style: `dot` (`degree0.5`) or `underscore` (`degree0_5`).
        flat: all in one folder, or one for each degree.
    """
    folder = root / "textured"
    for path in sorted((ade / "images" / "training").glob("*.jpg")):
        pixels = np.asarray(Image.open(path)).astype(float)
        for degree in (0.0, 0.5, 1.0):
            text = str(degree) if style == "dot" else str(degree).replace(".", "_")
            target = folder if flat else folder / f"degree_{text}"
            target.mkdir(parents=True, exist_ok=True)
            mixed = (1 - degree) * pixels + degree * pixels[::-1]
            file = target / f"{path.stem}_textured_degree{text}.jpg"
            Image.fromarray(mixed.astype(np.uint8)).save(file)
    return folder

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
        side = slice(height // 6, height // 2)
        labels[side, side] = 13
        image[side, side] = (200, 150, 120)
    return labels, image


def write_ade_toy(root: Path, count: int = 12, val: int = 2, seed: int = 0, size=(64, 96)) -> Path:
    """Write `count` training and `val` validation images; returns the challenge folder."""
    folder = root / "ADEChallengeData2016"
    for part, short, total in (("training", "train", count), ("validation", "val", val)):
        images, annotations = folder / "images" / part, folder / "annotations" / part
        images.mkdir(parents=True)
        annotations.mkdir(parents=True)
        for index in range(1, total + 1):
            number = seed * 100_003 + index + 50_000 * (short == "val")
            labels, image = labels_and_image(number, *size)
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


# ---- stages that stand in for the real ones ------------------------------------------------------


def toy_score(context):
    """Rejects images with a person, and fails on ids of the file `fail` in OUTPUT_DIR."""

    def score(item, earlier):
        fail = context.output / "fail"
        if fail.exists() and item.item_id in fail.read_text().split():
            raise RuntimeError("told to fail")
        labels = context.source.read_labels(item)
        selected = "rejected" if (labels == 13).any() else "selected"
        return {"status": "ok", "size": list(labels.shape), "review": 80.0, "selected": selected}

    return score


def toy_extract(context):
    """Every class is a region, the largest first."""

    def extract(item, earlier):
        labels = context.source.read_labels(item)
        classes, pixels = np.unique(labels[labels > 0], return_counts=True)
        order = [int(c) for c in classes[np.argsort(-pixels, kind="stable")]]
        mask = np.zeros(labels.shape, np.uint8)
        for number, class_id in enumerate(order, 1):
            mask[labels == class_id] = number
        name = f"extract/{item.item_id}.png"
        (context.output / "extract").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(context.output / name)
        names = context.source.class_names
        regions = [
            {"class_id": c, "class_name": names.get(c, ""), "area": 0.5, "bbox": [0, 0, 1, 1]}
            for c in order
        ]
        return {"status": "ok", "size": list(mask.shape), "regions": regions, "index_mask": name}

    return extract


def toy_describe(context):
    """A template; notes every call in OUTPUT_DIR/calls."""

    def describe(item, earlier):
        with (context.output / "calls").open("a") as file:
            file.write(item.item_id + "\n")
        texts = [
            f"Texture of {r['class_name']}, even and coarse all over, number {n} of the image"
            for n, r in enumerate(earlier["extract"]["regions"])
        ]
        return {"status": "ok", "describer": "toy", "offline": True, "descriptions": texts,
                "cost": 0.01}  # fmt: skip

    return describe


def toy_validate(context):
    """Everything is fine."""
    return lambda item, earlier: {"status": "ok", "problems": [], "warnings": []}


def toy_expand(context):
    """The degree 1.0 of every image that has variants."""

    def expand(tasks):
        from detecture.miner.items import Item  # a child process imports this file too

        every = {item.item_id: item for item in context.source.items()}
        found = {}
        for task in tasks:
            name = f"{task.item.base_id}_textured_degree1.0"
            if task.item.degree is not None and name != task.item.item_id and name in every:
                item: Item = every[name]
                found[name] = {"status": "ok", "of": task.item.item_id, "item": item.to_dict()}
        return found

    return expand


def toy_look(context):
    """No image looks like another."""
    return lambda item, earlier: {"status": "ok", "hash": item.base_id}


def toy_split(context):
    """By base image: every fourth for validation."""

    def split(tasks):
        bases = sorted({task.item.base_id for task in tasks})
        side = {base: "val" if n % 4 == 3 else "train" for n, base in enumerate(bases)}
        return {t.item.item_id: {"status": "ok", "split": side[t.item.base_id]} for t in tasks}

    return split


def use_toy_stages(monkeypatch) -> None:
    """Put the stages above into the table."""
    from dataclasses import replace

    from detecture.miner import stages

    for name in ("score", "extract", "describe", "validate", "expand", "look", "split"):
        place = f"miner_toy:toy_{name}"
        monkeypatch.setitem(stages.STAGES, name, replace(stages.STAGES[name], make=place))


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Write an ADE20K look-alike at the usual size.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--val", type=int, default=200)
    options = parser.parse_args()
    print(write_ade_toy(options.folder, options.count, options.val, size=(512, 683)))

"""docs/usage.md lists the files of a result and all fields of their JSON, and nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from detecture import TextureResult
from detecture.data.vocabulary import Vocabulary
from detecture.engine.semantic_result import SemanticResult
from detecture.modeling.grouping.proposals import Alternative

USAGE = (Path(__file__).parents[2] / "docs/usage.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| ((?:`[\w.\[\]]+`(?:, )?)+) \| (both|regions|classes) \|", re.MULTILINE)
IMAGE = np.zeros((4, 6, 3), np.uint8)
LABELS = np.repeat([[0, 0, 0, 1, 1, 2]], 4, axis=0)


def texture_result():
    return TextureResult(
        IMAGE,
        LABELS.astype(np.int32),
        ["red", "", "empty"],
        alternatives=(Alternative(3, 0.75), Alternative(2, 0.25)),
        confidence=(0.9, 0.8, 0.0),
    )


def semantic_result(background=0.5):
    return SemanticResult(
        IMAGE,
        LABELS.astype(np.int16),
        np.full((4, 6), 0.7, np.float32),
        ["sky", "sea", "background"] if background else ["sky", "sea", "sand"],
        Vocabulary.parse("sky|clouds, sea" if background else "sky|clouds, sea, sand"),
        background,
    )


def documented(kind):
    return {
        field
        for fields, of in ROW.findall(USAGE)
        if of in ("both", kind)
        for field in re.findall(r"`([^`]+)`", fields)
    }


def fields_of(value, at=""):
    """Paths of all values that are no objects, nor lists of objects."""
    if isinstance(value, dict):
        return {f for key, v in value.items() for f in fields_of(v, f"{at}.{key}".lstrip("."))}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(fields_of(item, f"{at}[]") for item in value))
    return {at}


@pytest.mark.parametrize(
    ("results", "kind"),
    [
        ([texture_result()], "regions"),
        ([semantic_result(), semantic_result(background=0.0)], "classes"),
    ],
)
def test_every_field_is_described(results, kind, tmp_path):
    written = set()
    for number, result in enumerate(results):
        paths = result.save(tmp_path, f"leaf{number}")
        names = {path.name.replace(f"leaf{number}", "leaf") for path in paths.values()}
        assert names == set(re.findall(r"^\| `(leaf[\w.]+)` \|", USAGE, re.MULTILINE))
        written |= fields_of(json.loads(paths["json"].read_text("utf-8")))
    assert written == documented(kind)


def test_what_is_said_of_the_values(tmp_path):
    for result in (texture_result(), semantic_result()):
        paths = result.save(tmp_path, f"{type(result).__name__}")
        labels = np.array(Image.open(paths["labels"]))
        assert (labels == LABELS).all()
        regions = json.loads(paths["json"].read_text("utf-8"))["regions"]
        assert [region["id"] for region in regions] == [1, 2, 3]
        for region in regions:
            mask = labels == region["category_id"]
            assert (coco_mask.decode(region["segmentation"]) == mask).all()
            assert (region["image_id"], region["area"]) == (0, mask.sum())
            assert any(region["bbox"]) == mask.any()

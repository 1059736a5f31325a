"""Toy data sets in the layout of BSDS500."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from detecture.data import register_segmentations

SIZE = (24, 32)


def strips(count, size=SIZE):
    """Upright strips as a label map (H,W), numbered from 1."""
    height, width = size
    return (np.arange(width) * count // width + 1)[None].repeat(height, 0).astype(np.uint16)


def write_image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)


def write_segmentations(path, *maps):
    """One map (H,W) for each annotator, as BSDS500's files have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(maps)), object)
    for number, labels in enumerate(maps):
        cells[0, number] = {"Segmentation": labels, "Boundaries": np.zeros(labels.shape, np.uint8)}
    savemat(path, {"groundTruth": cells}, do_compression=True)


def write_toy_set(root, truths, part="test"):
    """Image id -> maps; returns the root."""
    for image_id, maps in truths.items():
        write_image(root / f"images/{part}/{image_id}.jpg")
        write_segmentations(root / f"groundTruth/{part}/{image_id}.mat", *maps)
    return root


def register_toy_set(root, part="test", published_images=None):
    """Register it under a name of its own; returns the name."""
    name = f"regions_{abs(hash((str(Path(root)), part)))}"
    register_segmentations(name, root, part, published_images=published_images)
    return name

"""Sets of open-vocabulary segmentation for benchmarks: in the published folders, and as cells."""

import numpy as np
from PIL import Image

from detecture.benchmark.results import SEMANTIC, CellResult
from detecture.d2 import MetadataCatalog
from detecture.evaluation.semantic_summary import CONDITIONS, SEMANTIC_METRICS

SEVEN = {
    "coco_2017_test_stuff_all_sem_seg": "COCO-Stuff",
    "ade20k_150_test_sem_seg": "ADE-150",
    "ade20k_full_sem_seg_freq_val_all": "ADE-847",
    "context_59_test_sem_seg": "PC-59",
    "context_459_test_sem_seg": "PC-459",
    "voc_2012_test_sem_seg": "VOC-20",
    "voc_2012_test_background_sem_seg": "VOC-20b",
}

_SEEN = ("canvas 640 x 640, kernel 384, overlap 0.333", "one", "off")
PUBLISHED = ("present", "full", "the data set's own", "first", "single", "none", *_SEEN)


def write_published_layout(root, name, count=2, size=(48, 64)):
    """Noise, and label maps of three classes and a strip without one, where a set has its files."""
    metadata = MetadataCatalog.get(name)
    classes, ignored = len(metadata.stuff_classes), metadata.ignore_label
    images, labels = (
        root / text.split("/", 1)[1] for text in (metadata.image_root, metadata.sem_seg_root)
    )
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    wide = ignored > 255
    random = np.random.default_rng(0)
    for number in range(count):
        image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        found = np.zeros(size, np.uint16 if wide else np.uint8)
        found[:, size[1] // 2 :] = 3 * number + 5
        found[size[0] // 2 :] = classes - 1
        found[:2] = ignored
        Image.fromarray(image).save(images / f"image_{number}.jpg")
        Image.fromarray(found).save(labels / f"image_{number}.{'tif' if wide else 'png'}")


def semantic_summary(dataset, miou, conditions=PUBLISHED, **more):
    """A summary whose figures are all different, and known from `miou`."""
    names = ("mIoU_present", "mIoU_present_or_predicted", "bIoU", "fwIoU", "mACC", "pACC")
    figures = {name: miou - 0.01 * step for step, name in enumerate(names)}
    figures["mIoU"] = miou
    return {
        "dataset": dataset,
        **dict.fromkeys(SEMANTIC_METRICS, 4),
        **figures,
        "ci95": {name: [value - 0.005, value + 0.005] for name, value in figures.items()},
        **dict(zip(CONDITIONS, conditions, strict=True)),
        **{"n_ok": 4, "n_total": 4, "statuses": {"ok": 4}, "headline": "mIoU", **more},
    }


def semantic_cell(method, dataset, miou=None, *, state="done", **more):
    """A cell; with a mean IoU it has a summary, of which `figures` are a part."""
    figures = more.pop("figures", {})
    given = {"label": method, "variant": "published", "k_access": SEMANTIC, **more}
    found = None if miou is None else semantic_summary(dataset, miou, **figures)
    return CellResult(method=method, dataset=dataset, state=state, summary=found, **given)

"""Sets of semantic segmentation: a folder of images, one of label maps, a class list.

A label map is an image of one channel with the size of its image: pixel value i is class i of the
list, and `ignore_label` means no class. Images and label maps are matched by name. The published
sets are in `semantic.json`; a user's own is a folder with `images/`, `labels/` and `classes.json`,
or with such `train/` and `val/` in it.
"""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detecture.d2 import MetadataCatalog
from detecture.data.datasets.register import register_with_metadata
from detecture.data.image_files import IMAGE_ENDINGS, only_images
from detecture.data.paths import SEMANTIC_ROOT, expand_location
from detecture.data.vocabulary import CLASS_LISTS, Vocabulary
from detecture.errors import ConfigError, DatasetError
from detecture.untrusted import read_json

IMAGES, LABELS, CLASSES = "images", "labels", "classes.json"
"""What a user's own folder holds."""

SPLITS = ("train", "val")
"""Folders of a user's own, where it has two parts."""

_TABLE = Path(__file__).with_suffix(".json")
_LABEL_ENDINGS = frozenset({".png", ".tif", ".tiff", ".bmp"})
_EIGHT_BITS, _SIXTEEN_BITS = 255, 65535
_HELP = "datasets/README.md shows the layout"


@dataclass(frozen=True)
class SemanticSet:
    """What is known about a registered set.

    Attributes:
        name: of the set.
        vocabulary: its classes, in the order of the labels.
        ignore_label: label of pixels without a class.
        image_root: folder of the images.
        label_root: folder of the label maps.
        shared_images: the image folder may hold other images too; the label maps say which count.
        prepare: the script that makes the label maps; empty: the user's own work.
        published_images: how many the published set has; None: unknown.
    """

    name: str
    vocabulary: Vocabulary
    ignore_label: int
    image_root: Path
    label_root: Path
    shared_images: bool
    prepare: str
    published_images: int | None


def register_semantic_dataset(
    name: str,
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    classes: Sequence[Any],
    *,
    title: str = "",
    ignore_label: int = _EIGHT_BITS,
    shared_images: bool = False,
    prepare: str = "",
    published_images: int | None = None,
) -> None:
    """Register a set; its folders are not accessed until it is loaded.

    The catalogs have what Detectron2's own sets have: `file_name`, `sem_seg_file_name`, and the
    metadata `stuff_classes`, `ignore_label`, `image_root`, `sem_seg_root`, `evaluator_type`.

    Args:
        name: name in `DatasetCatalog` and `MetadataCatalog`.
        images, labels: folders. `~` and environment variables are expanded at load time;
            `$DETECTRON2_DATASETS` defaults to `datasets`.
        classes: a class list, see `detecture.data.vocabulary`.
        title: what tables call the set; empty: its name.
        ignore_label, shared_images, prepare, published_images: see `SemanticSet`.

    Raises:
        ConfigError: the class list is invalid.
        DatasetError: the name is taken by another set.
    """
    values = {
        "image_root": os.fspath(images),
        "sem_seg_root": os.fspath(labels),
        "stuff_classes": list(Vocabulary.of(classes).classes),
        "vocabulary": list(classes),
        "title": title,
        "ignore_label": ignore_label,
        "shared_images": shared_images,
        "prepare": prepare,
        "published_images": published_images,
        "evaluator_type": "sem_seg",
        "mapper": "SemanticMapper",
    }
    register_with_metadata(name, values, functools.partial(load_semantic, name))


def register_semantic_sets() -> None:
    """Register the published sets of `semantic.json`, under the names that CAT-Seg gives them."""
    for name, entry in read_json(_TABLE, ConfigError).items():
        images, labels = (f"${SEMANTIC_ROOT}/{entry.pop(key)}" for key in (IMAGES, LABELS))
        classes = read_json(CLASS_LISTS / f"{entry.pop('classes')}.json", ConfigError)
        register_semantic_dataset(name, images, labels, classes, **entry)


def register_semantic_folder(root: str | os.PathLike[str]) -> dict[str, str]:
    """Register a user's own folder, as the command lines' `--semantic-root` does.

    With up to 255 classes the label 255 means no class; with more, 65535.

    Args:
        root: holds `images/`, `labels/` and `classes.json`; or `classes.json`, `train/` and `val/`,
            of which each holds `images/` and `labels/`.

    Returns:
        The names of the sets: `{"train": "mine_train", "val": "mine_val"}`, or `{"": "mine"}`.

    Raises:
        DatasetError: something is missing, or a name is taken by another set.
        ConfigError: the class list is invalid.
    """
    folder = expand_location(root).resolve()
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"--semantic-root {folder} is a file; give a folder. {_HELP}")
    if not folder.is_dir():
        raise DatasetError(f"--semantic-root {folder} does not exist; give a folder. {_HELP}")
    parts = [part for part in SPLITS if (folder / part / IMAGES).is_dir()]
    if not parts and not (folder / IMAGES).is_dir():
        raise DatasetError(
            f"--semantic-root {folder} has no folder {IMAGES}, and no {SPLITS[0]}/{IMAGES} either; "
            f"put the images there. {_HELP}"
        )
    file = folder / CLASSES
    if not file.is_file():
        raise DatasetError(
            f"{file} does not exist; write the names of the classes there, as a JSON list in the "
            f'order of the labels: ["sky", "sand", "reed"]. {_HELP}'
        )
    content = read_json(file, ConfigError)
    if not isinstance(content, list):
        raise ConfigError(f'{file}: must be a JSON list of names, as ["sky", "sand", "reed"]')
    count = len(content)
    names = {}
    for part in parts or [""]:
        names[part] = f"{folder.name}_{part}" if part else folder.name
        try:
            register_semantic_dataset(
                names[part],
                str(folder / part / IMAGES),
                str(folder / part / LABELS),
                content,
                ignore_label=_EIGHT_BITS if count <= _EIGHT_BITS else _SIXTEEN_BITS,
            )
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
    return names


def is_semantic(name: str) -> bool:
    """Whether a registered data set is one of semantic segmentation."""
    return MetadataCatalog.get(name).get("sem_seg_root") is not None


def semantic_set(name: str) -> SemanticSet:
    """What is known about a registered set; its folders may not exist.

    Raises:
        DatasetError: it is not a set of semantic segmentation.
    """
    metadata = MetadataCatalog.get(name)
    if not is_semantic(name):
        raise DatasetError(
            f"data set {name!r} has no label maps; register it with register_semantic_dataset"
        )
    classes = metadata.get("vocabulary") or list(metadata.stuff_classes)
    return SemanticSet(
        name=name,
        vocabulary=Vocabulary.of(classes),
        ignore_label=metadata.get("ignore_label", _EIGHT_BITS),
        image_root=expand_location(metadata.image_root),
        label_root=expand_location(metadata.sem_seg_root),
        shared_images=metadata.get("shared_images", False),
        prepare=metadata.get("prepare", ""),
        published_images=metadata.get("published_images"),
    )


def load_semantic(name: str) -> list[dict[str, Any]]:
    """Records of a registered set; no file is opened.

    An image without a label map has a record that says where it was expected: a missing file
    becomes the status of that image at run time, and `tools/check_dataset.py` lists it.

    Returns:
        One dict per image, sorted by name: `file_name`, `sem_seg_file_name`, `image_id`
        (the name below the folder, without its ending).

    Raises:
        DatasetError: a folder is missing or has no files, or two images have the same name.
    """
    found = semantic_set(name)
    images = list_files(found.image_root, IMAGE_ENDINGS, found, "image")
    labels = list_files(found.label_root, _LABEL_ENDINGS, found, "label map")
    return [
        {
            "file_name": str(images.get(key, found.image_root / f"{key}.jpg")),
            "sem_seg_file_name": str(labels.get(key, found.label_root / f"{key}.png")),
            "image_id": key,
        }
        for key in (labels if found.shared_images else images)
    ]


def labels_without_image(name: str) -> list[Path]:
    """Label maps of a registered set that have no image of the same name."""
    found = semantic_set(name)
    images = list_files(found.image_root, IMAGE_ENDINGS, found, "image")
    labels = list_files(found.label_root, _LABEL_ENDINGS, found, "label map")
    return [path for key, path in labels.items() if key not in images]


def list_files(
    folder: Path, endings: frozenset[str], found: SemanticSet, what: str
) -> dict[str, Path]:
    """Files below a folder by their names without endings, sorted by name.

    Raises:
        DatasetError: there are none, or two have the same name.
    """
    files: dict[str, Path] = {}
    seen = (
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".")
    )
    for path in only_images(seen, folder) if what == "image" else seen:
        if path.suffix.lower() not in endings:
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in files:
            raise DatasetError(
                f"{path}: {files[key].name} has the same name but for its ending, so that "
                f"nobody can tell which {what} is meant; rename or remove one"
            )
        files[key] = path
    if files:
        return dict(sorted(files.items()))
    state = "holds no file of a known kind" if folder.is_dir() else "does not exist"
    if found.prepare and what == "label map":
        remedy = f"make them with python datasets/{found.prepare}"
    elif found.prepare:
        now = os.environ.get(SEMANTIC_ROOT) or "unset"
        remedy = f"download the set, or set {SEMANTIC_ROOT} (now: {now}) to the folder that has it"
    else:
        remedy = f"put one {what} for each {'label map' if what == 'image' else 'image'} there"
    raise DatasetError(
        f"{found.name}: the folder of the {what}s, {folder}, {state}; {remedy}. {_HELP}"
    )

"""Checks of everything but code: data sets, weights, the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from detecture.doctor.finding import Finding

_GET = "datasets/README.md says where to get them"


def check_data_root() -> Iterator[Finding]:
    """Whether `DETECTURE_DATASETS_ROOT` is a folder that holds data sets."""
    from detecture.data.paths import DATASETS_ROOT, expand_location

    root = expand_location(f"${DATASETS_ROOT}")
    given = os.environ.get(DATASETS_ROOT)
    folders = _expected_folders(DATASETS_ROOT)
    if not root.is_dir():
        if given:
            what = "no folder" if root.exists() else "not there"
            text = f"{DATASETS_ROOT} is {given}, which is {what}"
            remedy = f"export {DATASETS_ROOT}=FOLDER, the one that holds {folders[0]} and so on"
            yield Finding("data root", "problem", text, remedy)
        else:
            text = f"{DATASETS_ROOT} is not set, and its default {root} does not exist"
            yield Finding("data root", "note", text, f"for the published sets only; {_GET}")
        return
    where = f"{root}{'' if given else f' (default; {DATASETS_ROOT} is not set)'}"
    here = [folder for folder in folders if (root / folder).is_dir()]
    if here:
        text = f"{where} holds {len(here)} of {len(folders)} folders"
        yield Finding("data root", "ok", text)
        return
    yield Finding(
        "data root",
        "warning",
        f"{where} holds none of the data sets, whose folders are {', '.join(folders)}",
        _where_else(root, folders, DATASETS_ROOT) or _GET,
    )


def _expected_folders(variable: str) -> list[str]:
    """Folders of the built-in data sets below the root, in the order of their registration."""
    from detecture.d2 import MetadataCatalog
    from detecture.data import known_datasets

    roots = [str(MetadataCatalog.get(n).get("root") or "") for n in known_datasets()]
    prefix = f"${variable}/"
    return list(dict.fromkeys(r.removeprefix(prefix) for r in roots if r.startswith(prefix)))


def _where_else(root: Path, folders: list[str], variable: str) -> str:
    """What to do if the data sets are one folder higher or lower, or are spelled differently."""
    children = sorted(path for path in islice(root.iterdir(), 1000) if path.is_dir())
    for place in (root.parent, *children):
        if any((place / folder).is_dir() for folder in folders):
            return f"they are in a folder near it:\nexport {variable}={place}"
    written = {path.name.lower(): path for path in children}
    for folder in folders:
        if folder.lower() in written:
            return f"the name's case matters:\nmv {written[folder.lower()]} {root / folder}"
    return ""


def check_datasets() -> Iterator[Finding]:
    """For every registered data set: whether it is there, and how many images it has."""
    from detecture.d2 import MetadataCatalog
    from detecture.data import known_datasets
    from detecture.data.datasets.bsds500 import has_segmentations, segmentation_folders

    for name in known_datasets():
        metadata = MetadataCatalog.get(name)
        if metadata.get("sem_seg_root") is not None:
            # The label maps: where a script makes these, the images alone are of no use.
            folder, published = metadata.sem_seg_root, metadata.get("published_images")
            yield _dataset(name, folder, folder, published)
        elif has_segmentations(name):
            folder = segmentation_folders(name)[0]
            yield _dataset(name, str(folder), str(folder), metadata.get("published_images"))
        elif metadata.get("json_file") is None:
            yield Finding(f"data {name}", "ok", "made on the fly, needs no files")
        else:
            yield _dataset(
                name, metadata.json_file, metadata.root, metadata.get("published_images")
            )


def _dataset(name: str, json_file: str, root: str, published: int | None) -> Finding:
    from detecture.data import load_registered
    from detecture.data.paths import expand_location
    from detecture.errors import DatasetError

    title = f"data {name}"
    folder = expand_location(root)
    if not folder.is_dir():
        return Finding(title, "note", f"not there ({folder})")
    remedy = f"python tools/check_dataset.py {name}"
    try:
        records = load_registered(name)
    except DatasetError as error:
        return Finding(title, "problem", " ".join(str(error).split()), remedy)
    # One file is enough to tell that only the metadata was unpacked; check_dataset checks them all.
    if not Path(records[0]["file_name"]).is_file():
        text = f"{expand_location(json_file)} is there, {records[0]['file_name']} is not"
        return Finding(title, "problem", text, remedy)
    if published is not None and len(records) != published:
        text = f"{len(records):,} of the {published:,} published images, in {folder}"
        return Finding(title, "note", text, "figures on a part cannot be compared with others'")
    return Finding(title, "ok", f"{len(records):,} images in {folder}")


def check_weights() -> Iterator[Finding]:
    """Whether the shipped weights, including those of the default method, are there."""
    from detecture.checkpoint.shipped import DEFAULT_CONFIG, MODELS, locate
    from detecture.config import make_config
    from detecture.errors import DetectureError

    try:
        weights = locate(make_config(DEFAULT_CONFIG).MODEL.WEIGHTS)
    except DetectureError as error:
        weights, reason = None, str(error)
    else:
        reason = f"{weights} is not there"
    if weights is None or not weights.is_file():
        yield Finding("weights", "problem", reason, "install again from a complete checkout")
        return
    ship = sorted(MODELS.glob("*.safetensors"))
    text = ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB)" for file in ship)
    yield Finding("weights", "ok", f"{text} in {MODELS}")


def check_hub_cache() -> Iterator[Finding]:
    """Where the Hugging Face hub keeps downloads, and whether it may download."""
    # Reimplements the hub's rules, since huggingface_hub need not be installed.
    environ = os.environ
    home = environ.get("HF_HOME") or f"{environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    folder = Path(os.path.expandvars(environ.get("HF_HUB_CACHE") or f"{home}/hub")).expanduser()
    models = len(list(folder.glob("models--*"))) if folder.is_dir() else 0
    offline = environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    text = f"{models} models in {folder}; HF_HUB_OFFLINE is {'on' if offline else 'off'}"
    if offline and not models:
        yield Finding(
            "hub cache",
            "note",
            f"{text}: configs that name a hub id cannot load",
            "give MODEL.WEIGHTS a path, or copy the cache of a machine with network",
        )
    else:
        yield Finding("hub cache", "ok", text)

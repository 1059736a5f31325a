"""Giving texture data sets names in Detectron2's catalogs."""

import difflib
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.k_hint import K_OF_REGIME
from detecture.data.paths import expand_location
from detecture.errors import DatasetError, brief


def register_texture_dataset(
    name: str,
    json_file: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    k_regime: str = "autonomous",
    subject: str = "",
    evaluator_type: str = "texture",
    mapper: str = "TextureMapper",
) -> None:
    """Register a texture data set; its files are not accessed until it is loaded.

    Registering a name again with the same values does no harm.

    Args:
        name: name in `DatasetCatalog` and `MetadataCatalog`.
        json_file: metadata file of one of the two schemas (`load_texture_json`).
        root: folder below which all its files lie. `~` and environment variables in both paths are
            expanded at load time; `$DETECTURE_DATASETS_ROOT` defaults to `~/datasets`.
        k_regime: what every method may know of K: `single` (1), `pair` (2) or `autonomous`
            (nothing).
        subject: what the regions are, if all methods may know it; otherwise empty.
        evaluator_type: which evaluator scores it.
        mapper: name in `DATASET_MAPPER_REGISTRY` of the mapper for its records.

    Raises:
        DatasetError: an unknown regime, or the name is taken by another data set.
    """
    if k_regime not in K_OF_REGIME:
        raise DatasetError(
            f"data set {name!r}: k_regime {k_regime!r} is unknown; use one of "
            f"{', '.join(K_OF_REGIME)}"
        )
    values = {
        "json_file": os.fspath(json_file),
        "root": os.fspath(root),
        "k_regime": k_regime,
        "subject": subject,
        "evaluator_type": evaluator_type,
        "mapper": mapper,
    }
    register_with_metadata(
        name, values, functools.partial(load_texture_json, values["json_file"], values["root"])
    )


def register_with_metadata(
    name: str, values: dict[str, Any], load: Callable[[], list[dict[str, Any]]]
) -> None:
    """Register a data set's name and metadata; repeating it with the same values does no harm.

    Args:
        name: name in `DatasetCatalog` and `MetadataCatalog`.
        values: of the metadata.
        load: returns the records.

    Raises:
        DatasetError: the name is taken by another data set.
    """
    metadata = MetadataCatalog.get(name)
    for key, value in values.items():
        # Metadata also refuses another value, but not with a message that a user understands.
        if metadata.get(key, value) != value:
            raise DatasetError(
                f"data set {name!r} is already registered with {key} = {brief(metadata.get(key))}, "
                f"now comes {brief(value)}; choose another name (of a --dataset-json or "
                "--semantic-root: rename its folder)"
            )
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, load)
    metadata.set(**values)


def register_dataset_json(path: str | os.PathLike[str], *, k_regime: str = "autonomous") -> str:
    """Register the data set of one metadata file, as the command lines' `--dataset-json` does.

    Args:
        path: the metadata file; its folder is the data set's root.
        k_regime: see `register_texture_dataset`.

    Returns:
        The name: the folder's, followed by the file's stem unless that is `metadata`
        (`mine/metadata.json`: `mine`; `mine/val.json`: `mine_val`).

    Raises:
        DatasetError: there is no such file, or the name is taken by another data set.
    """
    json_file = expand_location(path).resolve()
    if not json_file.is_file():
        raise DatasetError(
            f"--dataset-json {json_file} does not exist; give the path of a metadata.json "
            "(datasets/README.md shows its layout)"
        )
    name = json_file.parent.name
    if json_file.stem != "metadata":
        name = f"{name}_{json_file.stem}"
    register_texture_dataset(name, str(json_file), str(json_file.parent), k_regime=k_regime)
    return name


def load_registered(name: str) -> Sequence[dict[str, Any]]:
    """Records of a registered data set: a list, or a sequence that makes them on the fly.

    Raises:
        DatasetError: no data set has this name (the text lists those that exist), or it cannot be
            loaded.
    """
    require_registered(name)
    records: Sequence[dict[str, Any]] = DatasetCatalog.get(name)
    return records


def load_test_records(name: str, limit: int) -> Sequence[dict[str, Any]]:
    """The records to evaluate: the first `limit` (TEST.LIMIT) of a data set.

    Args:
        name: a registered data set.
        limit: number of images; 0: all.

    Raises:
        DatasetError: see `load_registered`.
    """
    records = load_registered(name)
    return records[:limit] if limit else records


def known_datasets() -> list[str]:
    """Names of the registered data sets, in order, without detectron2's own.

    Those have their own evaluator, no mapper of ours, and no information about K.
    """
    return [
        name
        for name in DatasetCatalog.list()
        if MetadataCatalog.get(name).get("k_regime") is not None
        or MetadataCatalog.get(name).get("mapper") is not None
        or MetadataCatalog.get(name).get("evaluator_type") is None
    ]


def require_registered(name: str) -> None:
    """Check that a data set of this name exists.

    Raises:
        DatasetError: it does not; the message lists those that do and suggests which one may be
            meant.
    """
    if name in DatasetCatalog.list():
        return
    known = sorted(known_datasets())
    close = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f"; did you mean {close[0]}?" if close else "."
    own = (
        " For your own images use --dataset-json, or --semantic-root."
        if not Path(name).suffix
        else (" A file is given with --dataset-json.")
    )
    raise DatasetError(
        f"data set {brief(name)} is unknown{meant} Known are {', '.join(known) or 'none'}.{own}"
    )

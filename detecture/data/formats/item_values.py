"""Plain values of an item, as kept by formats that have no special place for them."""

from typing import Any

from detecture.data.formats.labelled_image import LabelledImage
from detecture.errors import DatasetError, brief


def values_of(item: LabelledImage) -> dict[str, Any]:
    """Everything in an item except pixels, as plain values."""
    return {
        "item_id": item.item_id,
        "descriptions": list(item.descriptions),
        "split": item.split,
        "more": dict(item.more),
    }


def item_values(values: Any, where: str) -> dict[str, Any]:
    """The arguments of `LabelledImage` that `values_of` wrote, read from a file.

    Raises:
        DatasetError: they are malformed.
    """
    kinds = {"item_id": str, "descriptions": list, "split": str, "more": dict}
    for key, kind in kinds.items():
        if not isinstance(values, dict) or not isinstance(values.get(key), kind):
            raise DatasetError(f"{where}: has no {key}; export it anew")
    if not all(isinstance(text, str) for text in values["descriptions"]):
        raise DatasetError(f"{where}: descriptions must be texts; export it anew")
    return {key: values[key] for key in kinds}


def file_name_in(values: Any, key: str, where: str) -> str:
    """A file name, not a path, read from a file.

    Raises:
        DatasetError: it is not valid.
    """
    name = values.get(key) if isinstance(values, dict) else None
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise DatasetError(f"{where}: {key} is {brief(name)}, no name of a file; export it anew")
    return name

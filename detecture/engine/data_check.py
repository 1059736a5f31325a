"""Checks of a data set as a whole, made before its first image is read."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detecture.d2 import comm
from detecture.data.ground_truth import truth_files
from detecture.errors import DatasetError

logger = logging.getLogger(__name__)


def require_files(name: str, records: Sequence[dict[str, Any]]) -> None:
    """Check that a data set has files: at least one of its images and one of its label maps.

    A single missing file becomes the status of its image, or is left out in training.

    Args:
        name: of the data set.
        records: of the data set; records made on the fly have no files.

    Raises:
        DatasetError: all images, or all masks or label maps, are missing.
    """
    if not isinstance(records, list):
        return
    for what, of_record in (("images", _images), ("masks or label maps", truth_files)):
        first = ""
        for path in (path for record in records for path in of_record(record)):
            if Path(path).exists():
                break
            first = first or path
        else:
            if first:
                raise DatasetError(
                    f"data set {name}: none of its {what} is there, the first being {first}; put "
                    "them where its records say, or check it with tools/check_dataset.py"
                )


def _images(record: dict[str, Any]) -> Iterator[str]:
    if isinstance(record.get("file_name"), str):
        yield record["file_name"]


def warn_without_words(name: str, records: Sequence[dict[str, Any]], effect: str) -> None:
    """Log how many texture records have only empty descriptions.

    Args:
        name: of the data set.
        records: of the data set; records made on the fly always have descriptions.
        effect: what the consequence is.
    """
    if not isinstance(records, list) or not comm.is_main_process():
        return
    found = [r["image_id"] for r in records if r.get("textures") and not _has_words(r)]
    if found:
        logger.warning(
            "data set %s: all descriptions are empty in %d of its %d records (the first: %s); %s",
            *(name, len(found), len(records), found[0], effect),
        )


def _has_words(record: dict[str, Any]) -> bool:
    return any(texture.get("description", "").strip() for texture in record["textures"])

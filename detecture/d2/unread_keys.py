"""Keys of Detectron2 that the active API takes and that nothing reads."""

from collections.abc import Mapping
from typing import Any

from detecture.d2 import BACKEND


def warn_of_unread_keys(values: Mapping[str, Any], source: str) -> None:
    """Log one warning that names the keys that were set but have no effect, if there are any.

    With detectron2 there are none: its own models read all of its keys.

    Args:
        values: what was set, by full names of keys.
        source: what set them, such as the path of a file.
    """
    if BACKEND == "lite":
        from detecture.d2.lite import unread_keys

        unread_keys.warn_of_unread_keys(values, source)

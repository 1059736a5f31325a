"""The Detectron2 API of this project: `from detecture.d2 import ...`.

With detectron2 installed these are detectron2's own objects, otherwise those of
`detecture.d2.lite`. The environment variable `DETECTURE_D2` (`lite` or `detectron2`) forces one.
"""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING

from detecture.d2.names import NAMES


def _pick_backend() -> str:
    forced = os.environ.get("DETECTURE_D2") or None
    if forced not in (None, "lite", "detectron2"):
        raise ImportError(f"DETECTURE_D2 is {forced!r}; set it to lite or detectron2, or unset it")
    if forced == "lite":
        return "lite"
    spec = importlib.util.find_spec("detectron2")
    # A mere folder of that name, such as a source checkout beside the script, has no origin.
    if spec is not None and spec.origin is not None:
        return "detectron2"
    if forced == "detectron2":
        raise ImportError(
            "DETECTURE_D2 is detectron2, but detectron2 is not installed; install it "
            "(https://detectron2.readthedocs.io/tutorials/install.html) or unset DETECTURE_D2"
        )
    return "lite"


BACKEND = _pick_backend()
"""Which one is active: `lite` or `detectron2`. For diagnostics only."""

if TYPE_CHECKING:
    from detecture.d2.lite import *  # noqa: F403 (these are NAMES; tests/d2 holds both to it)
else:
    _backend = importlib.import_module(
        "detecture.d2.lite" if BACKEND == "lite" else "detecture.d2.full"
    )
    globals().update({name: getattr(_backend, name) for name in NAMES})

__all__ = ["BACKEND", *NAMES]

"""The API from detectron2 itself. The only module that imports it."""

import importlib
from types import ModuleType
from typing import Any

from detecture.d2.names import NAMES

# Where detectron2 keeps the names; the first that has one gives it.
_MODULES = (
    "checkpoint",
    "config",
    "data",
    "data.samplers",
    "engine",
    "evaluation",
    "modeling",
    "solver",
    "utils",
    "utils.collect_env",
    "utils.events",
    "utils.file_io",
    "utils.logger",
    "utils.registry",
)


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"detectron2.{module}")
    except ImportError as error:
        raise ImportError(
            f"detectron2 is installed but cannot be imported: {error}. Mend it, or set "
            "DETECTURE_D2=lite to do without it"
        ) from error


def _find(name: str, modules: tuple[ModuleType, ...]) -> Any:
    for module in modules:
        if hasattr(module, name):
            return getattr(module, name)
    raise ImportError(
        f"the detectron2 that is installed has no {name}; take a newer one, or set "
        "DETECTURE_D2=lite to do without it"
    )


_found = tuple(_import(module) for module in _MODULES)
globals().update({name: _find(name, _found) for name in NAMES})

"""Loads a script of tools/ or datasets/ as a module, to run it in the test's own process."""

import importlib.util
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def load_script(path):
    """The module of a script, such as `tools/demo.py`; loaded anew each time."""
    name = f"{Path(path).stem}_script"
    spec = importlib.util.spec_from_file_location(name, REPO / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle and dataclasses look for it
    spec.loader.exec_module(module)
    return module

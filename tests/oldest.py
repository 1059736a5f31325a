"""The oldest versions that setup.py allows, as requirements for pip: `make test-oldest`.

  python tests/oldest.py > oldest.txt

Reads setup.py itself, so there is no second list. pip then installs exactly these versions, and
fails where one of them cannot be had beside the others: a lower bound that is not true. What only
tests need is as new as it comes.
"""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

REPO = Path(__file__).resolve().parents[1]
EXTRAS = (
    *("web", "supervision", "heif", "tiff", "plot", "ray", "store", "parquet", "miner-api"),
    "quantized",
)
"""All but `meta-sam3`, which needs a newer iopath than detectron2 allows, and `dev`."""

_BOUND = re.compile(r"([A-Za-z0-9._-]+(?:\[[^]]*\])?)>=([0-9][^,;\s]*)")


def declared() -> dict[str, Any]:
    """What setup.py passes to setuptools, which need not be there."""
    given: dict[str, Any] = {}
    stand_in = ModuleType("setuptools")
    stand_in.setup = given.update  # type: ignore[attr-defined]
    stand_in.find_packages = lambda **_: []  # type: ignore[attr-defined]
    before = sys.modules.get("setuptools")
    sys.modules["setuptools"] = stand_in
    try:
        runpy.run_path(str(REPO / "setup.py"))
    finally:
        del sys.modules["setuptools"]
        if before is not None:
            sys.modules["setuptools"] = before
    return given


def lower_bound(requirement: str) -> tuple[str, str]:
    """Name and oldest version of a requirement such as `ray[data]>=2.40,<2.64`.

    Raises:
        ValueError: it does not begin with a lower bound.
    """
    match = _BOUND.match(requirement)
    if match is None:
        raise ValueError(f"setup.py: {requirement!r} does not begin with NAME>=VERSION")
    return match[1], match[2]


def oldest() -> list[str]:
    """Lines for pip: each direct requirement of the package and of `EXTRAS` at its lower bound."""
    given = declared()
    wanted = [*given["install_requires"]]
    wanted += [one for extra in EXTRAS for one in given["extras_require"][extra]]
    return [f"{name}=={version}" for name, version in map(lower_bound, wanted)]


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in oldest()))

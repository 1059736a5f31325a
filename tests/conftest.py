"""For all tests: their tiers, loggers, where the data sets for evaluation are, a browser.

Every test is in one of three tiers. Without a mark it is for every day (`make test`); `slow` ones
run with DETECTURE_SLOW_TESTS=1, as CI has it; `long` ones (all fuzz cases, all kills) with
DETECTURE_LONG_TESTS=1, which runs the slow ones too, by hand.
"""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # they share the cores; before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from web.chromium import VARIABLE, browser, chromium_path

REPO = Path(__file__).resolve().parents[1]
TIERS = {
    "slow": ("DETECTURE_SLOW_TESTS", "DETECTURE_LONG_TESTS"),
    "long": ("DETECTURE_LONG_TESTS",),
}
"""Marks of tests that are not for every day, and the variables any of which runs them."""
_VARIABLE = "DETECTURE_DATASETS_ROOT"


def tiers_of(item: pytest.Item) -> list[str]:
    """The marks of `TIERS` that a test has."""
    return [name for name in TIERS if item.get_closest_marker(name)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tiers that were not asked for."""
    for item in items:
        for name in tiers_of(item):
            if not any(os.environ.get(variable) == "1" for variable in TIERS[name]):
                reason = f"{name}: set {TIERS[name][0]}=1"
                item.add_marker(pytest.mark.skip(reason=reason))


def _data_is_missing(reason: str) -> None:
    """Skip the test, or fail it where the data have to be there (DETECTURE_REQUIRE_DATA=1)."""
    if os.environ.get("DETECTURE_REQUIRE_DATA") == "1":
        pytest.fail(f"{reason} (DETECTURE_REQUIRE_DATA=1)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def restored_loggers() -> Iterator[None]:
    """setup_logger changes global loggers; one test must not silence another one's records.

    Nor may its handlers write to a terminal that is closed by then.
    """
    loggers = [logging.getLogger(name) for name in ("detecture", "detectron2", "fvcore")]
    before = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, propagate, handlers in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture
def datasets_root(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with the real data sets; DETECTURE_DATASETS_ROOT points to it during the test."""
    root = Path(os.environ.get(_VARIABLE) or REPO.parent / "shared" / "data")
    if not root.is_dir():
        _data_is_missing(f"{root} ({_VARIABLE}, or the default) does not exist")
    monkeypatch.setenv(_VARIABLE, str(root))
    return root


@pytest.fixture
def require_dataset(datasets_root: Path) -> Callable[[str], Path]:
    """Function from a data set's folder name to its path; the test is skipped without the set."""

    def require(name: str) -> Path:
        folder = datasets_root / name
        if not folder.is_dir():
            _data_is_missing(f"{datasets_root} has no data set {name}")
        return folder

    return require


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium (playwright's `Browser`); the test is skipped where there is none."""
    pytest.importorskip("playwright", reason="needs playwright: pip install playwright")
    if chromium_path() is None:
        pytest.skip(f"needs a Chromium on the PATH, or {VARIABLE} with the path of one")
    with browser() as running:
        yield running

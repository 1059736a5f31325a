"""Fixtures for all tests: where the data sets for evaluation are, if they are anywhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
_VARIABLE = "DETECTURE_DATASETS_ROOT"


def _data_is_missing(reason: str) -> None:
    """Skip the test, or fail it where the data have to be there (DETECTURE_REQUIRE_DATA=1)."""
    if os.environ.get("DETECTURE_REQUIRE_DATA") == "1":
        pytest.fail(f"{reason} (DETECTURE_REQUIRE_DATA=1)", pytrace=False)
    pytest.skip(reason)


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

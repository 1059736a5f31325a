"""A model with trained parts, for tests of converted and of merged checkpoints."""

import pytest
from micro import micro_overrides
from published import RELEASED, perturbed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def source(folder):
    return perturbed(folder / "source", *RELEASED)


@pytest.fixture(scope="module")
def words(folder):
    return micro_overrides(folder / "target")

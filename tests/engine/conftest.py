"""What the tests of training share."""

import pytest
from toy import register_toy_dataset, write_toy_dataset

from detecture.d2 import DatasetCatalog


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two data sets, with two and three regions in each image."""
    root = tmp_path_factory.mktemp("toys")
    names = [register_toy_dataset(write_toy_dataset(root / f"k{k}", count=5, k=k)) for k in (2, 3)]
    yield tuple(names)
    for name in names:
        DatasetCatalog.remove(name)

"""The contract suite of the Detectron2 API: it imports from `detecture.d2` alone.

Everything in this folder must hold for detectron2 itself and for `detecture.d2.lite`. A test of
something that only the latter promises carries `@pytest.mark.lite_only`.
"""

import pytest

from detecture.d2 import BACKEND


def pytest_configure(config):
    config.addinivalue_line("markers", "lite_only: about detecture.d2.lite, not about detectron2")


def pytest_runtest_setup(item):
    if BACKEND != "lite" and item.get_closest_marker("lite_only"):
        pytest.skip("about detecture.d2.lite only")

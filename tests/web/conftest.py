"""A running page for the tests that need gradio."""

import socket
from pathlib import Path

import pytest

from detecture import TexturePredictor
from detecture.web.service import Limits

REPO = Path(__file__).parents[2]
PHOTOS = REPO / "datasets/samples/photos"
MAX_MEGAPIXELS = 0.5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def demo():
    """The page over K-means, for images of up to half a million pixels and 1 MB."""
    pytest.importorskip("gradio", reason='the page needs gradio: pip install -e ".[web]"')
    from detecture.web.server import WebDemo

    predictor = TexturePredictor.from_config(REPO / "configs/baselines/texture_clusters.yaml")
    running = WebDemo(
        predictor,
        port=free_port(),
        examples=sorted(PHOTOS.glob("*.jpg")),
        max_megabytes=1.0,
        limits=Limits(max_pixels=round(MAX_MEGAPIXELS * 1e6)),
    )
    with running:
        yield running

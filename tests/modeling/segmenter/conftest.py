"""Both backends with the same weights, images and prompts."""

import pytest
import torch
from modeling.segmenter.toy_sam3 import WIDTH, make

from detecture.modeling.segmenter import Sam3Meta, Sam3Transformers
from detecture.modeling.segmenter.name_map import transformers_to_meta


@pytest.fixture(scope="module")
def hf():
    return make(Sam3Transformers).eval()


@pytest.fixture(scope="module")
def meta(hf):
    segmenter = make(Sam3Meta).eval()
    segmenter.load_weights(transformers_to_meta(hf.state_dict()), "test")
    return segmenter


@pytest.fixture(params=["hf", "meta"])
def segmenter(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def images():
    torch.manual_seed(1)
    return [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((40, 90), (70, 56))]


@pytest.fixture
def prompts():
    """Five prompts over two images: tokens, mask, image index."""
    torch.manual_seed(2)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=torch.bool)
    return torch.randn(5, 3, WIDTH), mask, torch.tensor([1, 0, 1, 1, 0])

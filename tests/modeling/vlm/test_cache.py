"""The cache goes by the name that the installed transformers has for it, without a warning."""

import warnings

import pytest
import torch

from detecture import TexturePredictor
from detecture.modeling.vlm.cache import cache_argument


class Newer(torch.nn.Module):
    def forward(self, states, cache=None, **options): ...


class Older(torch.nn.Module):
    def forward(self, states, past_key_values=None, **options): ...


class Neither(torch.nn.Module):
    def forward(self, *states, **options): ...


def test_the_name_is_that_of_the_installed_transformers():
    store = object()
    assert cache_argument(Newer(), store) == {"cache": store}
    assert cache_argument(Older(), store) == {"past_key_values": store}
    with pytest.raises(TypeError, match=r"Neither\.forward takes none of cache, past_key_values"):
        cache_argument(Neither(), store)


def test_a_prediction_warns_of_nothing_that_ends():
    image = torch.randint(256, (64, 64, 3), dtype=torch.uint8).numpy()
    predictor = TexturePredictor.from_config()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        warnings.simplefilter("error", DeprecationWarning)
        assert predictor(image, count=2).num_regions == 2

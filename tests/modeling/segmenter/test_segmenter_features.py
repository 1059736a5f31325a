"""Image features, cut and put together."""

import pytest
import torch
from modeling.segmenter.toy_sam3 import encode
from safetensors.torch import load_file, save_file

from detecture.errors import CheckpointError
from detecture.modeling.segmenter import (
    ImageFeatures,
)


def same(left, right):
    pairs = zip((*left.levels, left.positions), (*right.levels, right.positions), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_image_features_round_trip(hf, images, tmp_path):
    features = encode(hf, images)
    assert len(features) == 2
    save_file(features.select([1]).state(), tmp_path / "features.safetensors")
    loaded = ImageFeatures.from_state(load_file(tmp_path / "features.safetensors"))
    assert same(loaded, features.select(torch.tensor([1])))
    assert same(ImageFeatures.concat([features.select([0]), loaded]), features)
    assert features.to(dtype=torch.bfloat16).levels[0].dtype == torch.bfloat16
    assert (
        not ImageFeatures(tuple(features.levels), features.positions)
        .detach()
        .levels[0]
        .requires_grad
    )
    state = features.state()
    del state["level.1"]
    with pytest.raises(CheckpointError, match="delete the cache"):
        ImageFeatures.from_state(state)

"""CLIP's part in the score, on random weights."""

import numpy as np
import pytest
import torch

from detecture.config.sections.miner_stages import ClipScoreSettings
from detecture.errors import CheckpointError
from detecture.miner.score.clip import (
    ClipScorer,
    clip_scores,
    is_candidate,
    unit,
)
from detecture.modeling.clip.build import STRUCTURES
from detecture.modeling.clip.encoder import ClipEncoder
from detecture.modeling.weights.random_weights import seeded
from detecture.modeling.weights.structure import read_structure


@pytest.fixture(scope="module")
def model():
    from transformers import CLIPConfig, CLIPModel

    structure = read_structure("tiny", key="a test", folder=STRUCTURES)
    with seeded(0):
        return CLIPModel(CLIPConfig(**structure)).eval()


def images(count):
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (40 + 9 * n, 70 - 5 * n, 3)).astype(np.uint8) for n in range(count)
    ]


def test_the_arithmetic():
    axes = np.eye(4)
    found = clip_scores(
        np.stack([axes[0], [0.6, 0.8, 0, 0], axes[2], [0.5, 0.5, 0.5, 0.5]]),
        axes[:2],
        axes[2:],
        0.7,
    )
    assert found.scores_N == pytest.approx([1.0, 0.8, -0.7, 0.15])
    assert found.passes(2.0, 1).tolist() == [True, True, False, False]
    assert found.passes(0.15, 0).tolist() == [True, True, False, True]
    assert found.ranks().tolist() == [1, 2, 4, 3]


def test_what_is_no_number_is_nothing():
    found = unit(np.array([[np.nan, 3.0, 4.0], [np.nan, np.inf, 0.0]]))
    assert np.array_equal(found, [[0, 0.6, 0.8], [0, 0, 0]])


def test_as_many_queries_as_published():
    assert (len(ClipScoreSettings.positive), len(ClipScoreSettings.negative)) == (9, 10)


def test_a_batch_is_as_single_images_and_as_transformers_says(model):
    settings = ClipScoreSettings(batch_size=2)
    scorer = ClipScorer(ClipEncoder(model), settings)
    found = list(scorer.features(iter(images(5))))
    assert len(found) == 5
    for image, features in zip(images(5), found, strict=True):
        assert features == pytest.approx(next(scorer.features([image])), abs=1e-5)
        with torch.inference_mode():
            pixels = scorer._preprocess(image)[None]
            theirs = model.get_image_features(pixel_values=pixels)
            theirs = getattr(theirs, "pooler_output", theirs)[0]
        assert features == pytest.approx((theirs / theirs.norm()).numpy(), abs=1e-5)
    scores = scorer.scores(found)
    assert scores.cosines_NP.shape == (5, 9)
    assert np.isfinite(scores.scores_N).all()


def test_pixels_are_those_of_transformers(model):
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    scorer = ClipScorer(ClipEncoder(model), ClipScoreSettings())
    image = np.kron(images(1)[0][:6, :9], np.ones((20, 20, 1), np.uint8))
    theirs = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(scorer._preprocess(image), theirs, atol=0.05)


def test_weights_from_a_folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    settings = ClipScoreSettings(base=str(tmp_path))
    loaded = ClipScorer.load(settings, torch.device("cpu"))
    direct = ClipScorer(ClipEncoder(model), settings)
    for one, other in zip(*(s.features(images(1)) for s in (loaded, direct)), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_weights_that_are_not_there(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"MINER\.CLIP\.BASE"):
        ClipScorer.load(ClipScoreSettings(base=str(tmp_path)), torch.device("cpu"))


def test_who_is_asked():
    settings = ClipScoreSettings()
    assert is_candidate(False, (20, 20), settings, published=False)
    for passed, size, expected in ((True, (256, 300), True), (True, (255, 300), False)):
        assert is_candidate(passed, size, settings, published=True) is expected
    assert not is_candidate(False, (256, 300), settings, published=True)

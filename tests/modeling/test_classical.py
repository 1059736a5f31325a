"""The methods that need no weights: clusters and floors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from detecture.config import make_config
from detecture.config.sections.grouping import TextureClustersSettings
from detecture.d2 import build_model
from detecture.data import KHint
from detecture.errors import ConfigError
from detecture.evaluation import scores_to_label_map
from detecture.modeling.meta_arch import HalfSplit, OneRegion, TextureClusters

METHODS = ("TextureClusters", "OneRegion", "HalfSplit")


def mapped(image, k=None):
    hint = KHint("fixed", k) if k else KHint()
    return {"image": image, "height": image.shape[1], "width": image.shape[2], "k_hint": hint}


def two_textures(height=120, width=160):
    """Left: fine checks, right: flat, of the same mean grey."""
    y, x = np.mgrid[:height, :width]
    image = np.where((x // 2 + y // 2) % 2, 200, 60).astype(np.uint8)
    image[:, width // 2 :] = 130
    return torch.from_numpy(np.repeat(image[None], 3, axis=0))


def label_map(method, sample):
    output = method([sample])[0]
    num_textures = len(output["descriptions"])
    assert output["status"] == "ok"
    assert output["sem_seg"].shape == (num_textures + 1, sample["height"], sample["width"])
    assert output["sem_seg"].dtype == torch.float32
    return scores_to_label_map(output["sem_seg"]), num_textures


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dustbin", [0.0, 7.0])
def test_built_from_the_config_nothing_goes_to_the_dustbin(name, dustbin):
    cfg = make_config(None, ["MODEL.META_ARCHITECTURE", name, "TEST.DUSTBIN_LOGIT", str(dustbin)])
    labels, num_textures = label_map(build_model(cfg), mapped(two_textures(), 3))
    assert num_textures == 3
    assert labels.min() >= 1


def test_clusters_separate_two_textures_of_equal_colour():
    labels, k = label_map(TextureClusters(), mapped(two_textures(), 2))
    assert k == 2
    left, right = labels[:, :72], labels[:, 88:]
    assert (left == left[0, 0]).mean() > 0.97
    assert (right == 3 - left[0, 0]).mean() > 0.97


def test_clusters_choose_the_k_of_the_best_silhouette():
    method = TextureClusters(settings=TextureClustersSettings(k_range=(2, 5)))
    generator = np.random.default_rng(0)
    for num_regions in (2, 3):
        strip = np.arange(160) * num_regions // 160
        noise = generator.integers(-20, 21, (3, 120, 160))
        image = (60 + 70 * strip + noise).clip(0, 255).astype(np.uint8)
        features = method.features(image.transpose(1, 2, 0))
        grid = features[::8, ::8].reshape(-1, features.shape[-1])
        fitted = features[::4, ::4].reshape(-1, features.shape[-1])
        scores = {
            k: silhouette_score(grid, KMeans(k, n_init=4, random_state=0).fit(fitted).predict(grid))
            for k in range(2, 6)
        }
        _, k = method.cluster(features, None)
        assert k == max(scores, key=scores.get)


def test_clusters_do_not_depend_on_the_batch_or_the_number_of_threads():
    method = TextureClusters()
    samples = [mapped(two_textures(), 2), mapped(two_textures(90, 70), 3), mapped(two_textures())]
    together = method(samples)
    torch.set_num_threads(1)
    for sample, output in zip(samples, together, strict=True):
        assert torch.equal(method([sample])[0]["sem_seg"], output["sem_seg"])


@settings(max_examples=15, deadline=None)
@given(
    height=st.sampled_from([1, 2, 7, 300]),
    width=st.sampled_from([1, 3, 40, 500]),
    k=st.sampled_from([None, 1, 2, 6]),
    name=st.sampled_from(METHODS),
)
def test_any_size_and_any_k(height, width, k, name):
    method = {"TextureClusters": TextureClusters, "OneRegion": OneRegion, "HalfSplit": HalfSplit}
    image = torch.full((3, height, width), 77, dtype=torch.uint8)
    labels, num_textures = label_map(method[name](), mapped(image, k))
    assert labels.shape == (height, width)
    assert 1 <= labels.min() <= labels.max() <= num_textures
    assert k is None or num_textures == k


def test_output_has_the_requested_size():
    sample = mapped(two_textures(), 2) | {"height": 60, "width": 81}
    labels, _ = label_map(TextureClusters(), sample)
    assert labels.shape == (60, 81)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"k_range": (6, 2)}, "K_RANGE"),
        ({"k_range": (1, 3)}, "K_RANGE"),
        ({"k_range": (2,)}, "K_RANGE"),
        ({"working_size": 0}, "WORKING_SIZE"),
        ({"restarts": 0}, "RESTARTS"),
        ({"smoothing": -1.0}, "SMOOTHING"),
        ({"gabor_wavelengths": (4.0, 0.0)}, "GABOR_WAVELENGTHS"),
    ],
)
def test_settings_without_sense_are_refused_by_key(settings, key):
    with pytest.raises(ConfigError, match=f"MODEL.TEXTURE_CLUSTERS.{key}"):
        TextureClusters(settings=TextureClustersSettings(**settings))


def test_floors():
    labels, k = label_map(OneRegion(), mapped(two_textures(), 2))
    assert (k, set(np.unique(labels))) == (2, {1})
    assert label_map(OneRegion(), mapped(two_textures()))[1] == 1
    labels, k = label_map(HalfSplit(), mapped(two_textures(4, 6), 3))
    assert labels[0].tolist() == [1, 1, 2, 2, 3, 3]
    labels, k = label_map(HalfSplit(), mapped(two_textures(4, 6)))
    assert (k, labels[0].tolist()) == (2, [1, 1, 1, 2, 2, 2])

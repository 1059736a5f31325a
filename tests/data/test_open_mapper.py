"""What the models with an open vocabulary are trained on: images whose regions have names."""

import numpy as np
import pytest
import torch
from PIL import Image

from detecture.config import make_config
from detecture.data import load_registered
from detecture.data.mapper import build_mapper
from detecture.data.open_mapper import OpenVocabularyMapper
from detecture.errors import DatasetError


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks") / "bank"
    return [
        *("INPUT.TRAIN_SIZE", "64", "INPUT.TEXTURE_BANK.FOLDER", str(folder)),
        *("INPUT.TEXTURE_BANK.COUNT", "8"),
    ]


@pytest.fixture(scope="module")
def mapper(overrides):
    return build_mapper(
        make_config(None, overrides), "OpenVocabularyMapper", True, "synthetic_open_train"
    )


def test_a_training_image_has_labels_of_its_own_names(mapper):
    records = load_registered("synthetic_open_train")
    seen = 0
    for index in range(12):
        mapped = mapper(records[index])
        if mapped is None:
            continue
        seen += 1
        labels, vocabulary = mapped["sem_seg"], mapped["vocabulary"]
        assert mapped["image"].shape == (3, 64, 64) and labels.shape == (64, 64)
        used = set(labels.unique().tolist()) - {255}
        assert used and max(used) < len(vocabulary)
        assert all(1 <= len(list(item.names)) <= 3 for item in vocabulary.items)
    assert seen > 6


def test_names_come_anew_from_torchs_generator(mapper):
    record = load_registered("synthetic_open_train")[0]
    torch.manual_seed(0)
    first, second = mapper(record), mapper(record)
    torch.manual_seed(0)
    again = mapper(record)
    assert first["vocabulary"] == again["vocabulary"] != second["vocabulary"]
    assert torch.equal(first["image"], second["image"])


def test_an_evaluation_hides_the_truth_and_asks_the_same_each_time(overrides):
    cfg = make_config(None, overrides)
    mapper = OpenVocabularyMapper(cfg, is_train=False, dataset_name="synthetic_open_val")
    record = load_registered("synthetic_open_val")[0]
    mapped, truth = mapper(record), mapper.truth(record)
    assert "sem_seg" not in mapped and mapped["vocabulary"].names == tuple(truth.names)
    assert mapped["image"].shape == (3, 256, 256)
    assert truth.masks.shape == (len(truth.names), 256, 256) and truth.masks.any(axis=(1, 2)).all()
    assert (truth.masks.sum(axis=0) <= 1).all() and len(truth.held_out) == len(truth.names)


def test_ones_own_textures(tmp_path, overrides):
    for number, (name, tone) in enumerate({"wet sand, damp sand": 90, "reed": 200}.items()):
        folder = tmp_path / name
        folder.mkdir()
        pixels = np.full((40, 60, 3), tone, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    cfg = make_config(None, [*overrides, "INPUT.TEXTURE_BANK.NAMED", str(tmp_path)])
    mapper = build_mapper(cfg, "OpenVocabularyMapper", True, "synthetic_open_train")
    kinds = {kind.name: kind.nouns for kind in mapper.source.kinds}
    assert kinds == {"wet sand": ("wet sand", "damp sand"), "reed": ("reed",)}
    mapped = [mapper(record) for record in load_registered("synthetic_open_train")[:12]]
    said = " ".join(name for one in mapped if one for name in one["vocabulary"].names)
    assert "sand" in said and "brick" not in said


def test_no_textures_of_ones_own(tmp_path, overrides):
    cfg = make_config(None, [*overrides, "INPUT.TEXTURE_BANK.NAMED", str(tmp_path)])
    with pytest.raises(DatasetError, match=r"INPUT\.TEXTURE_BANK\.NAMED .*one folder for each"):
        build_mapper(cfg, "OpenVocabularyMapper", True, "synthetic_open_train")

import copy
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detecture.config import make_config
from detecture.config.sections.images import InputSettings, MicroCropSettings
from detecture.d2 import MetadataCatalog
from detecture.data import DATASET_MAPPER_REGISTRY, KHint, TextureMapper
from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.mapper import build_mapper
from detecture.errors import ConfigError

NO_CROP = MicroCropSettings(prob=0.0, side=(0.3, 0.6), min_regions=2)


def mapper(is_train: bool = False, **changes: object) -> TextureMapper:
    arguments = {"max_pixels": 10_000, "train_size": 40, "micro_crop": NO_CROP, **changes}
    others = {key: arguments.pop(key) for key in set(arguments) & {"count", "k_regime", "oracle"}}
    return TextureMapper(is_train=is_train, settings=InputSettings(**arguments), **others)


@pytest.fixture
def record(make_dataset):
    path = make_dataset(count=1)
    return load_texture_json(path, path.parent)[0]


def pixels_of(record: dict) -> np.ndarray:
    return np.asarray(Image.open(record["file_name"]))


# ---- evaluation --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["regime", "autonomous", "per_image", "3"])
def test_evaluation_gets_the_image_and_nothing_of_the_truth(record, count):
    before = copy.deepcopy(record)
    mapped = mapper(count=count, k_regime="pair")(record)
    assert record == before
    assert set(mapped) == {"image", "file_name", "image_id", "height", "width", "k_hint"}
    assert mapped["image"].dtype == torch.uint8 and mapped["image"].shape == (3, 24, 32)
    np.testing.assert_array_equal(mapped["image"].permute(1, 2, 0), pixels_of(record))
    assert (mapped["height"], mapped["width"]) == (24, 32)
    assert (mapped["file_name"], mapped["image_id"]) == (record["file_name"], "p0")


@pytest.mark.parametrize(
    ("count", "regime", "hint"),
    [
        ("regime", "pair", KHint("regime", 2)),
        ("regime", "single", KHint("regime", 1)),
        ("regime", "autonomous", KHint()),
        ("autonomous", "pair", KHint()),
        ("4", "pair", KHint("fixed", 4)),
        ("per_image", "autonomous", KHint("per_image", 2)),
    ],
)
def test_hint(record, count, regime, hint):
    assert mapper(count=count, k_regime=regime)(record)["k_hint"] == hint


def test_per_image_counts_masks_that_are_not_empty(record):
    Image.new("L", (32, 24)).save(record["textures"][1]["mask_file"])
    assert mapper(count="per_image")(record)["k_hint"] == KHint("per_image", 1)


def test_masks_are_not_opened_without_need(record):
    record["textures"] = [{"description": "", "mask_file": "/nowhere.png"}]
    assert "image" in mapper(count="regime")(record)


def test_unreadable_image_becomes_a_status(record):
    Path(record["file_name"]).write_bytes(b"")
    mapped = mapper(count="per_image")(record)
    assert mapped == {
        "file_name": record["file_name"],
        "image_id": "p0",
        "height": 0,
        "width": 0,
        "k_hint": KHint(),
        "status": "image_unreadable",
        "error": f"{record['file_name']}: is empty (0 bytes); replace the file",
    }


def test_too_large_image_becomes_a_status(record):
    mapped = mapper(max_pixels=100)(record)
    assert mapped["status"] == "image_unreadable" and "limit of 100" in mapped["error"]


def test_hint_that_cannot_be_found_becomes_a_status(record):
    Path(record["textures"][0]["mask_file"]).write_bytes(b"")
    mapped = mapper(count="per_image")(record)
    assert mapped["status"] == "ground_truth_unreadable" and "image" not in mapped
    assert "_mask_0.png: is empty" in mapped["error"] and mapped["k_hint"] == KHint()


def test_oracle_adds_descriptions_and_says_so(record):
    Image.new("L", (32, 24)).save(record["textures"][0]["mask_file"])
    mapped = mapper(oracle=True)(record)
    assert mapped["descriptions"] == ["Texture 1 of p0"] and mapped["oracle"] is True


# ---- training ----------------------------------------------------------------------------------


def test_training_dict(record):
    mapped = mapper(is_train=True)(record)
    assert set(mapped) == {
        "image",
        "file_name",
        "image_id",
        "height",
        "width",
        "sem_seg",
        "descriptions",
    }
    assert mapped["image"].shape == (3, 40, 40) and mapped["image"].dtype == torch.uint8
    assert mapped["sem_seg"].shape == (40, 40) and mapped["sem_seg"].dtype == torch.int64
    assert (mapped["sem_seg"][:, :20] == 1).all() and (mapped["sem_seg"][:, 20:] == 2).all()
    assert mapped["descriptions"] == ["Texture 0 of p0", "Texture 1 of p0"]
    assert (mapped["height"], mapped["width"]) == (24, 32)
    expected = Image.fromarray(pixels_of(record)).resize((40, 40), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(mapped["image"].permute(1, 2, 0), np.asarray(expected))


def mask(record: dict, number: int, where: tuple) -> None:
    levels = np.zeros((24, 32), np.uint8)
    levels[where] = 255
    Image.fromarray(levels).save(record["textures"][number]["mask_file"])


def test_later_masks_win_and_the_rest_is_dustbin(record):
    mask(record, 0, np.s_[:12, :])
    mask(record, 1, np.s_[:, :16])
    sem_seg = mapper(is_train=True, train_size=24)(record)["sem_seg"]
    assert (sem_seg[:, :12] == 2).all() and (sem_seg[:12, 12:] == 1).all()
    assert (sem_seg[12:, 12:] == 0).all()


def test_a_texture_that_is_painted_over_takes_its_description_along(record):
    mask(record, 0, np.s_[2:9, 3:9])
    mask(record, 1, np.s_[:, :20])
    mapped = mapper(is_train=True)(record)
    assert mapped["descriptions"] == ["Texture 1 of p0"]
    assert mapped["sem_seg"].unique().tolist() == [0, 1]


def test_as_published_a_texture_that_is_painted_over_keeps_its_line(record):
    mask(record, 0, np.s_[2:9, 3:9])
    mask(record, 1, np.s_[:, :20])
    mapped = mapper(is_train=True, keep_hidden=True)(record)
    assert mapped["descriptions"] == ["Texture 0 of p0", "Texture 1 of p0"]
    assert mapped["sem_seg"].unique().tolist() == [0, 2]
    # One whose own mask has no pixel left is left out there too.
    mask(record, 0, np.s_[0, 0])
    crop = MicroCropSettings(prob=1.0, side=(0.5, 0.5), min_regions=1)
    for seed in range(5):
        torch.manual_seed(seed)
        mapped = mapper(is_train=True, keep_hidden=True, train_size=4, micro_crop=crop)(record)
        assert mapped["descriptions"] == ["Texture 1 of p0"]
        assert mapped["sem_seg"].max() == 1


def test_a_texture_lost_in_shrinking_takes_its_description_along(record):
    mask(record, 0, np.s_[0, 0])
    mapped = mapper(is_train=True, train_size=4)(record)
    assert mapped["descriptions"] == ["Texture 1 of p0"]
    assert mapped["sem_seg"].max() == 1


def test_random_numbers_follow_torchs_seed(record):
    crop = mapper(
        is_train=True, micro_crop=MicroCropSettings(prob=1.0, side=(0.3, 0.9), min_regions=1)
    )

    def draw(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return [crop(record)["image"] for _ in range(3)]

    first, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("which", ["image", "mask"])
def test_broken_training_record_is_named_and_left_out(record, caplog, which):
    path = record["file_name"] if which == "image" else record["textures"][1]["mask_file"]
    Path(path).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert mapper(is_train=True)(record) is None
    assert "'p0'" in caplog.text and path in caplog.text and "is empty" in caplog.text


def test_record_without_a_visible_texture_is_left_out(record, caplog):
    mask(record, 0, np.s_[0, 0])
    mask(record, 1, np.s_[0, 0])
    with caplog.at_level(logging.WARNING):
        assert mapper(is_train=True, train_size=2)(record) is None
    assert "no texture of" in caplog.text and "INPUT.TRAIN_SIZE 2" in caplog.text


# ---- from a config -----------------------------------------------------------------------------


def test_from_config():
    cfg = make_config(
        None,
        [
            *("INPUT.MAX_PIXELS", "123", "INPUT.TRAIN_SIZE", "64", "TEST.COUNT", "per_image"),
            *("INPUT.MICRO_CROP.PROB", "0.5", "INPUT.MICRO_CROP.SIDE", "(0.1,0.2)"),
            *("INPUT.MICRO_CROP.MIN_REGIONS", "3", "TEST.ORACLE", "True"),
        ],
    )
    built = build_mapper(cfg, "TextureMapper", False, "caid")
    assert isinstance(built, TextureMapper)
    kept = built.settings
    assert (kept.max_pixels, kept.train_size, built.count) == (123, 64, "per_image")
    assert kept.micro_crop == MicroCropSettings(prob=0.5, side=(0.1, 0.2), min_regions=3)
    assert (built.k_regime, built.oracle, built.is_train) == ("single", True, False)
    assert TextureMapper(cfg, True).k_regime == "autonomous"


def test_published_defaults():
    built = TextureMapper(make_config(None), True, dataset_name="rwtd")
    assert built.settings.train_size == 1008 and built.k_regime == "pair" and not built.oracle
    crop = built.settings.micro_crop
    assert crop.prob == 0.35 and crop.min_regions == 2
    assert tuple(round(share * 1008) for share in crop.side) == (300, 600)


def test_wrong_values_fail_when_the_mapper_is_built():
    with pytest.raises(ConfigError, match=r"TEST\.COUNT 'many'"):
        TextureMapper(make_config(None, ["TEST.COUNT", "many"]), False)
    with pytest.raises(ConfigError, match=r"INPUT\.TRAIN_SIZE is 0"):
        TextureMapper(make_config(None, ["INPUT.TRAIN_SIZE", "0"]), True)


def test_unknown_mapper():
    with pytest.raises(ConfigError, match=r"'own' wants the mapper 'Mine'.*TextureMapper"):
        build_mapper(make_config(None), "Mine", True, "own")
    assert "called as `obj(cfg, is_train, dataset_name=name)`" in DATASET_MAPPER_REGISTRY.__doc__


def test_every_registered_set_names_a_registered_mapper():
    assert MetadataCatalog.get("rwtd").mapper in DATASET_MAPPER_REGISTRY


def test_mapped_dict_has_no_ground_truth_in_any_disguise(record):
    """Whatever a method could read from the dict: no text and no path of the truth is in it."""
    mapped = mapper(count="regime", k_regime="pair")(record)
    text = json.dumps({k: v for k, v in mapped.items() if k != "image"}, default=repr)
    assert "Texture" not in text and "mask" not in text

import json

import pytest

from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data import (
    known_datasets,
    load_registered,
    register_builtin_datasets,
    register_dataset_json,
    register_texture_dataset,
    require_registered,
)
from detecture.errors import DatasetError


@pytest.fixture(autouse=True)
def clean_catalogs():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


BUILTIN = {
    # name: (folder, metadata, regime, subject, images, textures)
    "rwtd": ("RWTD", "metadata.json", "pair", "", 253, 506),
    "stld": ("STLD", "metadata.json", "pair", "", 200, 400),
    "ade20k_detecture": ("ADE20k_Detecture", "metadata.json", "autonomous", "", 212, 828),
    "caid": ("CAID", "metadata.json", "single", "water surface", 3091, 3091),
    "bsds_coarse": ("BSDS_coarse", "metadata.json", "autonomous", "", None, None),
    "detecture_train": (
        "ADE20K_textured_images",
        "train_metadata.json",
        "autonomous",
        "",
        13331,
        54398,
    ),
    "detecture_val": ("ADE20K_textured_images", "val_metadata.json", "autonomous", "", 1482, 6014),
}


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_metadata(name):
    folder, metadata_file, regime, subject, images, textures = BUILTIN[name]
    metadata = MetadataCatalog.get(name)
    assert metadata.evaluator_type == "texture" and metadata.mapper == "TextureMapper"
    assert metadata.k_regime == regime and metadata.subject == subject
    assert metadata.root == f"$DETECTURE_DATASETS_ROOT/{folder}"
    assert metadata.json_file == f"$DETECTURE_DATASETS_ROOT/{folder}/{metadata_file}"
    assert metadata.get("published_images") == images
    assert metadata.get("published_textures") == textures


@pytest.mark.parametrize("name", BUILTIN)
def test_root_is_read_when_the_set_is_loaded(name, make_dataset, tmp_path, monkeypatch):
    """The variable is set after the import; `~/datasets` counts where it is unset."""
    folder, metadata_file, *_ = BUILTIN[name]
    path = make_dataset(f"datasets/{folder}")
    path.rename(path.parent / metadata_file)
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path / "datasets"))
    assert [r["image_id"] for r in load_registered(name)] == ["p0", "p1", "p2"]
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load_registered(name)) == 3


def test_missing_root_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError) as caught:
        load_registered("stld")
    text = str(caught.value)
    assert f"{tmp_path}/nowhere/STLD does not exist" in text
    assert f"DETECTURE_DATASETS_ROOT (now: {tmp_path}/nowhere)" in text
    assert "datasets/README.md" in text


def test_unknown_name():
    with pytest.raises(DatasetError) as caught:
        load_registered("RWDT")
    text = str(caught.value)
    assert "data set 'RWDT' is unknown; did you mean rwtd?" in text
    assert "ade20k_detecture, " in text and "bsds_coarse, caid, " in text
    assert "--dataset-json" in text and "--semantic-root" in text
    with pytest.raises(DatasetError, match="A file is given with --dataset-json"):
        require_registered("mine/metadata.json")


def test_data_sets_of_others_are_not_among_ours():
    names = known_datasets()
    DatasetCatalog.register("others_val", list)
    MetadataCatalog.get("others_val").set(evaluator_type="coco", image_root="here")
    DatasetCatalog.register("own_train", list)
    assert known_datasets() == [*names, "own_train"]
    require_registered("others_val")  # it is there all the same


def test_registering_twice(make_dataset):
    path = make_dataset()
    for _ in range(2):
        register_texture_dataset("own", path, path.parent, k_regime="pair")
    assert len(load_registered("own")) == 3
    with pytest.raises(DatasetError, match="'own' is already registered with k_regime = 'pair'"):
        register_texture_dataset("own", path, path.parent, k_regime="single")
    assert MetadataCatalog.get("own").k_regime == "pair"
    register_builtin_datasets()


def test_unknown_regime(make_dataset):
    path = make_dataset()
    with pytest.raises(DatasetError, match="'triple' is unknown; use one of single, pair, auto"):
        register_texture_dataset("own", path, path.parent, k_regime="triple")
    assert "own" not in DatasetCatalog.list()


def test_dataset_json(make_dataset, monkeypatch):
    path = make_dataset("holiday")
    assert register_dataset_json(path, k_regime="pair") == "holiday"
    assert register_dataset_json(path, k_regime="pair") == "holiday"
    metadata = MetadataCatalog.get("holiday")
    assert metadata.k_regime == "pair" and metadata.root == str(path.parent)
    assert len(load_registered("holiday")) == 3
    (path.parent / "val.json").write_text(path.read_text())
    monkeypatch.chdir(path.parent)
    assert register_dataset_json("val.json") == "holiday_val"
    assert MetadataCatalog.get("holiday_val").k_regime == "autonomous"
    assert len(load_registered("holiday_val")) == 3


def test_dataset_json_clashes_and_absences(make_dataset, tmp_path):
    register_dataset_json(make_dataset("one/images"))
    with pytest.raises(DatasetError, match=r"'images' is already registered.*rename its folder"):
        register_dataset_json(make_dataset("two/images"))
    with pytest.raises(DatasetError, match=r"nothing\.json does not exist; give the path"):
        register_dataset_json(tmp_path / "nothing.json")


def test_metadata_broken_later_is_reported_at_load(make_dataset):
    path = make_dataset("changing")
    register_dataset_json(path)
    path.write_text("{")
    with pytest.raises(DatasetError, match="cannot be read as JSON"):
        load_registered("changing")


def test_real_sets(require_dataset):
    """Whole or in part, the real sets have their published shape."""
    for name in ("rwtd", "bsds_coarse"):
        folder, metadata_file, *_ = BUILTIN[name]
        root = require_dataset(folder)
        records = load_registered(name)
        assert len(records) == len(json.loads((root / metadata_file).read_text()))
        assert all(record["file_name"].startswith(str(root)) for record in records)
        ks = {len(record["textures"]) for record in records}
        assert ks == {2} if name == "rwtd" else ks <= {2, 3, 4, 5, 6}
    ids = {int(record["image_id"]) for record in load_registered("rwtd")}
    assert ids and not ids & {38, 397, 475}  # Kaust256 without these is RWTD


@pytest.mark.parametrize("name", ["rwtd", "stld", "ade20k_detecture", "caid"])
def test_published_counts(datasets_root, name):
    """Skipped, even where data are required, for sets that are only there in part or not at all."""
    folder, metadata_file, _, _, images, textures = BUILTIN[name]
    if not (datasets_root / folder / metadata_file).is_file():
        pytest.skip(f"{datasets_root} has no {folder}")
    records = load_registered(name)
    if len(records) < images:
        pytest.skip(f"{datasets_root / folder} holds {len(records)} of {images} images")
    assert len(records) == images
    assert sum(len(record["textures"]) for record in records) == textures

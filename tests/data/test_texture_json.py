import json
import os
from pathlib import Path

import pytest

from detecture.data.datasets.texture_json import load_texture_json, parse_texture_json
from detecture.errors import DatasetError, brief


def textures(*paths: str) -> list[dict[str, str]]:
    return [{"description": f"Texture of {path}", "mask_path": path} for path in paths]


def entry(image: str = "images/1.jpg", *masks: str, **more: object) -> dict[str, object]:
    return {"image_path": image, "textures": textures(*(masks or ("masks/1.png",))), **more}


@pytest.fixture
def load(tmp_path):
    """Writes entries as metadata of a data set folder RWTD and loads them."""
    root = tmp_path / "RWTD"
    root.mkdir()

    def load(*entries: object, text: str | None = None) -> list[dict]:
        path = root / "metadata.json"
        path.write_text(json.dumps(list(entries)) if text is None else text, encoding="utf-8")
        return load_texture_json(path, root)

    return load


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


# ---- what is read ------------------------------------------------------------------------------


def test_unified_schema(load, tmp_path):
    records = load(
        {
            "id": "a",
            "image_path": "images/x.jpg",
            "textures": textures("textures_mask/x_0.png", "textures_mask/x_1.png"),
            "shape_file": "stef-18.gif",
            "foreground_area_ratio": 0.0975,
        }
    )
    root = tmp_path / "RWTD"
    assert records == [
        {
            "file_name": f"{root}/images/x.jpg",
            "image_id": "a",
            "textures": [
                {
                    "description": "Texture of textures_mask/x_0.png",
                    "mask_file": f"{root}/textures_mask/x_0.png",
                },
                {
                    "description": "Texture of textures_mask/x_1.png",
                    "mask_file": f"{root}/textures_mask/x_1.png",
                },
            ],
        }
    ]


def test_phase1_schema(load, tmp_path):
    (record,) = load(
        {
            "crop_name": "101",
            "image_path": "images/101.jpg",
            "mask_a_path": "textures_mask/101_mask_a.png",
            "mask_b_path": "textures_mask/101_mask_b.png",
            "texture_a": "shell",
            "texture_b": "sand",
        }
    )
    assert record["image_id"] == "101"
    assert [t["description"] for t in record["textures"]] == ["shell", "sand"]
    assert record["textures"][1]["mask_file"] == f"{tmp_path}/RWTD/textures_mask/101_mask_b.png"


def test_where_the_id_comes_from_and_file_order(load):
    records = load(
        entry("images/3.jpg", id="third", source_image_id="x"),
        entry("images/2.jpg", source_image_id="second"),
        entry("images/1.v2.jpg"),
        entry("images/0.jpg", id=17),
        entry("images/9.jpg", id=None, source_image_id=None),
    )
    assert [r["image_id"] for r in records] == ["third", "second", "1.v2", "17", "9"]


def test_empty_descriptions_and_a_byte_order_mark_are_fine(load):
    record = entry()
    record["textures"][0]["description"] = ""
    assert load(text="\ufeff" + json.dumps([record]))[0]["textures"][0]["description"] == ""


def test_nothing_is_opened(load):
    assert len(load(entry("images/missing.jpg"))) == 1


# ---- paths -------------------------------------------------------------------------------------


def test_foreign_absolute_paths_start_at_the_folders_own_name(load, tmp_path):
    root = tmp_path / "RWTD"
    touch(root, "images/1.jpg", "textures_mask/1.png")
    (record,) = load(
        entry("/home/aviad/datasets/RWTD/images/1.jpg", "/home/aviad/RWTD/textures_mask/1.png")
    )
    assert record["file_name"] == f"{root}/images/1.jpg"
    assert record["textures"][0]["mask_file"] == f"{root}/textures_mask/1.png"


def test_foreign_absolute_paths_in_a_renamed_folder(load, tmp_path):
    """The longest ending that exists wins."""
    touch(tmp_path / "RWTD", "images/1.jpg", "1.jpg", "deep/images/1.jpg", "textures_mask/1.png")
    (record,) = load(entry("/mnt/old/deep/images/1.jpg", "/mnt/old/masks/1.png"))
    assert record["file_name"] == f"{tmp_path}/RWTD/deep/images/1.jpg"
    assert record["textures"][0]["mask_file"] == f"{tmp_path}/RWTD/textures_mask/1.png"


def test_missing_foreign_file_is_named_where_it_should_be(load, tmp_path):
    (record,) = load(entry("/home/aviad/datasets/RWTD/images/1.jpg"))
    assert record["file_name"] == f"{tmp_path}/RWTD/images/1.jpg"


def test_a_path_inside_the_root_is_taken_as_it_is(load, tmp_path):
    (record,) = load(entry(f"{tmp_path}/RWTD/images/1.jpg"))
    assert record["file_name"] == f"{tmp_path}/RWTD/images/1.jpg"


@pytest.mark.parametrize(
    ("there", "listed"), [("masks", "textures_mask"), ("textures_mask", "masks")]
)
def test_whichever_mask_folder_exists(load, tmp_path, there, listed):
    touch(tmp_path / "RWTD", f"{there}/1.png")
    (record,) = load(entry("images/1.jpg", f"{listed}/1.png"))
    assert record["textures"][0]["mask_file"] == f"{tmp_path}/RWTD/{there}/1.png"


def test_home_and_variables_are_expanded(load, tmp_path, monkeypatch):
    touch(tmp_path / "RWTD", "images/1.jpg", "textures_mask/1.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WHERE", "textures_mask")
    (record,) = load(entry("~/RWTD/images/1.jpg", "$WHERE/1.png"))
    assert record["file_name"] == f"{tmp_path}/RWTD/images/1.jpg"
    assert record["textures"][0]["mask_file"] == f"{tmp_path}/RWTD/textures_mask/1.png"


def test_root_and_metadata_may_hold_variables(load, tmp_path, monkeypatch):
    load(entry())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_texture_json("~/RWTD/metadata.json", "~/RWTD")[0]["image_id"] == "1"
    monkeypatch.delenv("DETECTURE_DATASETS_ROOT", raising=False)
    (tmp_path / "RWTD").rename(tmp_path / "x")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "x").rename(tmp_path / "datasets" / "RWTD")
    variable = "$DETECTURE_DATASETS_ROOT/RWTD"
    assert load_texture_json(f"{variable}/metadata.json", variable)[0]["image_id"] == "1"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "images/../../secret.png",
        "/elsewhere/RWTD/../secret.png",
        "images/link.png",
        "linked_folder/secret.png",
        "{tmp}/secret.png",
        "..",
    ],
)
@pytest.mark.parametrize("which", ["image_path", "mask_path"])
def test_paths_that_leave_the_root_are_refused(load, tmp_path, path, which):
    (tmp_path / "secret.png").touch()
    touch(tmp_path / "RWTD", "images/1.jpg")
    (tmp_path / "RWTD/images/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "RWTD/linked_folder").symlink_to(tmp_path)
    path = path.format(tmp=tmp_path)
    bad = entry(path) if which == "image_path" else entry("images/1.jpg", path)
    with pytest.raises(DatasetError) as caught:
        load(entry("images/1.jpg", id="fine"), {**bad, "id": "evil"})
    text = str(caught.value)
    assert "record 1 (id evil)" in text and brief(path) in text and which in text
    assert "data set's folder" in text and "move the file into the folder" in text


def test_symlinks_inside_the_root_and_a_symlinked_root_are_fine(load, tmp_path):
    root = tmp_path / "RWTD"
    touch(root, "images/1.jpg")
    (root / "images/same.jpg").symlink_to(root / "images/1.jpg")
    load(entry("images/same.jpg"))
    (tmp_path / "alias").symlink_to(root)
    (record,) = load_texture_json(tmp_path / "alias/metadata.json", tmp_path / "alias")
    assert record["file_name"] == f"{tmp_path}/alias/images/same.jpg"


def test_a_relative_root_gives_absolute_paths(load, tmp_path, monkeypatch):
    load(entry())
    monkeypatch.chdir(tmp_path)
    (record,) = load_texture_json("RWTD/metadata.json", "RWTD")
    assert record["file_name"] == f"{tmp_path}/RWTD/images/1.jpg"


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("just text", "must be an object, is a text ('just text')"),
        (["list"], "must be an object, is a list"),
        (None, "must be an object, is null"),
        ({"id": "b", "textures": []}, "lacks the key image_path"),
        ({"id": "b", "image_path": "x.jpg"}, "lacks the key textures; it has id, image_path"),
        (entry("images/b.jpg", id="b", textures=[]), "at least one texture, is a list"),
        (entry("images/b.jpg", id="b", textures={}), "at least one texture, is an object"),
        (entry("images/b.jpg", id="b", textures=["x"]), "textures[0] must be an object"),
        (entry(7, id="b"), "image_path must be a text, is a int (7)"),
        (entry("", id="b"), "image_path must name a file"),
        (entry("a\0b", id="b"), "image_path must name a file"),
        (entry(id=["b"]), "id must be a text or a whole number, is a list"),
        (entry(id=""), "id must be a text or a whole number"),
        (entry(id=True), "id must be a text or a whole number, is a bool (True)"),
        (entry(id=float("nan")), "holds NaN or Infinity"),
        (entry(id="b", ratio=float("inf")), "holds NaN or Infinity"),
        (
            {"id": "b", "image_path": "x", "textures": [{"mask_path": "m"}]},
            "textures[0] lacks the key description; it has mask_path",
        ),
        (
            {"id": "b", "image_path": "x", "textures": [{"mask_path": 3, "description": ""}]},
            "textures[0].mask_path must be a text, is a int (3)",
        ),
        (
            {"id": "b", "image_path": "x", "textures": [{"mask_path": "m", "description": None}]},
            "textures[0].description must be a text, is null",
        ),
        (
            {"crop_name": "b", "image_path": "x", "mask_a_path": "m", "texture_a": "t"},
            "lacks the key texture_b",
        ),
    ],
)
def test_broken_records(load, tmp_path, broken, says):
    with pytest.raises(DatasetError) as caught:
        load(entry(id="fine"), broken)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/RWTD/metadata.json: 1 of 2 records are unusable:")
    assert "record 1 (id " in text and says in text
    assert "check_dataset.py" in text


def test_duplicate_ids(load):
    with pytest.raises(
        DatasetError, match=r"record 2 \(id 1\): the id is already used by record 0"
    ):
        load(entry(id="1"), entry(id="2"), entry(id=1))


def test_all_problems_are_counted_and_the_first_shown(load, tmp_path):
    with pytest.raises(DatasetError) as caught:
        load(entry(), *[{"id": f"bad{i}"} for i in range(9)])
    text = str(caught.value)
    assert "9 of 10 records are unusable" in text and "and 4 more" in text
    assert "bad4" in text and "bad5" not in text
    path = tmp_path / "RWTD" / "metadata.json"
    records, problems = parse_texture_json(path, path.parent)
    assert list(records) == [0]
    assert [(p.index, p.image_id, p.kind) for p in problems[:2]] == [
        (1, "bad0", "schema"),
        (2, "bad1", "schema"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{not json", "cannot be read as JSON .*line 1.*correct the file or download it again"),
        ("", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"a": 1}', "must hold a list of records, holds an object; datasets/README.md"),
        ("3", r"must hold a list of records, holds a int \(3\)"),
        ("[]", "holds no records"),
    ],
)
def test_malformed_files(load, tmp_path, text, says):
    with pytest.raises(DatasetError, match=f"^{tmp_path}/RWTD/metadata.json: {says}"):
        load(text=text)


def test_not_even_text(tmp_path):
    (tmp_path / "metadata.json").write_bytes(os.urandom(64) + b"\xff\xfe\xfd")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_texture_json(tmp_path / "metadata.json", tmp_path)


@pytest.mark.parametrize(("json_file", "root"), [("a/metadata.json", "a"), ("none.json", ".")])
def test_missing_root_or_metadata(tmp_path, json_file, root):
    missing = "a" if root == "a" else "none.json"
    with pytest.raises(DatasetError) as caught:
        load_texture_json(tmp_path / json_file, tmp_path / root)
    text = str(caught.value)
    assert f"{tmp_path}/{missing} does not exist" in text
    assert "DETECTURE_DATASETS_ROOT" in text and "datasets/README.md" in text


def test_halves_of_surrogate_pairs(load, tmp_path):
    """JSON may hold them; no file of text, no tokenizer and no file name does."""
    (record,) = load(
        {"id": "a\udcff", "image_path": "images/b\udcff.png",
         "textures": [{"description": "half \ud83d", "mask_path": "masks/1.png"}]}
    )  # fmt: skip
    assert record["image_id"] == "a\\udcff"
    assert record["textures"][0]["description"] == "half \\ud83d"
    assert record["file_name"].endswith("images/b\udcff.png"), "files may have such names"
    _, problems = parse_texture_json(tmp_path / "RWTD/metadata.json", tmp_path / "RWTD")
    assert not problems
    with pytest.raises(DatasetError, match="image_path must name a file"):
        load(entry("images/\ud800/b.png"))

"""The stages of the recipe, as command lines."""

from itertools import pairwise
from pathlib import Path

import pytest

from detecture.errors import ConfigError
from detecture.recipes.stages import keep_to, stages, without

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("overrides", "left", "value"),
    [
        (["A", "1", "K", "x", "B", "2"], ["A", "1", "B", "2"], "x"),
        (["K", "x", "K", "y"], [], "y"),
        (["A", "K"], ["A", "K"], ""),  # a value that is called like the key
        (["A", "1", "K"], ["A", "1", "K"], ""),  # a key without a value is left to the stages
    ],
)
def test_overrides_without_a_key(overrides, left, value):
    assert without("K", overrides) == (left, value)


def test_a_folder_for_textures_is_the_one_of_the_stages_that_share_them(tmp_path):
    folder = str(tmp_path / "mine")
    key = "INPUT.TEXTURE_BANK.FOLDER"
    steps = stages(REPO, tmp_path, 1, 20, ["SEED", "3", key, folder, "MODEL.DEVICE", "cpu"])
    given = {
        step.result.parent.name: [v for k, v in pairwise(step.command) if k == key]
        for step in steps
    }
    sharing = {f"grouping_net_{name}" for name in ("wide", "unruly", "large")} | {"describer_nouns"}
    assert {name for name, folders in given.items() if folders} == sharing
    assert all(folders == [folder] for folders in given.values() if folders)
    for step in steps:
        assert ("MODEL.DEVICE", "cpu") in pairwise(step.command)


def test_a_part_of_the_length(tmp_path):
    steps = stages(REPO, tmp_path, 1, 51, ["SOLVER.IMS_PER_BATCH", "2"], length=0.1)
    iterations = {
        step.result.parent.name: [v for k, v in pairwise(step.command) if k == "SOLVER.MAX_ITER"]
        for step in steps
    }
    assert iterations["grouping_net"] == ["500"] and iterations["grouping_net_large"] == ["600"]
    selector = next(step for step in steps if step.result.name == "selector.safetensors")
    assert ("--images", "6") in pairwise(selector.command)


def test_a_folder_that_was_begun_under_the_name_before_goes_on(tmp_path):
    (tmp_path / "recipe.json").write_text('{"seed": 1, "pictures": 20, "length": 1.0}')
    keep_to(tmp_path, {"seed": 1, "images": 20, "length": 1.0})
    assert "images" in (tmp_path / "recipe.json").read_text()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"5", b"\xff", b"[" * 100_000])
def test_a_damaged_recipe_names_a_way_out(tmp_path, content):
    asked = {"seed": 1, "images": 20, "length": 1.0}
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"recipe\.json: damaged .*delete this file"):
        keep_to(tmp_path, asked)
    assert (tmp_path / "recipe.json").read_bytes() == content
    (tmp_path / "recipe.json").unlink()
    keep_to(tmp_path, asked)


def test_a_record_of_somebody_else_is_left_as_it_is(tmp_path):
    for text, said in (('{"name":   "soup"}', "begun with"), ("[1,  2]", "holds no table")):
        (tmp_path / "recipe.json").write_text(text)
        with pytest.raises(ConfigError, match=said):
            keep_to(tmp_path, {"seed": 1})
        assert (tmp_path / "recipe.json").read_text() == text

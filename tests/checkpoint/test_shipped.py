"""Shipped weights by their names, through Detectron2's own checkpointer and predictor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.checkpoint.shipped import MODELS, SCHEME
from detecture.config import add_detecture_config, merge_yaml_file
from detecture.d2 import DefaultPredictor, DetectionCheckpointer, PathManager, build_model, get_cfg
from detecture.engine import TexturePredictor
from detecture.errors import CheckpointError

REPO = Path(__file__).parents[2]
NAME = f"{SCHEME}texture_grouping.safetensors"
COFFEE = REPO / "datasets/samples/photos/coffee.jpg"


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_detecture_config(cfg)
    merge_yaml_file(cfg, MODELS / "texture_grouping.yaml")
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_detectron2s_checkpointer_loads_what_ours_loads(cfg):
    assert cfg.MODEL.WEIGHTS == NAME
    plain, ours = build_model(cfg), build_model(cfg)
    assert DetectionCheckpointer(plain).load(NAME) == {}
    Checkpointer(ours).load(NAME)
    expected = ours.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in plain.state_dict().items())


def test_detectron2s_predictor_answers_as_ours(cfg):
    rgb = np.asarray(Image.open(COFFEE).convert("RGB").resize((112, 75)))
    output = DefaultPredictor(cfg)(rgb[:, :, ::-1])
    ours = TexturePredictor.from_config()(rgb)
    assert output["descriptions"] == ours.descriptions
    labels = output["sem_seg"].argmax(dim=0).numpy() + 1
    assert np.array_equal(labels % len(output["sem_seg"]), ours.label_map)


def test_the_path_manager_knows_what_there_is(cfg):
    assert PathManager.isfile(NAME) and PathManager.exists(NAME)
    assert not PathManager.exists(f"{SCHEME}none.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.safetensors: no such file ships"):
        DetectionCheckpointer(build_model(cfg)).load(f"{SCHEME}none.safetensors")


def test_importing_the_models_is_enough_and_nothing_stays(tmp_path):
    code = (
        "import detecture.modeling\n"
        "from detecture.d2 import PathManager\n"
        f"print(PathManager.get_local_path({NAME!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    path = Path(done.stdout.split()[-1])
    assert tmp_path in path.parents and path.suffix == ".pth"
    assert list(tmp_path.glob("detecture_*")) == []

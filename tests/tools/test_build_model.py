"""tools/build_model.py: the whole recipe, so small that it takes a minute."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detecture import TexturePredictor
from detecture.checkpoint.weights_file import read_weights
from tests.micro import micro_overrides

REPO = Path(__file__).resolve().parents[2]


def build(output, *overrides):
    command = [sys.executable, str(REPO / "tools/build_model.py"), "--output", str(output)]
    command += ["--images", "20", *overrides]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO)


@pytest.fixture
def small(tmp_path):
    """Overrides of all stages."""
    words = micro_overrides(tmp_path / "micro")
    wanted = ("MODEL.DEVICE", "MODEL.VLM.CONFIG", "MODEL.VLM.IMAGE_SIZE", "DATALOADER.NUM_WORKERS")
    kept = [w for k, v in zip(words[::2], words[1::2], strict=True) if k in wanted for w in (k, v)]
    return [
        *kept,
        *("INPUT.TRAIN_SIZE", "64", "INPUT.TEXTURE_BANK.COUNT", "4"),
        *("MODEL.GROUPING.WIDTHS", "(8,8,16,16)", "MODEL.DESCRIBER.TEXTURE_WIDTHS", "(8,8,16,16)"),
        *("MODEL.GROUPING.WORKING_SIZE", "64", "MODEL.GROUPING.SCALES", "(1.0, 1.25)"),
        *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "1"),
    ]


@pytest.mark.slow
def test_from_nothing_to_a_file_that_answers(tmp_path, small):
    output = tmp_path / "recipes"
    done = build(output, *small)
    assert done.returncode == 0, done.stderr[-2000:]
    file = output / "texture_grouping.safetensors"
    words = [*small, "MODEL.WEIGHTS", str(file)]
    predictor = TexturePredictor.from_config(str(REPO / "configs/texture_grouping.yaml"), words)
    result = predictor(str(REPO / "datasets/samples/photos/coffee.jpg"), count=2)
    assert len(result.descriptions) == 2 and set(np.unique(result.label_map)) <= {1, 2}
    # What is there is not made again; what is missing is, and the same.
    tensors, _ = read_weights(file)
    file.unlink()
    again = build(output, *small)
    assert again.returncode == 0, again.stderr[-2000:]
    assert again.stdout.count("is there already") == 9
    same, _ = read_weights(file)
    assert same.keys() == tensors.keys()
    assert all(torch.equal(same[name], tensors[name]) for name in tensors)
    # Finished stages of another seed would be taken for those of this one.
    other = build(output, "--seed", "2", *small)
    assert other.returncode == 2
    assert "recipe.json" in other.stderr and "begun with" in other.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "0"], "0 is not above 0 and up to 1"),
        (["--length", "0.5", "MODEL.NO_SUCH_KEY", "1"], "NO_SUCH_KEY"),
    ],
)
def test_a_length_that_cannot_be(tmp_path, options, message):
    done = build(tmp_path / "recipes", *options)
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "{"])
def test_a_folder_whose_record_cannot_be_read(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    done = build(tmp_path)
    assert done.returncode == 2 and "recipe.json" in done.stderr
    assert (tmp_path / "recipe.json").read_text() == text


def test_a_stage_that_fails_ends_it(tmp_path):
    done = build(tmp_path, "MODEL.NO_SUCH_KEY", "1")
    assert done.returncode == 2
    assert "NO_SUCH_KEY" in done.stderr and "build_model: train_net.py failed" in done.stderr
    assert not (tmp_path / "texture_grouping.safetensors").exists()

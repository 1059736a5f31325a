"""A user's own folder of semantic segmentation, from the command lines alone."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from record_files import read_lines
from semantic_toy import NAMES, write_semantic_folder

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.engine import load_model
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.meta_arch import CATSeg

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "configs/ahs_seg/cat_seg_tiny.yaml"
SIZE = (48, 64)


@pytest.fixture(scope="module")
def train_net():
    spec = importlib.util.spec_from_file_location("train_net_tool", REPO / "tools/train_net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def clean_catalogs():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def run_here(train_net):
    """Runs the tool in this process; returns the config that it ran with."""

    def run(*words):
        parser = train_net.argument_parser()
        args = parser.parse_args(["--config-file", str(CONFIG), *map(str, words)])
        train_net.main(args)

    return run


def tool(name, *words):
    command = [sys.executable, f"tools/{name}.py", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)


def in_a_process(*words):
    return tool("train_net", "--config-file", CONFIG, *words)


def summary_of(folder, name):
    return json.loads((folder / f"inference/{name}/summary.json").read_text())


MANY = [*NAMES, *(f"name {number}" for number in range(10_000))]
IGNORED = ("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 65535)


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize(
    ("names", "words", "says"),
    [
        ([], (), "classes.json: no class is given; name one or more"),
        (["red", "green", "Red"], (), "classes.json: the class 'red' is given twice; leave one"),
        (["red", "green", " ".join(["grass"] * 500)], (), "has 2999 letters, and 400 is the most"),
        (["red", "green", "\u8349" * 90], (), "tokens, and CLIP reads 77; shorten it"),
        (MANY, IGNORED, "val: 10,003 names are given, and MODEL.VOCABULARY.MOST_NAMES is 4,096"),
        (NAMES, ("MODEL.VOCABULARY.TEST", "gone.json"), "'gone.json': no such file; give the path"),
        (NAMES, ("MODEL.VOCABULARY.TEST", "voc_20"), "has 20 classes, the data set mine_val 3; gi"),
    ],
)
def test_bad_classes_are_told_before_the_first_image(
    run_here, tmp_path, monkeypatch, trains, names, words, says
):
    def never(*_, **__):
        raise AssertionError("an image was seen")

    monkeypatch.setattr(CATSeg, "forward", never)
    root = write_semantic_folder(tmp_path / "mine", train=2, val=2, names=names, size=SIZE)
    given = ("--semantic-root", root, *(() if trains else ("--eval-only",)))
    with pytest.raises(ConfigError) as caught:
        run_here(*given, "OUTPUT_DIR", tmp_path / "out", *words)
    text = str(caught.value)
    assert says in text and len(text) < 600
    assert not list((tmp_path / "out").rglob("summary.json"))
    assert not list((tmp_path / "out").rglob("model_*"))


def test_an_oracle_may_have_any_number_of_names(run_here, tmp_path):
    """Each image is asked for its own classes alone."""
    root = write_semantic_folder(tmp_path / "mine", val=1, names=MANY[:5000], size=SIZE)
    words = ("TEST.SEMANTIC.VOCABULARY", "per_image", "OUTPUT_DIR", tmp_path / "out")
    run_here("--semantic-root", root, "--eval-only", *words)
    assert summary_of(tmp_path / "out", "mine")["n_ok"] == 1


def test_names_in_other_letters(run_here, tmp_path):
    """They are trained and evaluated, and stand in the tables as they are."""
    names = ["\u5929\u7a7a", "\u0433\u043e\u0440\u0430", "\u0645\u0627\u0621"]
    root = write_semantic_folder(tmp_path / "mine", train=2, val=2, names=names, size=SIZE)
    run_here("--semantic-root", root, "OUTPUT_DIR", tmp_path / "out", "SOLVER.MAX_ITER", 1)
    assert summary_of(tmp_path / "out", "mine_val")["n_ok"] == 2
    table = tmp_path / "out/inference/mine_val/per_class.csv"
    with table.open(encoding="utf-8", newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == names


def test_weights_of_a_larger_clip(run_here, tmp_path):
    """As a checkpoint of ViT-L in a config of ViT-B."""
    larger = {
        "vision_config": {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3},
        "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3},
        "projection_dim": 24,
    }
    larger["vision_config"] |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    larger["text_config"] |= {"num_attention_heads": 2, "eos_token_id": 49407}
    (tmp_path / "larger.json").write_text(json.dumps(larger))
    words = ["MODEL.CLIP.CONFIG", str(tmp_path / "larger.json"), "MODEL.DEVICE", "cpu"]
    model = load_model(make_config(CONFIG, words))
    Checkpointer(model, str(tmp_path / "large")).save_weights("model_final")
    root = write_semantic_folder(tmp_path / "mine", val=2, size=SIZE)
    weights = tmp_path / "large/model_final.safetensors"
    with pytest.raises(CheckpointError) as caught:
        run_here(
            *("--semantic-root", root, "--eval-only", "OUTPUT_DIR", tmp_path / "out"),
            *("MODEL.WEIGHTS", weights),
        )
    text = str(caught.value)
    assert text.startswith(f"{weights}: the checkpoint was trained with clip ")
    assert "larger" in text and "this model has" in text
    assert text.endswith("use the config that it was trained with")


@pytest.mark.slow
def test_a_few_steps_and_an_evaluation(run_here, tmp_path):
    root = write_semantic_folder(tmp_path / "steps", train=3, val=2, size=SIZE)
    out = tmp_path / "out"
    run_here("--semantic-root", root, "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 2)
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert 0 < lines[0]["loss_sem_seg"] < 5
    assert 0 <= lines[-1]["sem_seg/mIoU"] <= 1
    assert summary_of(out, "steps_val")["n_ok"] == 2


@pytest.mark.slow
def test_what_is_wrong_is_told_before_anything_is_built(tmp_path):
    root = write_semantic_folder(tmp_path / "mine")
    (root / "classes.json").unlink()
    done = in_a_process("--semantic-root", root, "OUTPUT_DIR", tmp_path / "out")
    assert done.returncode == 2
    text = done.stdout + done.stderr
    assert f"{root}/classes.json does not exist; write the names" in text
    assert "Traceback" not in text and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_learnt_kept_tuned_and_evaluated(tmp_path):
    """The colours of plain regions are learnt by their names; fine-tuning begins there."""
    root = write_semantic_folder(tmp_path / "mine", train=6, val=4, size=SIZE)
    out = tmp_path / "out"
    words = ("--semantic-root", root, "SEED", 1, "SOLVER.LOG_PERIOD", 1)
    done = in_a_process(*words, "OUTPUT_DIR", out, "SOLVER.MAX_ITER", 80)
    assert done.returncode == 0, done.stderr
    trained = summary_of(out, "mine_val")
    assert trained["mIoU"] > 0.7

    weights = ("MODEL.WEIGHTS", out / "model_final.safetensors")
    again = tmp_path / "again"
    done = in_a_process("--semantic-root", root, "--eval-only", "OUTPUT_DIR", again, *weights)
    assert done.returncode == 0, done.stderr
    evaluated = summary_of(again, "mine_val")
    assert evaluated["mIoU"] == trained["mIoU"]

    # Other words for one class, and a folder without parts.
    other = write_semantic_folder(
        tmp_path / "other", val=4, names=["red", "green", ["blue", "azure"]], size=SIZE
    )
    tuned = tmp_path / "tuned"
    words = ("--semantic-root", other, "SEED", 1, "SOLVER.LOG_PERIOD", 1)
    done = in_a_process(*words, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tuned, *weights)
    assert done.returncode == 0, done.stderr
    losses = [
        json.loads((folder / "metrics.json").read_text().splitlines()[0])["loss_sem_seg"]
        for folder in (out, tuned)
    ]
    assert losses[1] < 0.7 * losses[0]
    assert not (tuned / "inference").exists()  # it has no part to evaluate on


@pytest.mark.slow
def test_two_processes_and_a_broken_off_run_give_the_same(tmp_path):
    root = write_semantic_folder(tmp_path / "mine", val=6, size=SIZE)
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(root / "labels/toy_1.png")
    (root / "images/toy_2.png").write_bytes(b"no image")
    words = ("--semantic-root", root, "--eval-only")
    trained = tmp_path / "trained"
    train = write_semantic_folder(tmp_path / "train", val=2, size=SIZE)
    once = ("SOLVER.MAX_ITER", 1, "OUTPUT_DIR", trained)
    assert in_a_process("--semantic-root", train, *once).returncode == 0
    weights = ("MODEL.WEIGHTS", trained / "model_final.safetensors")
    found = []
    for name, options in (("one", ()), ("two", ("--num-gpus", 2))):
        done = in_a_process(*words, *options, *weights, "OUTPUT_DIR", tmp_path / name)
        assert done.returncode == 0, done.stderr
        found.append(summary_of(tmp_path / name, "mine"))
    assert found[0] == found[1]
    assert found[0]["statuses"] == {
        "ground_truth_unreadable": 1,
        "image_unreadable": 1,
        "ok": 4,
    }
    folders = [tmp_path / name / "inference/mine" for name in ("one", "two")]
    for name in ("records.jsonl", "per_class.csv", "confusion.csv"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()

    # Cut off after two images, by hand: the rest is done, and nothing twice.
    records = folders[0] / "records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:3]))
    done = in_a_process(*words, *weights, "OUTPUT_DIR", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert "1 finished samples are kept" in done.stdout + done.stderr
    assert summary_of(tmp_path / "one", "mine") == found[1]
    assert len(read_lines(records)) == 7


@pytest.mark.slow
def test_a_folder_of_twenty_images_from_the_check_to_the_figures(tmp_path):
    """What datasets/README.md says of one's own folder, in its order."""
    root = write_semantic_folder(tmp_path / "mine", train=14, val=6, size=SIZE)
    done = tool("check_dataset", "--semantic-root", root)
    assert done.returncode == 0, done.stderr
    assert "14 images, 3 classes" in done.stdout and "6 images, 3 classes" in done.stdout
    assert done.stdout.count("ok, 0 warnings") == 2

    label = root / "train/labels/toy_3.png"
    sound = label.read_bytes()
    label.write_bytes(sound[: len(sound) // 2])
    done = tool("check_dataset", "--semantic-root", root)
    assert done.returncode == 1 and "1 error, " in done.stdout
    assert f"{label}: " in done.stdout and "Traceback" not in done.stderr
    label.write_bytes(sound)

    folders = [tmp_path / name for name in ("trained", "tuned", "evaluated")]
    first, second = (folder / "model_final.safetensors" for folder in folders[:2])
    given = ("--semantic-root", root, "SEED", 1, "SOLVER.LOG_PERIOD", 1, "OUTPUT_DIR")
    steps = ("SOLVER.MAX_ITER", 6)
    for words in (
        (*given, folders[0], *steps),
        (*given, folders[1], *steps, "MODEL.WEIGHTS", first),
        ("--eval-only", *given, folders[2], "MODEL.WEIGHTS", second),
    ):
        done = in_a_process(*words)
        assert done.returncode == 0, done.stderr
    lines = [(folder / "metrics.json").read_text().splitlines() for folder in folders[:2]]
    losses = [json.loads(line[0])["loss_sem_seg"] for line in lines]
    assert losses[1] < losses[0]
    assert first.read_bytes() != second.read_bytes()

    found = summary_of(folders[2], "mine_val")
    assert found["mIoU"] == summary_of(folders[1], "mine_val")["mIoU"]
    assert 0 <= found["mIoU"] <= 1 and found["n_ok"] == found["n_total"] == 6
    with (folders[2] / "inference/mine_val/per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == NAMES
    ious = [float(row["IoU"]) for row in rows]
    assert sum(ious) / 3 == pytest.approx(found["mIoU"])
    with (folders[2] / "inference/mine_val/confusion.csv").open(newline="") as file:
        pixels = sum(int(row["pixels"]) for row in csv.DictReader(file))
    assert pixels == sum(int(row["true_pixels"]) for row in rows) == 6 * (SIZE[0] - 2) * SIZE[1]

"""tools/eval_multiple_checkpoints.py: a folder of checkpoints, its table and its curve."""

import csv
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ahs_toy import disturb
from PIL import Image
from semantic_toy import write_semantic_folder

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.engine import evaluate, load_model
from detecture.errors import ConfigError, EvaluationError, OutputError

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "configs/ahs_seg/cat_seg_tiny.yaml"
SIZE = (48, 64)


def script(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", REPO / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool():
    return script("eval_multiple_checkpoints")


@pytest.fixture(autouse=True)
def clean_catalogs():
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def mine(tmp_path):
    return write_semantic_folder(tmp_path / "mine", val=2, size=SIZE)


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints as of a training, whose figures differ."""
    cfg = make_config(CONFIG, ["MODEL.DEVICE", "cpu"])
    model = load_model(cfg)
    written = Checkpointer(model, str(tmp_path / "training"))
    for iteration, name in enumerate(("model_0000099", "model_0000199", "model_final"), 1):
        disturb(model.head.parameters(), by=0.3, seed=iteration)
        written.save(name, iteration=100 * iteration - 1)
    return tmp_path / "training"


@pytest.fixture
def run_here(tool, tmp_path):
    """Runs the tool in this process."""

    def run(folder, mine, *words):
        given = ["--config-file", CONFIG, "--checkpoints", folder, "--semantic-root", mine, *words]
        given += ["OUTPUT_DIR", tmp_path / "out", "MODEL.DEVICE", "cpu"]
        tool.main(tool.build_parser().parse_args(list(map(str, given))))

    return run


def table_of(out):
    with (out / "by_checkpoint/checkpoints.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_curve_of_three_points(run_here, folder, mine, tmp_path, capsys):
    """The figures are those of train_net.py --eval-only."""
    run_here(folder, mine)
    rows = table_of(tmp_path / "out")
    assert [row["checkpoint"] for row in rows] == [
        *("model_0000099.safetensors", "model_0000199.safetensors", "model_final.safetensors")
    ]
    assert [int(row["iteration"]) for row in rows] == [99, 199, 299]
    found = [float(row["mine/mIoU"]) for row in rows]
    assert len(set(found)) == 3
    words = ["MODEL.DEVICE", "cpu", "DATASETS.TEST", "('mine',)"]
    for row, value in zip(rows, found, strict=True):
        weights = ["MODEL.WEIGHTS", str(folder / row["checkpoint"])]
        alone = tmp_path / "alone" / row["checkpoint"]
        cfg = make_config(CONFIG, [*words, *weights, "OUTPUT_DIR", str(alone)])
        assert evaluate(cfg, load_model(cfg))["sem_seg"]["mIoU"] == value
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("| model_")]
    assert [f"**{value:.4f}**" in line for line, value in zip(lines, found, strict=True)] == [
        value == max(found) for value in found
    ]
    image = np.asarray(Image.open(tmp_path / "out/by_checkpoint/checkpoints.png"))
    assert image.shape[:2] == (396, 616) and len(np.unique(image)) > 50


def test_the_curve_has_a_point_for_each_and_marks_the_best(tool, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, **o: drawn.append((x, y, o)) or plot(self, x, y, **o)
    )
    summaries = [{"headline": "mIoU", "mIoU": value} for value in (0.0, 0.5, 0.25, 0.9, None)]
    rows = [
        tool.EvaluatedCheckpoint(Path(f"model_{number}"), number, "", {"mine": summary})
        for number, summary in zip((30, 20, 10, None, 40), summaries, strict=True)
    ]
    tool.draw(rows, ["mine"])
    (line_x, line_y, _), (*best, options) = drawn
    # The one of which no iteration is known is in the table alone; a figure of 0 is a figure.
    assert (line_x, line_y) == ((10, 20, 30), (0.25, 0.5, 0.0))
    assert best == [20, 0.5] and options["marker"] == "*"
    assert tool.best_of(rows, "mine") is rows[3]
    assert tool.draw(rows[4:], ["mine"]).startswith(b"\x89PNG")


def test_what_is_evaluated_is_not_run_again(run_here, tool, folder, mine, tmp_path, monkeypatch):
    run_here(folder, mine)
    first = table_of(tmp_path / "out")
    loaded = []

    def load(cfg):
        loaded.append(Path(cfg.MODEL.WEIGHTS).name)
        return load_model(cfg)

    monkeypatch.setattr(tool, "load_model", load)
    run_here(folder, mine)
    assert loaded == [] and table_of(tmp_path / "out") == first
    # One that is new, one that is another under the same name, and one whose records are cut off.
    shutil.copy(folder / "model_final.safetensors", folder / "model_0000150.safetensors")
    model = load_model(make_config(CONFIG, ["MODEL.DEVICE", "cpu"]))
    Checkpointer(model, str(folder)).save("model_0000199", iteration=199)
    records = tmp_path / "out/by_checkpoint/model_0000099/inference/mine/records.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:2]))
    run_here(folder, mine)
    assert sorted(loaded) == [
        *("model_0000099.safetensors", "model_0000150.safetensors", "model_0000199.safetensors")
    ]
    again = table_of(tmp_path / "out")
    assert [row["iteration"] for row in again] == ["99", "150", "199", "299"]
    assert again[0] == first[0] and again[3] == first[2]
    assert again[2] != first[1]
    assert again[1]["mine/mIoU"] == first[2]["mine/mIoU"]
    loaded.clear()
    run_here(folder, mine, "TEST.SEMANTIC.SYNONYMS", "all")  # another config
    assert len(loaded) == 4


def test_a_damaged_file_is_told_and_the_others_go_on(run_here, folder, mine, tmp_path, caplog):
    logging.getLogger("detecture").propagate = True
    damaged = folder / "model_0000199.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    (folder / "model_0000300.pth").write_bytes(b"no checkpoint")
    with pytest.raises(
        EvaluationError, match=r"^2 of 4 checkpoints could not be evaluated: .*000199"
    ):
        run_here(folder, mine)
    rows = {row["checkpoint"]: row for row in table_of(tmp_path / "out")}
    assert [bool(row["mine/mIoU"]) for row in rows.values()].count(True) == 2
    assert "000199.safetensors" in rows["model_0000199.safetensors"]["problem"]
    assert "is no checkpoint" in rows["model_0000300.pth"]["problem"]
    assert not rows["model_final.safetensors"]["problem"]


def test_checkpoints_of_cat_seg(run_here, folder, mine, tmp_path):
    """Detectron2's files: what was released has a name without a number, and says no iteration."""
    from detecture.modeling.cost.published_names import to_published

    model = load_model(make_config(CONFIG, ["MODEL.DEVICE", "cpu"]))
    disturb(model.head.parameters(), by=0.3, seed=1)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    state = {n: v for n, v in model.state_dict().items() if not n.endswith("position_ids")}
    for name, values in (
        ("model_0000099", {"iteration": 99}),
        ("model_final", {"iteration": 199}),
        ("model_base", {}),
    ):
        torch.save({"model": to_published(state), **values}, theirs / f"{name}.pth")
    run_here(theirs, mine)
    rows = {row["checkpoint"]: row for row in table_of(tmp_path / "out")}
    iterations = [rows[f"model_{name}.pth"]["iteration"] for name in ("0000099", "final", "base")]
    assert iterations == ["99", "199", ""]
    assert len({row["mine/mIoU"] for row in rows.values()}) == 1
    first = Checkpointer(model, str(theirs))
    first.save("model_final", iteration=199)  # of the same name, and not mixed up
    run_here(theirs, mine)
    assert len(table_of(tmp_path / "out")) == 4
    assert (tmp_path / "out/by_checkpoint/model_final_pth").is_dir()


def test_texture_models_too(tool, tmp_path):
    """What trains of them is in checkpoints, too."""
    words = [
        "MODEL.DEVICE",
        "cpu",
        "TEST.LIMIT",
        "1",
        "DATASETS.TEST",
        "('samples','synthetic_val')",
    ]
    config = str(REPO / "configs/texture_grouping.yaml")
    words += ["MODEL.GROUPING.DESCRIBE", "False", "TEST.LIMIT", "1"]
    cfg = make_config(config, words)
    Checkpointer(load_model(cfg), str(tmp_path / "in")).save_weights("model_best", iteration=7)
    given = ["--config-file", config, "--checkpoints", str(tmp_path / "in"), *words]
    tool.main(tool.build_parser().parse_args([*given, "OUTPUT_DIR", str(tmp_path / "out")]))
    (row,) = table_of(tmp_path / "out")
    assert (row["checkpoint"], row["iteration"]) == ("model_best.safetensors", "7")
    assert 0 < float(row["samples/mIoU"]) <= 1 and 0 < float(row["synthetic_val/pIoU"]) <= 1


def test_what_cannot_be_done_is_told_first(run_here, tool, folder, mine, tmp_path):
    with pytest.raises(ConfigError, match=r"--checkpoints .*none: no such folder"):
        run_here(tmp_path / "none", mine)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"--checkpoints .*none: has no model_\*"):
        run_here(tmp_path / "none", mine)
    words = ["--config-file", str(CONFIG), "--checkpoints", str(folder), "DATASETS.TEST", "()"]
    with pytest.raises(ConfigError, match=r"DATASETS\.TEST is empty"):
        tool.main(tool.build_parser().parse_args([*words, "OUTPUT_DIR", str(tmp_path / "x")]))
    theirs = tmp_path / "out/by_checkpoint/checkpoints.csv"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        run_here(folder, mine)
    assert theirs.read_text() == "mine" and len(list(theirs.parent.iterdir())) == 1
    run_here(folder, mine, "--overwrite")
    assert len(table_of(tmp_path / "out")) == 3


@pytest.mark.slow
def test_as_a_command(folder, mine, tmp_path):
    """Two processes give the same as one; the exit status says that one is damaged."""
    (folder / "model_0000300.pth").write_bytes(b"no checkpoint")
    tables = []
    for number in (1, 2):
        out = tmp_path / f"out_{number}"
        command = [sys.executable, "tools/eval_multiple_checkpoints.py", "--config-file", CONFIG]
        command += ["--checkpoints", folder, "--semantic-root", mine, "--num-gpus", number]
        done = subprocess.run(
            [*map(str, command), "OUTPUT_DIR", str(out), "MODEL.DEVICE", "cpu"],
            cwd=REPO,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stdout[-1500:] + done.stderr
        text = done.stdout + done.stderr
        assert "1 of 4 checkpoints could not be evaluated" in text and "Traceback" not in text
        assert text.count("| model_final.safetensors ") == 1
        tables.append(table_of(out))
        summary = out / "by_checkpoint/model_final/inference/mine/summary.json"
        assert json.loads(summary.read_text())["n_ok"] == 2
    assert tables[0] == tables[1]

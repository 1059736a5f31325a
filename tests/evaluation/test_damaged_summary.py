"""Everybody who reads summary.json: a damaged one is none, and a changed figure is not shown."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from benchmark.toy_cells import evaluate, write_index
from toy import register_toy_dataset, write_toy_dataset

from detecture.benchmark.read_cells import read_cells
from detecture.benchmark.sweep import SweepRun, table
from detecture.d2 import DatasetCatalog
from detecture.errors import EvaluationError
from detecture.evaluation.summary import is_as_written
from detecture.evaluation.words.image import open_run

REPO = Path(__file__).resolve().parents[2]

DAMAGES = {
    "empty": lambda text: b"",
    "cut": lambda text: text[:50],
    "binary": lambda text: b"\xff\xfe",
    "list": lambda text: b"[1, 2]",
    "number": lambda text: b"5",
    "deep": lambda text: b"[" * 100_000,
    "digit": lambda text: text.replace(b'"mIoU": 1.0', b'"mIoU": 0.9', 1),
    "figure gone": lambda text: text.replace(b'"mIoU"', b'"mIuO"', 1),
    "no number": lambda text: text.replace(b'"mIoU": 1.0', b'"mIoU": "1.0"', 1),
    "headline": lambda text: text.replace(b'"headline": "mIoU"', b'"headline": ["mIoU"]', 1),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    name = register_toy_dataset(write_toy_dataset(tmp_path_factory.mktemp("toy") / "set", count=2))
    yield name
    DatasetCatalog.remove(name)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    return evaluate(tmp_path_factory.mktemp("whole") / "inference" / dataset, dataset)


@pytest.fixture
def run(whole, dataset, tmp_path):
    folder = tmp_path / "inference" / dataset
    shutil.copytree(whole, folder)
    return folder


def damage(folder, how):
    path = folder / "summary.json"
    before = path.read_bytes()
    path.write_bytes(DAMAGES[how](before))
    assert path.read_bytes() != before


def swept(folder, dataset):
    (row,) = table([SweepRun("a", (dataset,), None, folder.parents[1], "")])
    return row


def test_what_is_sound_is_read(run, dataset, tmp_path):
    assert is_as_written(json.loads((run / "summary.json").read_text()))
    assert swept(run, dataset)["mIoU"] == 1.0
    assert open_run(run).summary["mIoU"] == 1.0


@pytest.mark.parametrize("how", DAMAGES)
def test_a_sweep_shows_no_figure_of_it(run, dataset, how):
    damage(run, how)
    assert swept(run, dataset)["runs"] == 0


@pytest.mark.parametrize("how", DAMAGES)
def test_a_benchmark_has_a_cell_less(run, dataset, tmp_path, how):
    damage(run, how)
    place = str(run.relative_to(tmp_path))
    write_index(tmp_path, [{"method": "a", "dataset": dataset, "folder": place}])
    (cell,) = read_cells(tmp_path / "benchmark.json")
    assert (cell.state, cell.summary) == ("missing", None)
    assert "summary.json" in cell.note


@pytest.mark.parametrize("how", DAMAGES)
def test_words_are_not_measured_with_it(run, how):
    damage(run, how)
    with pytest.raises(EvaluationError, match=r"summary\.json: .*evaluate anew"):
        open_run(run)


@pytest.mark.parametrize("how", DAMAGES)
def test_drawings_need_no_summary(run, dataset, how, tmp_path):
    spec = importlib.util.spec_from_file_location("drawing", REPO / "tools/visualize_data.py")
    tool = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    damage(run, how)
    words = ["--predictions", str(run), "--output", str(tmp_path / "drawn")]
    assert tool.main(words) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2

"""A cell of open-vocabulary segmentation, run by a tiny model: its states, images, comparisons."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from semantic_toy import NAMES, write_semantic_folder

from detecture.benchmark import cells
from detecture.benchmark.cells import has_failed_images, look_at, records_folder
from detecture.benchmark.gallery import draw_galleries
from detecture.benchmark.layout import arrange
from detecture.benchmark.manifest import Request, write_index
from detecture.benchmark.page import report_page
from detecture.benchmark.protocol import Cell, Method
from detecture.benchmark.read_cells import read_cell_records, read_cells
from detecture.benchmark.report import build_report
from detecture.benchmark.results import SEMANTIC
from detecture.config import make_config
from detecture.data import register_semantic_folder
from detecture.data.vocabulary import Vocabulary
from detecture.engine import evaluate, load_model
from detecture.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
METHOD = Method("cat", "Cat", REPO / "configs/ahs_seg/cat_seg_tiny.yaml", None, {"default": {}})
SMALL = ("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "DATASETS.TRAIN", "()")


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    folder = write_semantic_folder(tmp_path_factory.mktemp("semantic") / "bench_toy", val=3)
    (name,) = register_semantic_folder(folder).values()
    return Cell(METHOD, "default", name, SEMANTIC, settings=SMALL)


@pytest.fixture(scope="module")
def root(cell, tmp_path_factory):
    """Folder of a benchmark with the cell, done; not to be changed."""
    root = tmp_path_factory.mktemp("benchmark")
    assert look_at(root, cell).note == "not run"
    run_here(root, cell)
    return root


def run_here(root, cell):
    cfg = make_config(cell.config, [*cell.overrides(), "OUTPUT_DIR", str(cell.folder(root))])
    evaluate(cfg, load_model(cfg))


def test_it_is_done_and_its_figures_are_those_of_the_summary(root, cell):
    found = look_at(root, cell)
    assert (found.state, found.note, found.k_access) == ("done", "", SEMANTIC)
    assert not has_failed_images(found)
    summary = json.loads((records_folder(root, cell) / "summary.json").read_text())
    assert found.summary["mIoU"] == summary["mIoU"] == summary["mIoU_present"]
    entries = build_report([found], "p").tables[0].rows[0].entries
    assert entries[0].value == summary["mIoU"]
    assert len(read_cell_records(found)) == 3


def test_another_config_or_class_list_is_stale(root, cell, monkeypatch):
    other = replace(cell, settings=(*SMALL, "TEST.SEMANTIC.SYNONYMS", "all"))
    assert look_at(root, other).note == "config changed since it was run"
    known = replace(cells.semantic_set(cell.dataset), vocabulary=Vocabulary.of(["a", "b", "c"]))
    monkeypatch.setattr(cells, "semantic_set", lambda name: known)
    found = look_at(root, cell)
    assert (found.state, found.note) == ("stale", "class list changed since it was run")


def test_a_summary_without_figures_is_written_anew(cell, tmp_path):
    run_here(tmp_path, cell)
    path = records_folder(tmp_path, cell) / "summary.json"
    summary = json.loads(path.read_text())
    del summary["bIoU"]
    path.write_text(json.dumps(summary))
    found = look_at(tmp_path, cell)
    assert (found.state, found.note) == ("partial", "the summary lacks figures")
    run_here(tmp_path, cell)
    assert look_at(tmp_path, cell).state == "done"


def test_an_index_brings_it_back(root, cell):
    result = look_at(root, cell)
    write_index(root, Request("none.yaml", "p"), [cell], [result])
    (found,) = read_cells(root / "benchmark-p.json")
    assert found == result
    text = (root / "benchmark-p.json").read_text().replace('"semantic"', '"semantics"')
    (root / "benchmark-q.json").write_text(text)
    with pytest.raises(ConfigError, match=r"k_access is 'semantics'; use one of none, .*semantic"):
        read_cells(root / "benchmark-q.json")


def test_the_page_shows_images_in_colours_of_classes(root, cell):
    result = look_at(root, cell)
    layout = arrange([result])
    (gallery,) = draw_galleries(layout, 2, 10_000_000)
    assert gallery.problems == []
    image, truth, answer = gallery.rows[0].panels
    assert image.lines == ["32 x 24 pixels"]
    assert sorted(caption.text for caption in truth.sentences) == sorted(NAMES)
    colors = {caption.text: caption.color for caption in truth.sentences}
    assert all(colors[caption.text] == caption.color for caption in answer.sentences)
    assert answer.image.startswith("data:image/jpeg;base64,")
    record = read_cell_records(result)[gallery.rows[0].image_id]
    assert answer.lines == [f"mIoU {record['mIoU']:.3f}"]
    html = report_page(build_report([result], "p"), [gallery])
    assert html.count('<div class="image">') == 2
    (lost,) = draw_galleries(arrange([replace(result, folder=root)]), 2, 10_000_000)
    assert "no images" in lost.problems[0]


def test_two_are_compared_by_the_mean_iou_of_their_images(root, cell):
    result = look_at(root, cell)
    other = replace(result, method="dog", label="Dog", random_weights=True)
    grid = build_report([result, other], "p", against="cat", bootstrap_samples=50).comparison
    assert grid.rows[0][:4] == ["Dog", cell.dataset, "mIoU of images", "0.0000"]
    assert grid.rows[0][6:] == ["3", "Dog has random weights"]

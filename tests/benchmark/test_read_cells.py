"""Reading a benchmark's folder: whole, half-written, foreign or hostile."""

import json
import shutil

import pytest
from benchmark.toy_cells import summary, write_index

from detecture.benchmark.read_cells import (
    find_index,
    read_cell_records,
    read_cells,
    read_protocol_name,
)
from detecture.errors import ConfigError, EvaluationError


@pytest.fixture
def one_cell(tmp_path):
    """A benchmark of one finished cell; returns its folder."""
    folder = tmp_path / "a/rwtd"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary("rwtd", 0.5, total=2)))
    scores = {"status": "ok", "mIoU": 0.5, "pIoU": 0.5, "ARI": 0.5, "k_pred": 2, "k_gt": 2}
    lines = [{"fingerprint": {}}, *({"image_id": name, **scores} for name in "xy")]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_index(tmp_path, [{"method": "a", "dataset": "rwtd", "folder": "a/rwtd"}])
    return tmp_path


def change(root, **values):
    """Change keys of the only cell in benchmark.json; None of a value stays null there."""
    path = root / "benchmark.json"
    index = json.loads(path.read_text())
    index["cells"][0] |= values
    path.write_text(json.dumps(index))
    return root


def test_a_finished_benchmark(toy_root):
    cells = read_cells(toy_root / "benchmark.json")
    assert read_protocol_name(toy_root / "benchmark.json") == "toy protocol"
    assert [(c.method, c.state) for c in cells] == [
        ("right", "done"),
        ("wrong", "done"),
        ("failing", "done"),
        ("absent", "missing"),
    ]
    assert cells[0].summary["mIoU"] == 1.0
    assert cells[0].folder == toy_root / "right/toy"
    assert cells[2].summary["statuses"] == {"exception": 1, "ok": 5}
    assert (cells[3].summary, cells[3].folder, cells[3].note) == (None, None, "never run")
    assert list(read_cell_records(cells[1])) == [f"toy_{i}" for i in range(6)]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (None, "summary.json is missing"),
        ('{"dataset": "rwtd", "mIo', "summary.json cannot be read"),
        ("\udcff", "summary.json cannot be read"),
        ("[" * 100_000, "summary.json cannot be read"),
        ("[1, 2]", "summary.json is no summary of an evaluation"),
        ('{"dataset": "rwtd"}', "summary.json is no summary of an evaluation"),
        ('{"dataset": "stld", "n_total": 3}', "summary.json is of the data set 'stld'"),
    ],
)
def test_a_cell_without_a_summary_of_its_own_is_missing(one_cell, text, note):
    path = one_cell / "a/rwtd/summary.json"
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    (found,) = read_cells(one_cell / "benchmark.json")
    assert found.state == "missing"
    assert found.summary is None
    assert note in found.note


def test_a_cell_whose_folder_is_gone_is_missing(one_cell):
    shutil.rmtree(one_cell / "a")
    (found,) = read_cells(one_cell / "benchmark.json")
    assert (found.state, found.note) == ("missing", "its folder is missing")


@pytest.mark.parametrize("state", ["stale", "failed", "partial"])
def test_other_states_are_kept_with_or_without_a_summary(one_cell, state):
    change(one_cell, state=state, note="why")
    (found,) = read_cells(one_cell / "benchmark.json")
    assert (found.state, found.note, found.summary["mIoU"]) == (state, "why", 0.5)
    (one_cell / "a/rwtd/summary.json").unlink()
    (found,) = read_cells(one_cell / "benchmark.json")
    assert (found.state, found.note, found.summary) == (state, "why", None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folder": "../elsewhere"}, r"cells\[0\].folder '../elsewhere' leads out of"),
        ({"folder": "/etc"}, "leads out of"),
        ({"folder": 7}, "folder must be a text or null"),
        ({"folder": "a\0b"}, "folder must be a text or null"),
        ({"folder": "x" * 5000}, r"cells\[0\].folder 'xxx"),
        ({"state": "finished"}, r"state is 'finished'; use one of done, unchecked"),
        ({"k_access": "all"}, r"k_access is 'all'; use one of none, regime"),
        ({"random_weights": "no"}, "random_weights must be true or false"),
        ({"method": ""}, "`method` must be a text, is ''"),
        ({"dataset": None}, "`dataset` must be a text, is None"),
        ({"note": ["x"]}, "`note` must be a text"),
    ],
)
def test_a_wrong_entry_is_an_error_that_names_it(one_cell, values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_cells(change(one_cell, **values) / "benchmark.json")
    assert str(one_cell / "benchmark.json") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ('{"cells": [', "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "must hold an object with a list `cells`"),
        ('{"cells": {}}', "must hold an object with a list `cells`"),
        ('{"protocol": "p", "cells": [3]}', r"cells\[0\] must be an object"),
    ],
)
def test_a_wrong_index_is_an_error(tmp_path, text, message):
    (tmp_path / "benchmark.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_cells(tmp_path / "benchmark.json")


def test_the_index_is_found_by_its_protocol(tmp_path):
    with pytest.raises(ConfigError, match="no such file; give the folder of a benchmark"):
        find_index(tmp_path)
    fair, blind = tmp_path / "benchmark-fair.json", tmp_path / "benchmark-blind.json"
    fair.write_text("{}")
    assert find_index(tmp_path) == find_index(tmp_path, "fair") == fair
    with pytest.raises(ConfigError, match="--protocol blind first"):
        find_index(tmp_path, "blind")
    blind.write_text("{}")
    with pytest.raises(ConfigError, match="name one with --protocol"):
        find_index(tmp_path)
    assert find_index(tmp_path, "blind") == blind


@pytest.mark.parametrize("name", ["summary.json", "records.jsonl", "label_maps"])
def test_links_out_of_the_root_are_refused(one_cell, tmp_path_factory, name):
    outside = tmp_path_factory.mktemp("outside") / name
    outside.write_text("{}")
    path = one_cell / "a/rwtd" / name
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    with pytest.raises(ConfigError, match="leads out of"):
        read_cells(one_cell / "benchmark.json")


def test_a_link_in_a_circle_is_an_error(one_cell):
    path = one_cell / "a/rwtd/label_maps"
    path.symlink_to(path)
    try:
        (found,) = read_cells(one_cell / "benchmark.json")
        assert found.state == "done"
    except ConfigError as error:
        assert "cells[0].folder" in str(error)


@pytest.mark.parametrize(
    ("change_lines", "message"),
    [
        (lambda lines: lines[:-1], "holds 1 records, its summary counts 2"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "holds 1 records"),
        (lambda lines: [line.replace('"mIoU": 0.5', '"mIoU": NaN') for line in lines], "of 'x'"),
        (lambda lines: [line.replace('"ARI": 0.5', '"ARI": "a"') for line in lines], "of 'x'"),
        (lambda lines: [line.replace('"k_gt": 2', '"k_gt": 1e9') for line in lines], "of 'x'"),
        (lambda lines: [line.replace('"k_pred": 2', '"k_pred": -1') for line in lines], "of 'x'"),
        (lambda lines: [line.replace('"x"', "[1]") for line in lines], "holds 1 records"),
        (lambda lines: [*lines, "[" * 100_000], "cannot be read"),
    ],
)
def test_records_that_do_not_go_with_the_summary_are_an_error(one_cell, change_lines, message):
    path = one_cell / "a/rwtd/records.jsonl"
    path.write_text("".join(change_lines(path.read_text().splitlines(keepends=True))))
    (found,) = read_cells(one_cell / "benchmark.json")
    assert found.state == "done"
    with pytest.raises(EvaluationError, match=message) as caught:
        read_cell_records(found)
    assert str(path) in str(caught.value)


def test_records_that_are_gone_are_an_error(one_cell):
    (one_cell / "a/rwtd/records.jsonl").unlink()
    (found,) = read_cells(one_cell / "benchmark.json")
    with pytest.raises(EvaluationError, match="run the cell again"):
        read_cell_records(found)

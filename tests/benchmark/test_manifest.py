"""The index of a benchmark: written, read, and held against today's files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detecture.benchmark.cells import best_variants, survey
from detecture.benchmark.manifest import Request, as_of_today, index_path, write_index
from detecture.benchmark.read_cells import (
    find_index,
    read_cells,
    read_protocol_name,
    read_request,
)
from detecture.config import make_config
from detecture.engine import evaluate, load_model
from detecture.errors import EvaluationError


@pytest.fixture
def made(tmp_path):
    """A protocol with two variants on one data set, one of them run; the request and the cells."""
    (tmp_path / "half.yaml").write_text(
        "MODEL:\n  META_ARCHITECTURE: HalfSplit\nDATALOADER:\n  NUM_WORKERS: 0\n"
    )
    (tmp_path / "protocols.yaml").write_text(
        "methods:\n"
        "  half:\n"
        "    label: Half\n"
        "    config: half.yaml\n"
        "    variants: {one: {TEST.DUSTBIN_LOGIT: 0.0}, two: {TEST.DUSTBIN_LOGIT: -1.0}}\n"
        "protocols:\n"
        "  fair:\n"
        "    note: a test\n"
        "    datasets: [synthetic_pair]\n"
        "    leaks: false\n"
        "    methods: {half: {pair: {variants: [one, two], k: regime}}}\n"
    )
    settings = (("half", "TEST.BOOTSTRAP_SAMPLES", "10"),)
    request = Request(str(tmp_path / "protocols.yaml"), "fair", limit=2, settings=settings)
    _, cells = request.read()
    overrides = [*cells[0].overrides(), "OUTPUT_DIR", str(cells[0].folder(tmp_path))]
    cfg = make_config(cells[0].config, overrides)
    evaluate(cfg, load_model(cfg))
    write_index(tmp_path, request, cells, survey(tmp_path, cells))
    return tmp_path


def today(root):
    index = find_index(root, "fair")
    return as_of_today(root, read_request(index), read_cells(index))


def test_what_was_written_comes_back(made):
    index = find_index(made)
    assert index == index_path(made, "fair")
    assert read_protocol_name(index) == "fair"
    found = read_cells(index)
    assert [(c.method, c.variant, c.state) for c in found] == [
        ("half", "one", "done"),
        ("half", "two", "missing"),
    ]
    assert found[0].summary["n_total"] == 2
    now = today(made)
    assert [c.state for c in now] == ["done", "missing"]
    assert now[0].note == ""
    (best,) = best_variants(now)
    assert best.variant == "one"
    assert best.note == "best of the variants that are done; two missing"


def test_a_changed_config_is_seen_without_a_run(made):
    config = made / "half.yaml"
    config.write_text(config.read_text() + "TEST:\n  ORACLE: true\n")
    stale = today(made)[0]
    assert (stale.state, stale.note) == ("stale", "config changed since it was run")
    assert stale.summary["n_total"] == 2


def test_another_protocol_no_longer_has_the_cell(made):
    path = made / "protocols.yaml"
    path.write_text(path.read_text().replace("[one, two]", "[two]"))
    assert [(c.state, c.note) for c in today(made)] == [
        ("stale", "the protocol no longer has this cell"),
        ("missing", "not run"),
    ]
    index = index_path(made, "fair")
    content = json.loads(index.read_text())
    content["request"]["methods"] = ["half"]
    index.write_text(json.dumps(content))
    gone, text = "the protocol no longer has this cell", path.read_text()
    path.write_text(text.replace("  fair:", "  unfair:"))
    assert [c.note for c in today(made)] == [gone, gone]
    path.write_text(text.replace("  half:\n", "  other:\n").replace("{half:", "{other:"))
    assert [c.note for c in today(made)] == [gone, gone]


def test_elsewhere_states_stay_and_say_that_they_were_not_checked(made, tmp_path_factory):
    (made / "protocols.yaml").unlink()
    done, missing = today(made)
    assert (done.state, missing.state) == ("unchecked", "missing")
    assert done.is_finished
    assert done.note.startswith("not checked against today's files")
    assert done.summary["n_total"] == 2
    index = index_path(made, "fair")
    content = json.loads(index.read_text())
    damaged = [("protocol_file", None), ("limit", "2"), ("settings", [[]]), ("settings", [[1] * 3])]
    changed = [{**content["request"], key: value} for key, value in damaged]
    for request in ({"methods": 3}, [], {**content["request"], "extra": 1}, *changed):
        index.write_text(json.dumps({**content, "request": request}))
        assert "the request is damaged" in today(made)[0].note
    index.write_text(json.dumps({key: content[key] for key in ("protocol", "cells")}))
    assert [c.note for c in today(made)] == ["", "not run"]


def test_a_folder_that_cannot_be_written(made):
    request = Request(str(made / "protocols.yaml"), "fair", limit=2)
    _, cells = request.read()
    file = made / "file"
    file.write_text("")
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_index(file, request, cells, survey(Path(made), cells))
    assert replace(request, limit=3).limit == 3


def test_a_file_of_somebody_else_is_no_index(made):
    path = index_path(made, "fair")
    for text in ('{"mine": 1}', "[]", "text"):
        path.write_text(text)
        with pytest.raises(EvaluationError, match="no index of a benchmark; choose another --root"):
            write_index(made, Request("a", "fair"), [], [])
        assert path.read_text() == text

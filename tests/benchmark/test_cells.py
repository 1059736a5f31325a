"""Where a cell stands, and the runner, with processes that do little."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from record_files import read_lines, write_sealed, write_summary

from detecture.benchmark.cells import (
    best_variants,
    has_failed_images,
    is_without_data,
    look_at,
    records_folder,
    survey,
)
from detecture.benchmark.protocol import Cell, Method
from detecture.benchmark.results import CellResult
from detecture.benchmark.runner import cells_to_run, reserved_root, run_cells
from detecture.config import make_config
from detecture.d2 import MetadataCatalog
from detecture.engine import evaluate, load_model
from detecture.errors import EvaluationError, OutputError

REPO = Path(__file__).resolve().parents[2]


def make_cell(tmp_path, dataset="synthetic_pair", limit=2, text="{}"):
    config = tmp_path / "method.yaml"
    config.write_text(f"MODEL:\n  META_ARCHITECTURE: HalfSplit\nTEST: {text}\n")
    method = Method("half", "Half", config, None, {"default": {}})
    return Cell(method, "default", dataset, "regime", limit=limit)


def standing(tmp_path, cells):
    return list(zip(cells, survey(tmp_path, cells), strict=True))


def to_run(tmp_path, cells):
    return [cell for cell, _ in cells_to_run(cells, survey(tmp_path, cells), tmp_path)]


def run_here(tmp_path, cell):
    overrides = [*cell.overrides(), "OUTPUT_DIR", str(cell.folder(tmp_path))]
    cfg = make_config(cell.config, overrides)
    evaluate(cfg, load_model(cfg))


def test_a_cell_from_missing_to_stale(tmp_path):
    cell = make_cell(tmp_path)
    assert look_at(tmp_path, cell).state == "missing"
    assert look_at(tmp_path, cell).note == "not run"
    run_here(tmp_path, cell)
    done = look_at(tmp_path, cell)
    assert done.state == "done"
    assert done.summary["n_total"] == 2
    assert done.k_access == "regime"
    assert to_run(tmp_path, [cell]) == []
    # Another limit is another cell; another config is not.
    assert look_at(tmp_path, replace(cell, limit=3)).state == "missing"
    stale = look_at(tmp_path, make_cell(tmp_path, text="{DUSTBIN_LOGIT: -1.0}"))
    assert stale.state == "stale"
    assert stale.note == "config changed since it was run"
    assert stale.summary == done.summary


def test_a_cell_that_was_cut_off_is_partial(tmp_path):
    cell = make_cell(tmp_path)
    run_here(tmp_path, cell)
    folder = records_folder(tmp_path, cell)
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    (folder / "records.jsonl").write_text("".join(lines[:2]))
    (folder / "summary.json").unlink()
    partial = look_at(tmp_path, cell)
    assert (partial.state, partial.note) == ("partial", "1 of 2 images")
    assert partial.summary is None
    assert to_run(tmp_path, [cell, cell]) == [cell]


def test_a_summary_without_its_records_is_not_done(tmp_path):
    cell = make_cell(tmp_path)
    run_here(tmp_path, cell)
    (records_folder(tmp_path, cell) / "records.jsonl").unlink()
    assert look_at(tmp_path, cell).state == "missing"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda s: {}, "summary.json is no summary of an evaluation"),
        (lambda s: {**s, "dataset": "rwtd"}, "summary.json is of the data set 'rwtd'"),
        (lambda s: {**s, "mIoU": float("nan")}, "the summary lacks figures"),
        (lambda s: {**s, "K_MAE": "x"}, "the summary lacks figures"),
        (lambda s: {**s, "fingerprint": {}}, "the summary is not that of its records"),
        (lambda s: {**s, "mIoU": 0.9}, "the summary has changed since it was written"),
    ],
)
def test_a_summary_is_not_believed_unread(tmp_path, change, note):
    cell = make_cell(tmp_path)
    run_here(tmp_path, cell)
    path = records_folder(tmp_path, cell) / "summary.json"
    original = json.loads(path.read_text())
    path.write_text(json.dumps(change(original)))
    found = look_at(tmp_path, cell)
    assert (found.state, found.note, found.summary) == ("partial", note, None)
    assert to_run(tmp_path, [cell]) == [cell]
    run_here(tmp_path, cell)  # from the records, which are kept
    assert look_at(tmp_path, cell).summary == original


def test_records_of_other_images_do_not_count(tmp_path):
    cell = make_cell(tmp_path)
    run_here(tmp_path, cell)
    path = records_folder(tmp_path, cell) / "records.jsonl"
    header, first, _ = path.read_text().splitlines()
    foreign = [{"image_id": "x", "status": "ok"}, {"image_id": [1], "status": "ok"}]
    path.write_text("\n".join([header, first, *map(json.dumps, foreign)]) + "\n")
    assert look_at(tmp_path, cell).state == "partial"
    path.unlink()
    path.mkdir()
    broken = look_at(tmp_path, cell)
    assert broken.state == "failed"
    assert str(path.parent) in broken.note


def test_images_that_failed_are_said_and_tried_again(tmp_path):
    cell = make_cell(tmp_path)
    run_here(tmp_path, cell)
    folder = records_folder(tmp_path, cell)
    *lines, last = read_lines(folder / "records.jsonl")
    failed = {**last, "status": "exception", "mIoU": 0.0}
    write_sealed(folder / "records.jsonl", [*lines, failed])
    write_summary(folder / "summary.json", statuses={"exception": 1, "ok": 1})
    found = look_at(tmp_path, cell)
    assert found.state == "done"
    assert found.note.startswith("1 of 2 images failed and count 0 (synthetic_pair_")
    assert has_failed_images(found)
    assert to_run(tmp_path, [cell]) == [cell]
    run_here(tmp_path, cell)
    assert look_at(tmp_path, cell).note == ""
    assert to_run(tmp_path, [cell]) == []


def test_missing_data_and_broken_configs(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(tmp_path))
    missing = look_at(tmp_path, make_cell(tmp_path, dataset="stld"))
    assert is_without_data(missing)
    assert "STLD" in missing.note
    assert to_run(tmp_path, [make_cell(tmp_path, dataset="stld")]) == []
    broken = look_at(tmp_path, make_cell(tmp_path, text="{DUSTBIN: 1}"))
    assert broken.state == "failed"
    assert "TEST.DUSTBIN" in broken.note


def launch_text(text):
    return lambda cell, folder: [sys.executable, "-c", text, str(folder)]


def test_a_broken_cell_fails_and_the_others_run(tmp_path):
    broken, fine = make_cell(tmp_path), replace(make_cell(tmp_path), limit=3)

    def launch(cell, folder):
        if cell.limit == 2:
            return [sys.executable, "-c", "raise ValueError('no weights')"]
        command = [sys.executable, str(REPO / "tools/train_net.py"), "--eval-only"]
        command += ["--config-file", str(cell.config), *cell.overrides()]
        return [*command, "OUTPUT_DIR", str(folder)]

    run_here(tmp_path, broken)  # an older success must not be shown for the failure
    (records_folder(tmp_path, broken) / "records.jsonl").unlink()
    run_cells(standing(tmp_path, [broken, fine]), tmp_path, launch, [{}, {}])
    failed = look_at(tmp_path, broken)
    assert failed.state == "failed"
    assert "exit status 1: ValueError: no weights" in failed.note
    assert failed.summary is None
    assert look_at(tmp_path, fine).state == "done"
    assert to_run(tmp_path, [broken, fine]) == [broken]  # it is tried again


def test_variables_reach_the_process(tmp_path):
    cell = make_cell(tmp_path)
    text = "import os, sys; open(sys.argv[1] + '/seen', 'w').write(os.environ['DEVICE'])"
    run_cells(standing(tmp_path, [cell]), tmp_path, launch_text(text), [{"DEVICE": "3"}])
    assert (cell.folder(tmp_path) / "seen").read_text() == "3"


def test_an_interrupt_ends_the_processes(tmp_path, monkeypatch):
    cell = make_cell(tmp_path)
    text = "import sys, time; open(sys.argv[1] + '/began', 'w'); time.sleep(60)"

    def interrupted(_):
        while not (cell.folder(tmp_path) / "began").exists():
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr("detecture.benchmark.runner.time.sleep", interrupted)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_cells(standing(tmp_path, [cell]), tmp_path, launch_text(text), [{}])
    assert time.monotonic() - started < 30
    assert look_at(tmp_path, cell).state == "missing"  # not failed


def test_it_waits_for_a_process_that_an_earlier_runner_left(tmp_path):
    cell = make_cell(tmp_path)
    # A runner is killed when its process has hardly begun: that one writes, and ends by itself.
    slow = "import sys, time; time.sleep(4); open(sys.argv[1] + '/slow', 'w').write('slow')"
    runner = (
        "import sys; from pathlib import Path; from detecture.jobs.crew import Job, run_jobs\n"
        f"folder = Path({str(cell.folder(tmp_path))!r})\n"
        f"command = [sys.executable, '-c', {slow!r}, str(folder)]\n"
        "run_jobs([Job(folder, [command])], [{}], lambda is_running: print('go', flush=True) or "
        "[0 for _ in iter(is_running, False)])"
    )
    earlier = subprocess.Popen([sys.executable, "-c", runner], stdout=subprocess.PIPE)
    earlier.stdout.readline()
    while not (cell.folder(tmp_path) / "run.log").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    earlier.kill()
    earlier.wait()
    text = "import sys; print(open(sys.argv[1] + '/slow').read()); open(sys.argv[1] + '/ran', 'w')"
    run_cells(standing(tmp_path, [cell]), tmp_path, launch_text(text), [{}])
    assert (cell.folder(tmp_path) / "ran").exists()  # not before the other one had ended
    assert look_at(tmp_path, cell).state == "missing"


def test_a_signal_to_end_ends_the_processes_too(tmp_path):
    cell = make_cell(tmp_path)
    folder = cell.folder(tmp_path)
    pid = str(folder / "pid")
    text = f"import os, time; open({pid!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    runner = (
        "import sys; from pathlib import Path; from detecture.jobs.crew import Job, run_jobs\n"
        f"command = [sys.executable, '-c', {text!r}]\n"
        f"run_jobs([Job(Path({str(folder)!r}), [command])], [{{}}], lambda is_running: "
        "[0 for _ in iter(is_running, False)])"
    )
    process = subprocess.Popen([sys.executable, "-c", runner], stderr=subprocess.DEVNULL)
    while not ((folder / "pid").exists() and (folder / "pid").read_text()):
        time.sleep(0.01)
    process.terminate()
    assert process.wait(30) != 0
    child = int((folder / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(500):
            os.kill(child, 0)
            time.sleep(0.01)


def test_two_runners_in_one_folder(tmp_path):
    busy = pytest.raises(EvaluationError, match="another run is working in it")
    with reserved_root(tmp_path), busy, reserved_root(tmp_path):
        pass
    with reserved_root(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    unusable = pytest.raises(OutputError, match="choose another --root")
    with unusable, reserved_root(tmp_path / "file"):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    cell = make_cell(tmp_path)
    (tmp_path / "cells").write_text("a file where a folder is due")
    with pytest.raises(EvaluationError, match="cannot be written"):
        run_cells(standing(tmp_path, [cell]), tmp_path, launch_text("pass"), [{}])


def result(variant, state="done", score=0.5, headline="mIoU", **more):
    summary = {"headline": headline, headline: score} if state == "done" else None
    return CellResult("m", "M", "rwtd", variant, "regime", state, summary=summary, **more)


def test_the_best_variant_is_reported_by_name():
    (best,) = best_variants([result("a", score=0.4), result("b", score=0.6)])
    assert (best.variant, best.note) == ("b", "")
    blind = [result("a", score=0.4, headline="pIoU"), result("b", score=0.3, headline="pIoU")]
    assert best_variants(blind)[0].variant == "a"
    (partly,) = best_variants([result("a", "failed"), result("b", score=0.1)])
    assert partly.variant == "b"
    assert partly.note == "best of the variants that are done; a failed"
    (none,) = best_variants([result("a", "failed", note="why"), result("b", "missing")])
    assert (none.variant, none.state) == ("a", "failed")


def test_notes_of_failures_survive_damage(tmp_path):
    cell = make_cell(tmp_path)
    folder = cell.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "failure.json").write_text(json.dumps({"note": "it broke"}))
    assert look_at(tmp_path, cell).note == "it broke"
    (folder / "failure.json").write_text("{")
    assert "cannot be read" in look_at(tmp_path, cell).note
    assert MetadataCatalog.get("synthetic_pair").k_regime == "pair"

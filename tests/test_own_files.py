"""Everybody who reads a JSON file of this program: bounded, whatever has become of the file.

What else may have become of each is tested beside its reader; here are the bounds, which are the
same for all.
"""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from detecture.benchmark.manifest import Request, write_index
from detecture.benchmark.read_cells import read_protocol_name
from detecture.benchmark.results import read_summary
from detecture.benchmark.sweep import SweepRun
from detecture.checkpoint.manifest import read_manifest
from detecture.data.formats.published_layout import LayoutWriter
from detecture.data.synthetic import bank
from detecture.engine.run_folder import trim_metrics
from detecture.errors import DetectureError
from detecture.evaluation.record_lines import read_lines
from detecture.evaluation.words import image
from detecture.jobs.crew import read_failure
from detecture.recipes.stages import keep_to
from detecture.untrusted import MOST_BYTES
from detecture.untrusted_plain import MOST_DEPTH

REPO = Path(__file__).resolve().parents[1]

# What each reader below takes, and values of no use to it.
SOUND = (
    '{"note": "said", "n_total": 3, "dataset": "d", "protocol": "said", "cells": [], "mIoU": 0.5, '
    '"edition": 1, "iteration": 1, "image_id": "a", "status": "ok", "total_loss": 1.0, '
    '"pIoU": 0.5, "ARI": 0.5, "K_accuracy": 0.5, "headline": "mIoU", "more": %s}'
)
DEEP = SOUND % ("[" * MOST_DEPTH + "]" * MOST_DEPTH)


def tool(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", REPO / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def summaries(path):
    run = SweepRun("a", ("d",), None, path.parents[2], "")
    return f"{len(run.summaries())} summaries"


def claim(path):
    LayoutWriter(path.parent, {"seed": 1}).claim()


def is_drawn(path):
    np.save(path.parent / "textures.npy", np.zeros(1))
    return bank._is_drawn(path.parent / "textures.npy", path, {"edition": 1})


FILES = {
    "failure of a job": ("failure.json", lambda p: read_failure(p.parent), "cannot be read"),
    "summary for words": (
        "summary.json",
        lambda p: image._read_summary(p, False),
        r"cannot be read \({why}.*evaluate anew",
    ),
    "summary of a cell": ("summary.json", lambda p: read_summary(p, "d"), "cannot be read .*{why}"),
    "summaries of a sweep": ("inference/d/summary.json", summaries, "^0 summaries"),
    "index, read": ("benchmark-p.json", read_protocol_name, r"cannot be read \({why}.*run the ben"),
    "index, replaced": (
        "benchmark-p.json",
        lambda p: write_index(p.parent, Request("a", "p"), [], []),
        "no index of a benchmark",
    ),
    "table of a sweep": ("table.json", tool("sweep")._require_table, "no table of a sweep"),
    "manifest": ("checkpoints.json", lambda p: read_manifest(p.parent), r"damaged \({why}"),
    "recipe": ("recipe.json", lambda p: keep_to(p.parent, {"seed": 1}), r"damaged \({why}"),
    "settings of a data set": ("settings.json", claim, r"cannot be read as JSON \({why}"),
    "data set for drawings": (
        "inference/x/summary.json",
        lambda p: tool("visualize_data")._dataset_of(p.parent),
        "^x$",
    ),
}


def told(read, path):
    try:
        return str(read(path))
    except DetectureError as error:
        return str(error)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_bounded_in_depth_and_size(tmp_path, kind):
    name, read, message = FILES[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for content, why in ((DEEP, "nested too deeply"), ("[" * 100_000, "nested too deeply")):
        path.write_text(content)
        assert_told(read, path, message, why)
    with path.open("w") as file:
        file.write(SOUND % 1)
        file.truncate(MOST_BYTES + 1)
    assert_told(read, path, message, "larger than 67,108,864 bytes")


def assert_told(read, path, message, why):
    said = told(read, path)
    assert re.search(message.replace("{why}", why), said, re.DOTALL), said
    assert len(said) < 600


def test_a_bank_that_says_too_much_is_drawn_again(tmp_path, caplog):
    (tmp_path / "about.json").write_text(DEEP)
    assert not is_drawn(tmp_path / "about.json")
    assert "nested too deeply" in caplog.text
    assert (tmp_path / "about.damaged-1.json").read_text() == DEEP


def test_the_list_of_a_finished_set_is_bounded_in_depth(tmp_path):
    deep = "[" * MOST_DEPTH + "]" * MOST_DEPTH
    (tmp_path / "metadata.json").write_text(
        f'[{{"image_path": "metadata.json", "textures": [], "more": {deep}}}]'
    )
    with pytest.raises(DetectureError, match=r"damaged \(.*nested too deeply.*delete it"):
        LayoutWriter(tmp_path, {}).is_complete()


def test_lines_are_bounded_in_depth(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(f"{SOUND % 1}\n{DEEP}\n")
    found = read_lines(path)
    assert len(found.records) == 1
    assert "line 2, of 'a': no JSON (nested too deeply" in str(found.damaged[0])


@pytest.mark.parametrize("number", ["NaN", "9" * 401])
def test_lines_with_numbers_that_are_none_are_no_records(tmp_path, number):
    path = tmp_path / "records.jsonl"
    path.write_text(f"{SOUND % 1}\n{SOUND % number}\n")
    found = read_lines(path)
    assert (len(found.records), len(found.damaged)) == (1, 1)


def test_metrics_are_bounded_in_depth_and_digits(tmp_path):
    path = tmp_path / "metrics.json"
    lines = [SOUND % "NaN", DEEP, SOUND.replace('"iteration": 1', f'"iteration": {"9" * 401}') % 1]
    path.write_text("".join(f"{line}\n" for line in lines))
    assert tool("plot_training").read_losses(tmp_path, "total_loss") == {1: 1.0}
    trim_metrics(path, 5)
    assert path.read_text() == f"{lines[0]}\n"
    assert (tmp_path / "metrics.damaged-1.json").read_text() == f"{lines[1]}\n{lines[2]}\n"

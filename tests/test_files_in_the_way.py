"""What lies where a run writes or reads: pipes, folders, and files that a user has changed."""

import os
import time
from pathlib import Path

import pytest
import yaml
from record_files import read_lines
from toy import register_toy_dataset, write_toy_dataset

from detecture.checkpoint.atomic import sha256_file
from detecture.checkpoint.manifest import read_manifest
from detecture.checkpoint.ownership import write_config
from detecture.checkpoint.search import read_pointer
from detecture.config import make_config
from detecture.engine import evaluate, load_model
from detecture.engine.run_folder import trim_metrics
from detecture.errors import CheckpointError, ConfigError
from detecture.evaluation import record_lines
from detecture.evaluation.recorded import label_map_path
from detecture.untrusted import read_json, read_own_json, read_yaml

READERS = {
    "json": lambda path: read_json(path, ConfigError),
    "yaml": lambda path: read_yaml(path, ConfigError),
    "own json": read_own_json,
    "records": record_lines.read_lines,
    "hash": sha256_file,
    "manifest": lambda path: read_manifest(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_place_of_a_file_is_refused_at_once(tmp_path, name):
    path = tmp_path / "checkpoints.json"
    os.mkfifo(path)
    before = time.monotonic()
    with pytest.raises((OSError, ConfigError, CheckpointError), match="it is no regular file"):
        READERS[name](path)
    assert time.monotonic() - before < 30  # without the look at its kind: for ever


def test_a_pipe_in_place_of_the_pointer(tmp_path):
    os.mkfifo(tmp_path / "last_checkpoint")
    assert read_pointer(tmp_path) == (None, "it cannot be read (it is no regular file)")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_metrics_that_are_no_file_get_another_name(tmp_path, make):
    make(tmp_path / "metrics.json")
    trim_metrics(tmp_path / "metrics.json", 3)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.foreign-1.json"]


def test_a_config_that_somebody_changed_gets_another_name(tmp_path):
    path = tmp_path / "config.yaml"
    for seed in (1, 2):  # its own is replaced
        write_config(path, f"SEED: {seed}\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.yaml"]
    assert yaml.safe_load(path.read_text()) == {"SEED": 2}
    changed = "# my notes\n" + path.read_text()
    path.write_text(changed)
    write_config(path, "SEED: 2\n")
    assert (tmp_path / "config.stale-1.yaml").read_text() == changed
    path.write_text("SEED: 3\n")  # as an earlier version wrote it
    write_config(path, "SEED: 3\n")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def evaluated(tmp_path):
    """A finished evaluation: how it is run, its folder, and what lies there."""
    name = register_toy_dataset(write_toy_dataset(tmp_path / "toy", count=3))
    cfg = make_config(
        None, ["MODEL.META_ARCHITECTURE", "HalfSplit", "OUTPUT_DIR", str(tmp_path / "out"),
               "TEST.BOOTSTRAP_SAMPLES", "50", "DATASETS.TEST", f"('{name}',)"],
    )  # fmt: skip
    folder = tmp_path / "out/inference" / name

    def run():
        evaluate(cfg, load_model(cfg))
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "foreign" not in path.name and "stale" not in path.name
        }

    return run, folder, run()


@pytest.mark.parametrize("damage", ["gone", "flipped", "empty", "another"])
def test_an_image_whose_label_map_is_not_its_own_is_evaluated_again(evaluated, damage, caplog):
    run, folder, whole = evaluated
    first, second, _ = (label_map_path(folder, r["image_id"]) for r in records(folder))
    content = bytearray(first.read_bytes())
    content[-20] ^= 1
    if damage == "gone":
        first.unlink()
    else:
        first.write_bytes({"flipped": bytes(content), "empty": b"", "another": b""}[damage])
    if damage == "another":
        first.write_bytes(second.read_bytes() + b"\n")
    assert run() == whole
    assert "1 label maps are missing or not those of their records" in caplog.text


def test_notes_in_the_files_of_an_evaluation_are_kept(evaluated):
    run, folder, whole = evaluated
    config = (folder / "config.yaml").read_text() + "# my notes\n"
    (folder / "config.yaml").write_text(config)
    (folder / "summary.json").write_text("my notes")
    assert run() == whole
    assert (folder / "config.stale-1.yaml").read_text() == config
    assert (folder / "summary.foreign-1.json").read_text() == "my notes"
    (folder / "summary.json").unlink()
    (folder / "summary.json").mkdir()
    assert run() == whole
    assert (folder / "summary.foreign-2.json").is_dir()


def records(folder):
    return read_lines(folder / "records.jsonl")[1:]

"""tools/benchmark.py: from nothing to all done, killed on the way, with cells that break."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripts import load_script

REPO = Path(__file__).resolve().parents[2]
TOOL = [sys.executable, str(REPO / "tools/benchmark.py")]


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/benchmark.py")


def command(root, *words, methods=("texture_clusters",), limit=12):
    words = ["--root", str(root), "--limit", str(limit), *map(str, words)]
    return [*TOOL, *words, "--methods", *methods, "--datasets", "synthetic_pair"]


def run(root, *words, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(root, *words, **options), capture_output=True, text=True, env=environment
    )


def records_of(root):
    (path,) = (root / "cells").glob("texture_clusters/*/*/inference/*/records.jsonl")
    return path


def finished(root):
    try:
        return records_of(root).read_text().count("image_id")
    except ValueError:
        return 0


def kill_after(root, count):
    """Kill the runner alone, as a machine short of memory does."""
    process = subprocess.Popen(
        command(root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 400
    while finished(root) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_twice_and_finished_by_the_third_call(tmp_path):
    kill_after(tmp_path, 2)
    first = {r["image_id"]: r for r in read_records(records_of(tmp_path))}
    assert 2 <= len(first) < 12
    kill_after(tmp_path, len(first) + 2)
    second = {r["image_id"]: r for r in read_records(records_of(tmp_path))}
    assert len(first) < len(second) < 12
    stamps = label_map_times(tmp_path)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 done" in done.stdout
    last = {r["image_id"]: r for r in read_records(records_of(tmp_path))}
    assert len(last) == 12
    # Nothing that was finished was computed again: the label map's file is the old one.
    kept = label_map_times(tmp_path)
    assert all(kept[name] == stamps[name] for name in stamps)
    assert all(last[name] == second[name] for name in second)
    again = run(tmp_path)
    assert again.returncode == 0
    assert label_map_times(tmp_path) == kept


def read_records(path):
    lines = path.read_text().splitlines()
    records = []
    for line in lines[1:]:
        try:
            records.append(json.loads(line))
        except ValueError:  # cut short by the kill
            continue
    return records


def label_map_times(root):
    folder = records_of(root).parent / "label_maps"
    # A label map may have been written whose record was not: that image is run again.
    done = {r["image_id"] for r in read_records(records_of(root))}
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.stem in done}


@pytest.mark.slow
def test_a_changed_config_a_broken_cell_and_missing_data(tmp_path):
    for name in ("half", "broken"):
        (tmp_path / f"{name}.yaml").write_text("MODEL:\n  META_ARCHITECTURE: HalfSplit\n")
    protocol = tmp_path / "protocols.yaml"
    entry = "{pair: {variants: [default], k: regime}}"
    protocol.write_text(
        "methods:\n"
        "  half: {label: Half, config: half.yaml}\n"
        "  broken: {label: Broken, config: broken.yaml}\n"
        "protocols:\n"
        "  fair:\n"
        "    note: a test\n"
        "    datasets: [synthetic_pair, stld]\n"
        "    leaks: false\n"
        f"    methods: {{half: {entry}, broken: {entry}}}\n"
    )
    options = ["--protocol-file", protocol]
    environment = {**os.environ, "DETECTURE_DATASETS_ROOT": str(tmp_path / "nowhere")}

    def benchmark(*words):
        words = [*TOOL, "--root", str(tmp_path / "out"), "--limit", "2", *map(str, options), *words]
        return subprocess.run(words, capture_output=True, text=True, env=environment)

    dry = benchmark("--dry-run")
    assert dry.returncode == 0
    assert "4 missing" in dry.stdout
    assert dry.stdout.count("train_net.py") == 2
    assert not (tmp_path / "out").exists()
    missing = benchmark()
    assert missing.returncode == 3, missing.stderr
    assert "2 done, 2 missing" in missing.stdout
    assert "data: " in missing.stdout
    assert benchmark("--datasets", "synthetic_pair").returncode == 0

    (tmp_path / "broken.yaml").write_text("MODEL:\n  META_ARCHITECTURE: NoSuchMethod\n")
    stale = benchmark("--dry-run", "--datasets", "synthetic_pair")
    assert "1 done, 1 stale" in stale.stdout
    assert "config changed since it was run" in stale.stdout
    broken = benchmark("--datasets", "synthetic_pair")
    assert broken.returncode == 1
    assert "1 done, 1 failed" in broken.stdout
    assert "broken, default, on synthetic_pair: exit status 2" in broken.stdout
    assert (
        "NoSuchMethod" in (tmp_path / "out").glob("cells/broken/*/*/run.log").__next__().read_text()
    )
    (tmp_path / "broken.yaml").write_text("MODEL:\n  META_ARCHITECTURE: HalfSplit\n")
    assert benchmark("--datasets", "synthetic_pair").returncode == 0


@pytest.mark.parametrize(
    ("words", "method", "message"),
    [
        (["--protocol", "unfair"], "half_split", "'unfair' is unknown; use one of published"),
        (["--protocol-file", "none.yaml"], "half_split", "none.yaml: cannot be read"),
        (["--num-gpus", "-1"], "half_split", "must be 0 or more"),
        (["--skip", "sam4"], "half_split", "not among the methods"),
        (["--skip", "half_split"], "half_split", "no method"),
        ([], "sam4", "'sam4' is unknown; use one of one_region"),
    ],
)
def test_wrong_input(tool, tmp_path, monkeypatch, capsys, words, method, message):
    monkeypatch.chdir(tmp_path)
    assert tool.main(command(tmp_path / "out", *words, methods=[method])[2:]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_method_is_skipped(tool, tmp_path, capsys):
    words = ["--skip", "one_region", "--dry-run"]
    methods = ["one_region", "half_split"]
    assert tool.main(command(tmp_path / "out", *words, methods=methods)[2:]) == 0
    printed = capsys.readouterr().out
    assert "half_split" in printed and "one_region" not in printed
    assert not (tmp_path / "out").exists()

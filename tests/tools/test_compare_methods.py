"""tools/compare_methods.py: one table of several methods."""

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def compare(*words):
    command = [sys.executable, str(REPO / "tools/compare_methods.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO)


def test_a_table_and_a_cell_that_fails(tmp_path):
    configs = [REPO / "configs/baselines" / f"floor_{n}.yaml" for n in ("one_region", "half_split")]
    given = ["--datasets", "samples", "--counts", "given", "--output", tmp_path]
    done = compare("--configs", *configs, *given, "--opts", "MODEL.DEVICE", "cpu")
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| floor")]
    assert [row[1].strip() for row in rows] == ["floor_one_region", "floor_half_split"]
    assert all("[" in row[4] for row in rows)
    failed = compare("--configs", configs[0], tmp_path / "none.yaml", *given)
    assert failed.returncode == 1
    assert "none.yaml on samples" in failed.stderr
    assert "failed" in failed.stdout

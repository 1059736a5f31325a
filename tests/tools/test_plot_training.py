"""tools/plot_training.py: the curves of training runs."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image
from scripts import load_script


@pytest.fixture
def plot(capsys):
    """The tool, run in this process: a new one takes seconds for its imports."""
    module = load_script("tools/plot_training.py")

    def run(*words):
        status = module.main([*map(str, words)])
        return SimpleNamespace(returncode=status, stderr=capsys.readouterr().err)

    return run


def run_folder(folder, values):
    folder.mkdir()
    lines = [json.dumps({"iteration": i, "total_loss": v}) for i, v in enumerate(values)]
    (folder / "metrics.json").write_text("\n".join([*lines, json.dumps({"iteration": 3})]))
    return folder


def test_one_panel_for_each_run(plot, tmp_path):
    one = run_folder(tmp_path / "one", [3.0, 2.0, 1.0])
    two = run_folder(tmp_path / "two", [1.0, 1.0])
    for runs in ([one], [one, two]):
        output = tmp_path / "made" / f"{len(runs)}.png"
        done = plot(*runs, "--output", output)
        assert done.returncode == 0, done.stderr
        assert Image.open(output).size == (462 * len(runs), 352)


def test_lines_that_cannot_be_read_are_told_and_left_out(plot, tmp_path):
    one = run_folder(tmp_path / "one", [3.0, 2.0])
    damaged = [b"\xff", b"[" * 100_000, b"[]", b'{"total_loss": 1}', b"5", b'{"iteration": [1]}']
    damaged += [b'{"iteration": 5, "total_loss": NaN}', b'{"iteration": 5, "total_loss": "x"}']
    path = one / "metrics.json"
    path.write_bytes(b"\n".join([*damaged, path.read_bytes(), b'{"iter']))
    done = plot(one, "--output", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    assert "5 lines cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_what_cannot_be_drawn(plot, tmp_path):
    one = run_folder(tmp_path / "one", [3.0])
    for words, told in (
        ([tmp_path / "none"], "none/metrics.json"),
        ([one, "--key", "loss_x"], "total_loss"),
    ):
        done = plot(*words, "--output", tmp_path / "x.png")
        assert done.returncode == 2
        assert told in done.stderr
        assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("ending", ["png", "pdf", "svg", "jpg"])
def test_files_of_others_are_kept(plot, tmp_path, ending):
    run, output = run_folder(tmp_path / "one", [3.0, 2.0]), tmp_path / f"plot.{ending}"
    output.write_text("mine")
    done = plot(run, "--output", output)
    assert done.returncode == 2 and "is there already" in done.stderr
    assert "--overwrite" in done.stderr and output.read_text() == "mine"
    for words in (["--overwrite"], [], []):
        assert plot(run, "--output", output, *words).returncode == 0
    assert len(output.read_bytes()) > 1000

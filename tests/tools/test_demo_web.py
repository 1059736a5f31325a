"""`tools/demo_web.py`: help and errors without gradio, wrong input, a whole run with it."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from image_makers import put_no_images
from PIL import Image

REPO = Path(__file__).parents[2]
HALVES = str(REPO / "configs/baselines/floor_half_split.yaml")
NEEDED = 'the page needs gradio: pip install -e ".[web]"'


@pytest.fixture
def demo_web():
    spec = importlib.util.spec_from_file_location("demo_web", REPO / "tools/demo_web.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_gradio(demo_web, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)  # counts as not installed
    with pytest.raises(SystemExit) as ended:
        demo_web.main(["--help"])
    assert ended.value.code == 0 and "--max-megapixels" in capsys.readouterr().out
    assert demo_web.main([]) == 2
    said = capsys.readouterr().err
    assert said == 'demo_web: the web demo needs gradio: pip install -e ".[web]"\n'


def test_examples_that_are_no_files_are_told(demo_web, tmp_path, caplog):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    said = put_no_images(tmp_path)
    assert demo_web.example_images(tmp_path) == [tmp_path / "a.png"]
    assert all(f"/{name}: " in caplog.text and why in caplog.text for name, why in said.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "nowhere.yaml"], "nowhere.yaml"),
        (["--examples", "nowhere"], "--examples nowhere: no such folder"),
        (["--max-megabytes", "0"], "--max-megabytes is a positive number"),
        (["--max-megapixels", "nan"], "--max-megapixels is a positive number"),
        (["--max-megapixels", "inf"], "--max-megapixels is a positive number, 1,000,000 at most"),
        (["--max-megabytes", "inf"], "--max-megabytes is a positive number, 1,000,000 at most"),
        (["--port", "99999"], "--port is a number from 1 to 65535, got 99999"),
        (["--port", "-1"], "--port is a number from 1 to 65535, got -1"),
        (["--port", "0"], "--port is a number from 1 to 65535, got 0"),
        (["--", "TEST.CONT", "3"], "did you mean TEST.COUNT?"),
        (["--config-file", HALVES, "--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
    ],
)
def test_wrong_input(demo_web, arguments, message, capfd):
    pytest.importorskip("gradio", reason=NEEDED)
    assert demo_web.main(arguments) == 2
    assert message in capfd.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_run_ends_cleanly(tmp_path):
    pytest.importorskip("gradio", reason=NEEDED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "tools/demo_web.py", "--port", str(port), "--config-file", HALVES]
    process = subprocess.Popen(
        [*command, "TEST.COUNT", "3"],
        cwd=REPO,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == (
            f"open http://127.0.0.1:{port}/ in a browser; Ctrl-C ends\n"
        )
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/").read().decode()
        assert "Number of regions" in page
        assert list(tmp_path.iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
    assert not list(tmp_path.glob("detecture_web_*"))

"""`tools/evaluate_names.py`: what is refused before an image is read."""

from pathlib import Path

import pytest
from scripts import load_script

REPO = Path(__file__).parents[2]
SHIPPED = str(REPO / "configs/ahs_seg/tiny_shipped.yaml")
HALVES = str(REPO / "configs/baselines/floor_half_split.yaml")


@pytest.fixture
def tool(monkeypatch):
    module = load_script("tools/evaluate_names.py")

    def never(*_):
        raise AssertionError("an image was read")

    for name in ("published_images", "procedural_images"):
        monkeypatch.setattr(module, name, never)
    return module


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to measure: give the --config-file of a semantic model, --floors or"),
        (("--floors", "--limit", "-1"), "--limit is a number of records, 0 for all, got -1"),
        (("--config-file", HALVES), "HalfSplit finds regions by itself and is asked for no names"),
        (("--floors", "--json", "{file}/y.json"), "cannot be written to"),
    ],
)
def test_what_is_refused_before_an_image_is_read(tool, tmp_path, words, says, capsys):
    (tmp_path / "file").write_text("")
    given = [word.replace("{file}", str(tmp_path / "file")) for word in words]
    assert tool.main(["--dataset", "samples", *given]) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import write_toy_dataset

from detecture.evaluation.recorded import label_map_path
from detecture.visualize import label_map_image

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / "tools" / "evaluate_words.py"
SENTENCES = [
    "Texture of fine dark grey stripes with low contrast on the left side",
    "Texture of coarse white round dots with high contrast on the right side",
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("evaluate_words_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tmp_path):
    """Four images of two strips, with sentences about them."""
    path = write_toy_dataset(tmp_path / f"toy_{tmp_path.name}", count=4, k=2)
    entries = json.loads(path.read_text())
    for entry in entries:
        for texture, sentence in zip(entry["textures"], SENTENCES, strict=True):
            texture["description"] = sentence
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def run(toy, tmp_path):
    """An evaluation that numbers the strips the other way round, with words for both."""
    folder = tmp_path / "run" / toy.parent.name
    (folder / "label_maps").mkdir(parents=True)
    lines = [{"fingerprint": {}}]
    for number in range(4):
        image_id = f"toy_{number}"
        mask = np.asarray(Image.open(toy.parent / f"textures_mask/{image_id}_mask_0.png")) > 0
        label_map_image(np.where(mask, 2, 1)).save(label_map_path(folder, image_id))
        scores = dict.fromkeys(("mIoU", "pIoU", "mDice", "pDice", "ARI"), 1.0)
        lines.append(
            {
                "image_id": image_id,
                "status": "ok",
                **scores,
                "coverage": 0.0,
                "k_pred": 2,
                "k_gt": 2,
                "k_hint": {"kind": "none", "k": None},
                "descriptions": SENTENCES[::-1],
                "assignment": [[0, 1], [1, 0]],
                "matched_ious": [1.0, 1.0],
            }
        )
    write_records(folder, lines)
    summary = {"dataset": toy.parent.name, "method": "Detecture", "k_knowledge": "none"}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_records(folder, lines):
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_records(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def test_table_and_json(tool, toy, run, tmp_path, capsys):
    out = tmp_path / "new" / "words.json"
    arguments = ["--predictions", str(run), "--dataset-json", str(toy), "--json", str(out)]
    assert tool.main([*arguments, "TEST.BOOTSTRAP_SAMPLES", "50"]) == 0
    text = capsys.readouterr().out
    assert f"Detecture on {toy.parent.name}: its own sentences, 4 of 4 images" in text
    assert "two-way matching: 1.000 [1.000, 1.000], chance .500; 4 images" in text
    assert "attributes: not measured: only procedural images have true attributes" in text
    report = json.loads(out.read_text())
    assert report["matching"]["accuracy"] == 1.0 and report["form"]["length"] == 1.0
    assert report["agreement"]["position"]["claims"] == 8
    assert report["attributes"] is None


def test_words_of_the_other_strip(tool, toy, run, tmp_path, capsys):
    lines = read_records(run)
    for line in lines[1:]:
        line["descriptions"] = SENTENCES
    write_records(run, lines)
    out = tmp_path / "words.json"
    arguments = ["--predictions", str(run), "--dataset-json", str(toy), "--json", str(out)]
    assert tool.main(arguments) == 0
    wrong = json.loads(out.read_text())
    assert tool.main([*arguments, "--oracle-sentences"]) == 0
    right = json.loads(out.read_text())
    assert (wrong["matching"]["accuracy"], right["matching"]["accuracy"]) == (0.0, 1.0)
    shares = [report["agreement"]["position"]["share"] for report in (wrong, right)]
    assert shares[0] < shares[1]
    assert right["sentences"] == "true" and "the TRUE sentences" in capsys.readouterr().out


def test_open_vocabulary(tool, toy, run, capsys):
    lines = read_records(run)
    for line in lines[1:]:
        line["descriptions"] = [f"{text} beside chenille" for text in SENTENCES]
    write_records(run, lines)
    arguments = ["--predictions", str(run), "--dataset-json", str(toy)]
    assert tool.main(arguments) == 0
    assert "unbroken 0.000" in capsys.readouterr().out
    assert tool.main([*arguments, "--open-vocabulary"]) == 0
    assert "unbroken 1.000" in capsys.readouterr().out


def test_wrong_input(tool, toy, run, tmp_path, capsys):
    (tmp_path / "file").touch()
    partial = ["--predictions", str(run), "--dataset-json", str(toy)]

    def says(text, *arguments):
        assert tool.main([*arguments]) == 2
        captured = capsys.readouterr()
        assert text in captured.err and captured.out == "" and "Traceback" not in captured.err

    says("no such file; give the folder of an", "--predictions", str(tmp_path / "none"))
    says(f"did you mean {run}?", "--predictions", str(run.parent))
    says("did you mean rwtd?", "--predictions", str(run), "--dataset", "rwdt")
    says("BOOTSTRAP_SAMPLE", *partial, "TEST.BOOTSTRAP_SAMPLE", "5")
    says("choose another --json", *partial, "--json", str(tmp_path / "file" / "a.json"))
    lines = read_records(run)
    write_records(run, lines[:3])
    says("2 of the 4 images", *partial)
    assert tool.main([*partial, "--partial"]) == 0
    capsys.readouterr()
    write_records(run, [line | {"descriptions": ["", ""]} for line in lines])
    says("Detecture writes none", *partial)
    (run / "summary.json").unlink()
    says("the evaluation is not finished", *partial)


def test_contradictory_arguments(tool, capsys):
    for arguments in ([], ["--predictions", "a", "--dataset", "b", "--dataset-json", "c"]):
        with pytest.raises(SystemExit) as caught:
            tool.main(arguments)
        assert caught.value.code == 2
    capsys.readouterr()


def test_as_a_command(toy, run):
    done = subprocess.run(
        [sys.executable, str(TOOL), "--predictions", str(run), "--dataset-json", str(toy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "position words that agree" in done.stdout


def test_a_file_of_somebody_else_is_kept(tool, toy, run, tmp_path, capsys):
    out = tmp_path / "words.json"
    out.write_text('{"mine": 1}')
    arguments = ["--predictions", str(run), "--dataset-json", str(toy), "--json", str(out)]
    assert tool.main(arguments) == 2
    assert "words.json: is there already" in capsys.readouterr().err
    assert out.read_text() == '{"mine": 1}'
    assert tool.main([*arguments, "--overwrite"]) == 0
    assert tool.main([*arguments, "--oracle-sentences"]) == 0
    assert json.loads(out.read_text())["sentences"] == "true"

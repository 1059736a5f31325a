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
from detecture.visualize import Drawing, contact_sheet, label_map_image

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / "tools" / "visualize_data.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("visualize_data_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tmp_path):
    """A toy set of four images with ids of its own folder's name."""
    return write_toy_dataset(tmp_path / f"toy_{tmp_path.name}", count=4, k=2)


def write_evaluation(toy, folder, scores=(0.9, 0.2, 0.5, 0.7)):
    """An evaluation whose method finds the strips, but numbers them the other way round."""
    (folder / "label_maps").mkdir(parents=True)
    lines = [{"fingerprint": {}}]
    for number, score in enumerate(scores):
        image_id = f"toy_{number}"
        mask = np.asarray(Image.open(toy.parent / f"textures_mask/{image_id}_mask_0.png")) > 0
        label_map_image(np.where(mask, 2, 1)).save(label_map_path(folder, image_id))
        lines.append(
            {
                "image_id": image_id,
                "status": "ok",
                "k_pred": 2,
                "k_gt": 2,
                "mIoU": 1 - score,
                "pIoU": score,
                "ARI": score,
                "descriptions": ["right", ""],
                "assignment": [[0, 1], [1, 0]],
                "matched_ious": [1.0, 1.0],
            }
        )
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "summary.json").write_text(json.dumps({"dataset": toy.parent.name}))
    return folder


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_annotation(tool, toy, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        tool.main(["--source", "annotation", "--dataset-json", str(toy), "--output", str(out)]) == 0
    )
    assert names(out) == [f"toy_{i}.png" for i in range(4)]
    assert capsys.readouterr().out == f"4 drawings in {out}, 0 failed\n"
    drawn = np.asarray(Image.open(out / "toy_0.png"))
    source = np.asarray(Image.open(toy.parent / "images/toy_0.png"))
    assert (drawn[4:256:8, 4:256:8] == source).all()  # 32 pixels drawn as 256
    assert len(np.unique(drawn[256:].reshape(-1, 3), axis=0)) > 10  # the words


def test_several_data_sets_and_limit(tool, toy, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--source", "annotation", "--output", str(out), "--dataset-json", str(toy)]
    assert tool.main([*common, "--dataset", "synthetic_test", "--limit", "2"]) == 0
    assert names(out) == [f"synthetic_test/synthetic_test_000000{i}.png" for i in range(2)]
    assert "2 drawings of 1,004 (--limit 0: all)" in capsys.readouterr().out
    assert tool.main([*common, "--dataset", "samples", "--limit", "0"]) == 0
    assert len(names(out)) == 2 + 6 + 4
    assert f"{toy.parent.name}/toy_3.png" in names(out)


def test_training_loader(tool, toy, tmp_path, monkeypatch):
    """One pass, at the size and with the crops of the config, the same for the same seed."""
    seen = []
    monkeypatch.setattr(
        tool,
        "sample_drawing",
        lambda m, original=tool.sample_drawing: seen.append(m) or original(m),
    )
    command = ["--source", "loader", "--dataset-json", str(toy), "--limit", "0"]
    config = ["INPUT.TRAIN_SIZE", "48", "INPUT.MICRO_CROP.PROB", "1.0", "SEED", "5"]
    for run in "ab":
        out = tmp_path / run
        assert tool.main([*command, "--output", str(out), *config]) == 0
        assert len(names(out)) == 4 and all(name[:5].isdigit() for name in names(out))
    assert {tuple(m["image"].shape) for m in seen} == {(3, 48, 48)}
    assert {m["image_id"] for m in seen[:4]} == {f"toy_{i}" for i in range(4)}
    assert all((a["image"] == b["image"]).all() for a, b in zip(seen[:4], seen[4:], strict=True))
    assert all("sem_seg" in m for m in seen)


def test_test_loader(tool, toy, tmp_path, monkeypatch):
    drawings = []
    monkeypatch.setattr(
        tool,
        "sample_drawing",
        lambda m, f=tool.sample_drawing: drawings.append(f(m)) or drawings[-1],
    )
    command = ["--source", "loader", "--split", "test", "--dataset-json", str(toy)]
    assert tool.main([*command, "--output", str(tmp_path / "a")]) == 0
    assert tool.main([*command, "--output", str(tmp_path / "b"), "TEST.COUNT", "per_image"]) == 0
    assert names(tmp_path / "a") == [f"toy_{i}.png" for i in range(4)]
    first, with_count = drawings[0], drawings[4]
    assert not first.overlays and first.image.shape == (32, 32, 3)
    assert first.caption.endswith("K unknown")
    assert with_count.caption.endswith("K known: 2 (per_image)")


def test_procedural_records_through_both_loaders(tool, tmp_path):
    command = ["--source", "loader", "--limit", "2", "--sheet", str(tmp_path / "a.jpg")]
    assert tool.main([*command, "--split", "test", "--dataset", "synthetic_val"]) == 0
    small = ["INPUT.TRAIN_SIZE", "64"]
    assert tool.main([*command, "--dataset", "synthetic_train", *small]) == 0


def test_predictions_in_the_colors_of_the_truth(tool, toy, tmp_path):
    folder, out = write_evaluation(toy, tmp_path / "run"), tmp_path / "out"
    command = ["--predictions", str(folder), "--dataset-json", str(toy), "--output", str(out)]
    assert tool.main(command) == 0
    drawn = np.asarray(Image.open(out / "toy_0.png"))[:256]
    panels = drawn[:, :256], drawn[:, 260:516], drawn[:, 520:776]
    assert drawn.shape[1] == 776 and (panels[1] == panels[2]).all()
    assert (panels[0] != panels[1]).any()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [1, 2, 3, 0]),
        (["--worst", "2"], [1, 2]),
        (["--best", "3"], [0, 3, 2]),
        (["--worst", "1", "--sort", "mIoU"], [0]),
        (["--limit", "2"], [1, 2]),
    ],
)
def test_order_of_predictions(tool, toy, tmp_path, monkeypatch, arguments, expected):
    folder = write_evaluation(toy, tmp_path / "run")
    drawn = []
    monkeypatch.setattr(
        tool, "draw_prediction",
        lambda r, *_: drawn.append(r["image_id"]) or Drawing(np.zeros((8, 8, 3), np.uint8), [], ""),
    )  # fmt: skip
    command = ["--predictions", str(folder), "--dataset-json", str(toy), "--output"]
    assert tool.main([*command, str(tmp_path / "out"), *arguments]) == 0
    assert drawn == [f"toy_{i}" for i in expected]


def test_predictions_that_are_not_whole(tool, toy, tmp_path, capsys):
    """A failed sample, no map, a map of another size, one of another method; no summary yet."""
    folder = write_evaluation(toy, tmp_path / toy.parent.name)
    (folder / "summary.json").unlink()
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    for key in ("assignment", "matched_ious", "descriptions"):
        del lines[1][key]
    lines[1] |= {"status": "exception", "error": "out of memory", "k_pred": 0}
    lines.append(lines[4] | {"image_id": "gone"})
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    label_map_path(folder, "toy_1").unlink()
    label_map_image(np.ones((4, 4), int)).save(label_map_path(folder, "toy_2"))
    label_map_image(np.full((32, 32), 3)).save(label_map_path(folder, "toy_3"))
    out = tmp_path / "out"
    command = ["--predictions", str(folder), "--dataset-json", str(toy), "--output", str(out)]
    assert tool.main(command) == 1
    captured = capsys.readouterr()
    assert names(out) == ["toy_0.png", "toy_1.png"]
    assert "toy_2: not drawn" in captured.err and "toy_3: not drawn" in captured.err
    assert "gone: not drawn: the data set has no such image" in captured.err
    assert captured.out.endswith("3 failed\n")


def test_sheet(tool, toy, tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr(
        tool, "contact_sheet", lambda *a: sheets.append((len(a[0]), a[1])) or contact_sheet(*a)
    )
    sheet = tmp_path / "new" / "sheet.png"
    command = ["--source", "annotation", "--dataset-json", str(toy), "--sheet", str(sheet)]
    assert tool.main([*command, "--columns", "2"]) == 0
    image = Image.open(sheet)
    tile = 2 * 256 + 4
    assert sheets == [(4, 2)] and image.width == 2 * (tile + 16) + 16
    assert names(sheet.parent) == ["sheet.png"]  # without --output nothing else is written


@pytest.mark.parametrize("source", [["annotation"], ["loader", "--split", "test"], ["loader"]])
def test_a_broken_image_is_named_and_the_others_go_on(tool, toy, tmp_path, capsys, source):
    (toy.parent / "images/toy_1.png").write_bytes(b"no image")
    out = tmp_path / "out"
    command = ["--dataset-json", str(toy), "--output", str(out), "--source", *source]
    assert tool.main([*command, "INPUT.TRAIN_SIZE", "32"]) == 1
    captured = capsys.readouterr()
    assert "toy_1.png: is no image" in captured.err and "Traceback" not in captured.err
    assert captured.err.count("is no image") == 1 and captured.out.endswith("1 failed\n")
    assert len(names(out)) == (4 if source == ["loader"] else 3)  # training takes another one


def test_no_usable_image_at_all(tool, toy, tmp_path, capsys):
    for path in (toy.parent / "images").iterdir():
        path.unlink()
    command = ["--source", "loader", "--dataset-json", str(toy), "--sheet", str(tmp_path / "a.png")]
    assert tool.main(command) == 1
    assert "0 drawings" in capsys.readouterr().out and not (tmp_path / "a.png").exists()


def test_ids_are_not_paths(tool, toy, tmp_path):
    entries = json.loads(toy.read_text())
    for entry, image_id in zip(entries, ["../../out", "a/b", "..", "a b"], strict=True):
        entry["id"] = image_id
    toy.write_text(json.dumps(entries))
    out = tmp_path / "out"
    assert (
        tool.main(["--source", "annotation", "--dataset-json", str(toy), "--output", str(out)]) == 0
    )
    assert set(names(out)) == {"...png", "..%2F..%2Fout.png", "a b.png", "a%2Fb.png"}


def test_wrong_input(tool, toy, tmp_path, capsys):
    (tmp_path / "file").touch()
    run = write_evaluation(toy, tmp_path / "run/inference/toy").parents[1]
    sheet = ["--sheet", str(tmp_path / "a.png")]
    for arguments, says in (
        (["--predictions", str(tmp_path / "none"), *sheet], "no such file; give the folder of an"),
        (["--predictions", str(run), *sheet], f"did you mean {run}/inference/toy?"),
        (["--source", "annotation", "--dataset", "rwdt", *sheet], "did you mean rwtd?"),
        (
            ["--source", "loader", "--dataset", "samples", *sheet, "INPUT.TRAIN_SIZ", "9"],
            "TRAIN_SIZE",
        ),
        (
            ["--source", "annotation", "--dataset", "samples", "--output", str(tmp_path / "file")],
            "cannot be written",
        ),
    ):
        assert tool.main(arguments) == 2
        captured = capsys.readouterr()
        assert says in captured.err and "Traceback" not in captured.err and captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--output", "out"],
        ["--source", "annotation", "--output", "out"],
        ["--source", "annotation", "--dataset", "samples"],
        ["--source", "annotation", "--dataset", "samples", "--sheet", "a.pdf"],
        ["--source", "annotation", "--dataset", "samples", "--sheet", "a.png", "--limit", "-1"],
        ["--source", "annotation", "--dataset", "samples", "--sheet", "a.png", "--worst", "3"],
        ["--source", "annotation", "--dataset", "samples", "--sheet", "a.png", "--split", "test"],
        ["--predictions", "a", "--dataset", "samples", "--sheet", "a.png"],
        ["--predictions", "a", "--source", "loader", "--sheet", "a.png"],
        ["--predictions", "a", "--sheet", "a.png", "--worst", "0"],
        ["--predictions", "a", "--sheet", "a.png", "--worst", "1", "--best", "1"],
    ],
)
def test_contradictory_arguments(tool, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2
    capsys.readouterr()


def test_as_a_command(tmp_path):
    sheet = tmp_path / "sheet.png"
    command = [sys.executable, str(TOOL), "--source", "annotation", "--dataset", "samples"]
    done = subprocess.run(
        [*command, "--sheet", str(sheet), "--limit", "3", "--columns", "1"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"3 drawings of 6 (--limit 0: all) in {sheet}, 0 failed\n"
    assert Image.open(sheet).width == 516 + 32


def test_files_of_others_are_kept(tool, toy, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "toy_1.png").write_text("mine")
    command = ["--source", "annotation", "--dataset-json", str(toy), "--output", str(out)]
    assert tool.main(command) == 1
    printed = capsys.readouterr()
    assert f"toy_1: not drawn: {out / 'toy_1.png'}: is there already" in printed.err
    assert "3 drawings" in printed.out and (out / "toy_1.png").read_text() == "mine"
    assert tool.main([*command, "--overwrite"]) == 0
    assert tool.main(command) == 0
    for name in ("sheet.png", "sheet.webp"):
        sheet = tmp_path / name
        sheet.write_text("mine")
        words = ["--source", "annotation", "--dataset-json", str(toy), "--sheet", str(sheet)]
        assert tool.main([*words, "--output", str(tmp_path / "none")]) == 2
        assert not (tmp_path / "none").exists(), "it is found before the first image"
        assert sheet.read_text() == "mine"
        assert [tool.main([*words, *more]) for more in (["--overwrite"], [])] == [0, 0]


def test_a_place_that_takes_no_files_is_found_first(tool, toy, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(tool, "annotation_jobs", None)
    for words in (["--output", "file/out"], ["--sheet", "file/a.png"], ["--output", "n" * 300]):
        option, place = words
        command = ["--source", "annotation", "--dataset-json", str(toy), option]
        assert tool.main([*command, str(tmp_path / place)]) == 2
        assert "cannot be written" in capsys.readouterr().err

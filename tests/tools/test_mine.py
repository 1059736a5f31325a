"""tools/mine.py from images to a data set, with the stages as they are."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from miner.endpoints import GOOD, Endpoint, answer_of, fails, serving, stalls
from miner_toy import write_ade_toy, write_textured_toy
from PIL import Image

from detecture.data.validate import check_dataset
from detecture.miner.corrections import READERS
from tools import mine

REPO = Path(__file__).resolve().parents[2]
PHOTOS = REPO / "datasets/samples/photos"


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=8, val=2)


def command(ade, output, *more):
    keys = ["MINER.SOURCE.ROOT", str(ade), "OUTPUT_DIR", str(output), "MINER.SELECT.BY", "all"]
    return ["--config-file", str(REPO / "configs/miner/ade20k.yaml"), *more, *keys]


@pytest.fixture(scope="module")
def mined(ade, tmp_path_factory):
    """A mine that is done."""
    output = tmp_path_factory.mktemp("mined") / "out"
    assert mine.main(["run", *command(ade, output)]) == 0
    return output


def dataset(output):
    return output / "export/ADE20K_textured_images"


def entries_of(output):
    return json.loads((dataset(output) / "metadata.json").read_text())


def test_one_command_from_images_to_a_data_set_that_is_clean(mined):
    entries = entries_of(mined)
    assert len(entries) >= 6
    assert all(2 <= entry["num_textures"] <= 5 for entry in entries)
    for entry in entries:
        with Image.open(dataset(mined) / entry["image_path"]) as image:
            size = image.size[::-1]
        masks = [
            np.asarray(Image.open(dataset(mined) / texture["mask_path"])) > 0
            for texture in entry["textures"]
        ]
        assert {mask.shape for mask in masks} == {size}
        assert sum(mask.astype(int) for mask in masks).max() == 1
        assert all(t["description"].startswith("Texture of ") for t in entry["textures"])
        assert entry["offline"] is True
    splits = {
        split: json.loads((dataset(mined) / f"{split}_metadata.json").read_text())
        for split in ("train", "test")
    }
    assert {entry["id"] for entry in splits["test"]} <= {
        e["id"] for e in entries if "_val_" in e["id"]
    }
    for split in ("train", "val", "test"):
        path = dataset(mined) / f"{split}_metadata.json"
        if path.is_file():
            report = check_dataset(split, str(path), str(dataset(mined)), max_pixels=10**8)
            assert report.ok and not report.findings, report.findings


def test_its_card_says_what_it_is_made_of(mined):
    card = (dataset(mined) / "README.md").read_text()
    entries = entries_of(mined)
    assert f"{len(entries)} images" in card
    assert "ADE20K" in card and "measured, or by the small model" in card
    assert "MINER.SELECT.BY" in card and str(mined) not in card
    shown = sorted((dataset(mined) / "examples").iterdir())
    assert len(shown) == 3 and all(f"examples/{path.name}" in card for path in shown)


def test_status_and_a_second_run(ade, mined, capsys):
    capsys.readouterr()
    assert mine.main(["status", "--json", *command(ade, mined)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["images"] == 10 and status["progress"] == {}
    assert status["stages"]["export"]["counts"] == {"ok": len(entries_of(mined))}
    before = {path: path.read_bytes() for path in dataset(mined).rglob("*") if path.is_file()}
    assert mine.main(["run", *command(ade, mined)]) == 0
    assert "score     0 done now" in capsys.readouterr().out
    assert before == {
        path: path.read_bytes() for path in dataset(mined).rglob("*") if path.is_file()
    }


def test_a_dry_run_says_how_long_and_how_dear_and_leaves_nothing(
    ade, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("openai", reason="needs openai")
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    prices = ["MINER.DESCRIBE.DESCRIBER", "openai", "MINER.DESCRIBE.PRICE_IN", "2.5"]
    prices += ["MINER.DESCRIBE.SEND_IMAGES", "True", "MINER.DESCRIBE.MODEL", "m"]
    prices += ["MINER.DESCRIBE.PRICE_OUT", "10"]
    assert mine.main(["run", "--dry-run", *command(ade, tmp_path / "out"), *prices]) == 0
    said = capsys.readouterr().out
    assert "10 images of ade20k; 10 of them were tried" in said
    assert "score     about 10 images, about" in said
    assert "USD, at most about" in said and "the endpoint decides" in said
    assert not (tmp_path / "out").exists()


def test_picked_images_alone_become_the_data_set(ade, mined, tmp_path, capsys):
    capsys.readouterr()
    assert mine.main(["review", *command(ade, mined)]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == mined / "review/index.html"
    rows = (page.parent / "data.js").read_text()
    assert rows.count('"pick":"ade20k/') == 10 and "Texture of " in rows
    picks = [f"ade20k/{entry['id']}" for entry in entries_of(mined)[1:6]]
    path = tmp_path / "picked_image_names.txt"
    path.write_text("\n".join(picks) + "\n")
    output = tmp_path / "out"
    keys = ["--picked-list", str(path)]
    assert mine.main(["run", *command(ade, output, *keys)]) == 0
    assert [f"ade20k/{entry['id']}" for entry in entries_of(output)] == picks
    path.write_text("# none\n")
    assert mine.main(["run", *command(ade, output, *keys)]) == 2
    assert "names no image of ade20k" in capsys.readouterr().err
    assert [f"ade20k/{entry['id']}" for entry in entries_of(output)] == picks
    path.write_text("ade20k/nothing\n")
    assert mine.main(["run", *command(ade, output, *keys)]) != 0
    assert "1 picked images are not in ade20k: nothing" in capsys.readouterr().err


def test_corrections_of_people_come_back(ade, tmp_path, capsys):
    output = tmp_path / "out"
    keys = ["MINER.EXPORT.FORMATS", "('cvat',)"]
    assert mine.main(["run", *command(ade, output), *keys]) == 0
    first = entries_of(output)[0]
    path = output / "export/cvat/annotations/instances_default.json"
    paths = [path] if path.is_file() else sorted((output / "export/cvat").rglob("instances_*.json"))
    changed = 0
    for path in paths:
        content = json.loads(path.read_text())
        for one in content["annotations"]:
            attributes = one["attributes"]
            text = f"Texture of what person {one['id']} has written, plain and clear"
            attributes["description"] = text
            changed += 1
        path.write_text(json.dumps(content))
    assert changed
    corrected = tmp_path / "corrected"
    (output / "export/cvat").rename(corrected)
    capsys.readouterr()
    tool = ["--tool", "cvat", "--export", str(corrected)]
    assert mine.main(["import", *command(ade, output, *tool)]) == 0
    assert f"{len(entries_of(output))} images corrected" in capsys.readouterr().out
    assert mine.main(["run", *command(ade, output)]) in (0, 1)
    again = next(entry for entry in entries_of(output) if entry["id"] == first["id"])
    assert all("has written, plain" in texture["description"] for texture in again["textures"])
    assert [t["class_name"] for t in again["textures"]] == [
        t["class_name"] for t in first["textures"]
    ]
    assert again["describer"] == "cvat" and again["offline"] is False


def test_images_without_labels_get_regions_from_the_model_that_ships(tmp_path, capsys):
    images = tmp_path / "photos"
    images.mkdir()
    for path in sorted(PHOTOS.glob("*.jpg"))[:2]:
        with Image.open(path) as image:
            image.thumbnail((256, 256))
            image.save(images / path.name)
    output = tmp_path / "out"
    keys = ["MINER.SOURCE.ROOT", str(images), "OUTPUT_DIR", str(output), "MINER.SELECT.BY", "all"]
    config = ["--config-file", str(REPO / "configs/miner/folder.yaml")]
    assert mine.main(["run", *config, *keys]) == 0, capsys.readouterr()
    entries = entries_of(output)
    assert entries and all(entry["offline"] for entry in entries)
    for entry in entries:
        assert (dataset(output) / entry["image_path"]).read_bytes() == (
            images / f"{entry['id']}.jpg"
        ).read_bytes()


def test_variants_are_described_and_stay_on_one_side(ade, tmp_path):
    textured = write_textured_toy(tmp_path, ade)
    output = tmp_path / "out"
    keys = ["MINER.SOURCE.ROOT", str(textured), "MINER.SOURCE.ANNOTATION_ROOT", str(ade)]
    keys += ["OUTPUT_DIR", str(output), "MINER.SELECT.BY", "all"]
    config = ["--config-file", str(REPO / "configs/miner/textured_ade20k.yaml")]
    assert mine.main(["run", *config, *keys]) == 0
    entries = entries_of(output)
    assert {entry["degree"] for entry in entries} == {0.0, 0.5, 1.0}
    sides: dict[str, set] = {}
    for split in ("train", "val", "test"):
        path = dataset(output) / f"{split}_metadata.json"
        for entry in json.loads(path.read_text()) if path.is_file() else ():
            sides.setdefault(entry["base_ade20k_id"], set()).add(split)
    assert sides and all(len(side) == 1 for side in sides.values())


TEXTS = [*GOOD, "Texture of brown wet sand, fine grains with soft ripples, along the lower edge"]


def good(endpoint, request):
    """An answer about as many regions as were asked about."""
    asked = re.findall(r'\\"texture_[a-z]\\": \\"Texture of', json.dumps(request))
    return answer_of(len(asked), TEXTS)


@pytest.mark.parametrize("describer", ["openai", "anthropic"])
def test_an_endpoint_that_misbehaves_loses_no_image(ade, tmp_path, capsys, monkeypatch, describer):
    pytest.importorskip(describer, reason=f"needs {describer}")
    monkeypatch.setenv(f"{describer.upper()}_API_KEY", "secret")
    bad = [fails(500), fails(429, retry_after="0"), "no JSON at all", stalls, "{}", fails(503)]
    endpoint = Endpoint(*[one for pair in zip(bad, [good] * len(bad), strict=True) for one in pair])
    keys = ["MINER.DESCRIBE.DESCRIBER", describer, "MINER.DESCRIBE.SEND_IMAGES", "True"]
    keys += ["MINER.DESCRIBE.MODEL", "m", "MINER.DESCRIBE.CONCURRENCY", "3"]
    keys += ["MINER.DESCRIBE.ATTEMPTS", "1", "MINER.DESCRIBE.RETRIES", "3"]
    keys += ["MINER.DESCRIBE.TIMEOUT", "1.0", "MINER.DESCRIBE.BACKOFF", "0.01"]
    keys += ["MINER.DESCRIBE.PRICE_IN", "1", "MINER.DESCRIBE.PRICE_OUT", "2"]
    output = tmp_path / "out"
    with serving(endpoint) as url:
        keys += ["MINER.DESCRIBE.BASE_URL", url + ("/v1" if describer == "openai" else "")]
        assert mine.main(["run", *command(ade, output), *keys]) == 1
        assert "images failed; --retry-failed tries those again" in capsys.readouterr().out
        lines = (output / "journals/describe.jsonl").read_text().splitlines()
        results = {json.loads(line)["id"]: json.loads(line)["result"] for line in lines}
        failures = {name for name, result in results.items() if result["status"] == "failed"}
        assert failures and all(results[name]["reason"] for name in failures)
        assert len(entries_of(output)) == len(results) - len(failures)
        assert endpoint.most_at_once <= 3
        asked = len(endpoint.bodies)
        assert mine.main(["run", "--retry-failed", *command(ade, output), *keys]) == 0
        assert len(endpoint.bodies) == asked + len(failures)
        assert len(entries_of(output)) == len(results)
        assert mine.main(["status", *command(ade, output), *keys]) == 0
        assert "USD" in capsys.readouterr().out
    assert all(not entry["offline"] for entry in entries_of(output))
    assert "secret" not in "".join(
        path.read_text(errors="replace") for path in output.rglob("*.*") if path.is_file()
    )


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_at_ten_points_of_chance_it_ends_as_if_nothing_had_been(tmp_path, workers):
    ade = write_ade_toy(tmp_path, count=60, val=6)
    keys = ["MINER.EXPORT.FORMATS", "('coco',)", "MINER.RUNNING.WORKERS", workers]
    tool = [sys.executable, str(REPO / "tools/mine.py"), "run"]
    begun = time.monotonic()
    quiet = {"cwd": REPO, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*tool, *command(ade, tmp_path / "whole", *keys)], check=True, **quiet)
    seconds = time.monotonic() - begun
    rng = random.Random(int(workers))
    for _ in range(10):
        process = subprocess.Popen([*tool, *command(ade, tmp_path / "out", *keys)], **quiet)
        time.sleep(rng.uniform(0.3, 0.8) * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    subprocess.run([*tool, *command(ade, tmp_path / "out", *keys)], check=True, **quiet)
    assert exported(tmp_path / "out") == exported(tmp_path / "whole")


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_disk_without_room_ends_a_run_that_then_goes_on(tmp_path, workers):
    ade = write_ade_toy(tmp_path, count=12, val=0)
    keys = ["MINER.DESCRIBE.OFFLINE_MODEL", "False", "MINER.RUNNING.WORKERS", workers]
    tool = [sys.executable, str(REPO / "tools/mine.py"), "run"]
    limit = resource.RLIMIT_FSIZE
    options = {"cwd": REPO, "capture_output": True, "text": True}
    for size in (3_000, 9_000):  # of a file, in bytes: a journal, then an image
        found = subprocess.run(
            [*tool, *command(ade, tmp_path / "out", *keys)],
            preexec_fn=lambda size=size: resource.setrlimit(limit, (size, size)),
            **options,
        )
        assert found.returncode == 2, found.stderr
        assert "cannot be written (File too large)" in found.stderr
        assert "run the same" in found.stderr and "Traceback" not in found.stderr
    assert mine.main(["run", *command(ade, tmp_path / "out", *keys)]) == 0
    assert mine.main(["run", *command(ade, tmp_path / "whole", *keys)]) == 0
    assert exported(tmp_path / "out") == exported(tmp_path / "whole")


def exported(output):
    """All that is in the export, but for notes of what was written."""
    files = (path for path in (output / "export").rglob("*") if path.is_file())
    return {
        str(path.relative_to(output)): path.read_bytes() for path in files if path.name[0] != "."
    }


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["MINER.SOURCE.ROOT", "/nowhere"], "MINER.SOURCE.ROOT"),
        (["MINER.SOURCE.NAME", "imagenet"], "no such source; there are ade20k"),
        (["MINER.SOURCE.PARTS", "('holiday',)"], "none is of MINER.SOURCE.PARTS"),
        (["MINER.SELECT.BY", "picked"], "name the list, MINER.SELECT.PICKED"),
        (["MINER.DESCRIBE.DESCRIBER", "openai"], "MINER.DESCRIBE.SEND_IMAGES"),
        (["--max-cost", "3"], "needs the prices of the model"),
        (["--max-cost", "much"], "MINER.DESCRIBE.MAX_COST"),
        (["MINER.EXTRACT.MIN_REGIONS", "7"], "MIN_REGIONS <= MAX_REGIONS"),
        (["MINER.EXPORT.FORMATS", "('paper',)"], "MINER.EXPORT.FORMATS: 'paper' is none"),
        (["MINER.EXPORT.NAME", "../../evil"], "MINER.EXPORT.NAME '../../evil'"),
        (["MINER.EXPORT.NAME", "coco"], "MINER.EXPORT.NAME 'coco'"),
        (["MINER.EXPORT.NAME", ""], "MINER.EXPORT.NAME ''"),
        (["MINER.SCORE.SELECTED_MIN", "nan"], "MINER.SCORE.SELECTED_MIN"),
        (["MINER.SCORE.SELECTED_MIN", "10"], "is above SELECTED_MIN 10"),
        (["MINER.VALIDATE.WORDS", "(1,2,3)"], "MINER.VALIDATE.WORDS (1, 2, 3): must be two"),
        (["OUTPUT_DIR", ""], "OUTPUT_DIR is empty"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_lost(ade, tmp_path, capsys, more, text):
    options = [*more, *command(ade, tmp_path / "out")]
    if not more[0].startswith("--"):
        options = [*command(ade, tmp_path / "out"), *more]
    assert mine.main(["run", *options]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def own_folder(root):
    """Two images with labels and names, in the layout of one's own."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b"):
        image = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(image).save(root / f"images/{name}.png")
        labels = np.ones((60, 80), np.uint8)
        labels[:, 40:] = 2
        Image.fromarray(labels).save(root / f"labels/{name}.tif")
    (root / "classes.json").write_text('["grass", "water"]')
    return root


def run_own(root, output):
    keys = ["MINER.SOURCE.ROOT", str(root), "OUTPUT_DIR", str(output), "MINER.SELECT.BY", "all"]
    keys += ["MINER.DESCRIBE.OFFLINE_MODEL", "False"]
    return mine.main(["run", "--config-file", str(REPO / "configs/miner/folder.yaml"), *keys])


def test_labels_and_names_that_were_changed_in_place_are_seen(tmp_path):
    root = own_folder(tmp_path / "own")
    assert run_own(root, tmp_path / "out") == 0
    assert len(entries_of(tmp_path / "out")) == 2
    labels = np.ones((60, 80), np.uint8)
    labels[30:] = 2
    path = root / "labels/a.tif"
    before = path.stat().st_size
    Image.fromarray(labels).save(path)
    assert path.stat().st_size == before
    (root / "classes.json").write_text('["sand", "water"]')
    assert run_own(root, tmp_path / "out") == 0
    entry = next(entry for entry in entries_of(tmp_path / "out") if entry["id"] == "a")
    names = {texture["class_name"]: texture["mask_path"] for texture in entry["textures"]}
    assert set(names) == {"sand", "water"}
    mask = np.asarray(Image.open(dataset(tmp_path / "out") / names["sand"])) > 0
    assert np.array_equal(mask, labels == 1)


def test_labels_that_cannot_be_read_are_named(tmp_path, capsys):
    root = own_folder(tmp_path / "own")
    (root / "labels/a.tif").write_bytes(b"no image")
    (root / "images/self.png").symlink_to("self.png")
    assert run_own(root, tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "1 image cannot be read" in said
    assert "labels/a.tif" in said and "self.png: left out" in said


def test_what_has_no_dry_run(ade, mined, capsys):
    for name in ("review", "import", "status"):
        assert mine.main([name, "--dry-run", *command(ade, mined)]) == 2
        assert f"not for {name}" in capsys.readouterr().err


def test_import_without_a_file_and_of_something_else(ade, mined, tmp_path, capsys):
    assert mine.main(["import", *command(ade, mined)]) == 2
    assert "--tool and --export" in capsys.readouterr().err
    path = tmp_path / "export.json"
    path.write_text("{}")
    for tool in READERS:
        more = ["--tool", tool, "--export", str(path)]
        assert mine.main(["import", *command(ade, mined, *more)]) == 2
        assert str(path) in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(ade, tmp_path, capsys):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    assert mine.main(["run", *command(ade, folder / "out")]) == 2
    assert str(folder / "out") in capsys.readouterr().err

"""Input that is wrong, through tools/mine.py: each has its message and its exit status."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from miner.endpoints import GOOD, Endpoint, answer_of, serving
from miner_toy import write_ade_toy, write_textured_toy
from PIL import Image

from tools import mine

REPO = Path(__file__).resolve().parents[2]
TABLE = "objectInfo150.txt"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """An ADE20K that is as it should be; tests change copies of it."""
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=3, val=1)


@pytest.fixture
def ade(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "ade"))


def keys_of(config, root, output, *more):
    keys = ["--config-file", str(REPO / f"configs/miner/{config}.yaml"), "MINER.SOURCE.ROOT"]
    keys += [str(root), "OUTPUT_DIR", str(output), "MINER.SELECT.BY", "all"]
    return [*keys, "MINER.DESCRIBE.OFFLINE_MODEL", "False", *more]


def write_own(root, classes=("grass", "water"), names=("a", "b", "c")):
    """Images with labels, left grass and right water, in the layout of one's own."""
    rng = np.random.default_rng(0)
    labels = np.ones((60, 80), np.uint8)
    labels[:, 40:] = 2
    for name in names:
        path = root / f"images/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)).save(path)
        path = root / f"labels/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
    if classes is not None:
        (root / "classes.json").write_text(json.dumps(classes))
    return root


def results_of(output, stage="score"):
    lines = (output / f"journals/{stage}.jsonl").read_text().splitlines()
    return {json.loads(line)["id"]: json.loads(line)["result"] for line in lines}


# ---- classes without a name ----------------------------------------------------------------------


def paint(path, value, kind=np.uint8):
    """Give the first rows of a label map another class."""
    labels = np.asarray(Image.open(path)).astype(kind)
    labels[:9] = value
    Image.fromarray(labels).save(path)


@pytest.mark.parametrize(("value", "kind"), [(151, np.uint8), (255, np.uint8), (4242, np.uint16)])
def test_a_class_that_ade20k_does_not_have_fails_its_image(ade, tmp_path, capsys, value, kind):
    label_map = ade / "annotations/training/ADE_train_00000002.png"
    paint(label_map, value, kind)
    assert mine.main(["run", *keys_of("ade20k", ade, tmp_path / "out")]) == 1
    assert "1 images failed" in capsys.readouterr().out
    found = results_of(tmp_path / "out")["ADE_train_00000002"]
    assert found["status"] == "failed"
    assert f"class {value} of {label_map} has no name in {ade / TABLE}" in found["reason"]
    assert "ADE_train_00000002" not in results_of(tmp_path / "out", "extract")


def test_a_table_that_was_cut_short_and_is_whole_again(ade, tmp_path, capsys):
    whole = (ade / TABLE).read_text()
    (ade / TABLE).write_text("".join(whole.splitlines(keepends=True)[:3]))
    keys = keys_of("ade20k", ade, tmp_path / "out")
    assert mine.main(["run", *keys]) == 1
    reasons = [found.get("reason", "") for found in results_of(tmp_path / "out").values()]
    assert any(f"has no name in {ade / TABLE}" in reason for reason in reasons)
    (ade / TABLE).write_text(whole)
    assert mine.main(["run", *keys]) == 0
    assert "export    4 done now; 4 ok" in capsys.readouterr().out


def test_variants_of_an_image_with_a_class_that_is_not_there(ade, tmp_path):
    paint(ade / "annotations/training/ADE_train_00000002.png", 200)
    (ade / TABLE).unlink()  # then the names are those that ship
    textured = write_textured_toy(tmp_path, ade)
    more = ["MINER.SOURCE.ANNOTATION_ROOT", str(ade)]
    assert mine.main(["score", *keys_of("textured_ade20k", textured, tmp_path / "out", *more)]) == 1
    reason = results_of(tmp_path / "out")["ADE_train_00000002_textured_degree0.0"]["reason"]
    assert f"class 200 of {ade}/annotations" in reason and "ade_150.json" in reason


@pytest.mark.parametrize("value", [3, 255, 65535])
def test_a_class_that_classes_json_does_not_name(tmp_path, value):
    root = write_own(tmp_path / "own")
    paint(root / "labels/b.png", value, np.uint16)
    paint(root / "labels/c.png", 0)  # no class is no fault
    assert mine.main(["run", *keys_of("folder", root, tmp_path / "out")]) == 1
    found = results_of(tmp_path / "out")
    assert {name: result["status"] for name, result in found.items()} == {
        **{"a": "ok", "b": "failed", "c": "ok"}
    }
    said = f"class {value} of {root}/labels/b.png has no name in {root}/classes.json"
    assert said in found["b"]["reason"]


def test_label_maps_whose_classes_have_no_names_are_regions_as_they_are(tmp_path):
    root = write_own(tmp_path / "own", classes=None)
    paint(root / "labels/b.png", 4242, np.uint16)
    assert mine.main(["run", *keys_of("folder", root, tmp_path / "out")]) == 0
    regions = {
        name: found["regions"] for name, found in results_of(tmp_path / "out", "extract").items()
    }
    assert {name: len(found) for name, found in regions.items()} == {"a": 2, "b": 3, "c": 2}
    assert len(results_of(tmp_path / "out", "export")) == 3


def write_coco_stuff(root, value):
    labels = np.full((40, 60), 123, np.uint8)
    labels[:, 30:] = value
    labels[:4] = 255  # of no class
    for folder, name, pixels in (
        ("val2017", "1.jpg", np.zeros((40, 60, 3), np.uint8)),
        ("stuffthingmaps/val2017", "1.png", labels),
    ):
        (root / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(root / folder / name)


@pytest.mark.parametrize(("value", "status"), [(105, 0), (11, 1), (200, 1)])
def test_labels_of_coco_that_are_no_class(tmp_path, value, status):
    write_coco_stuff(tmp_path / "coco", value)
    more = ["MINER.SOURCE.NAME", "coco"]
    keys = keys_of("base_miner", tmp_path / "coco", tmp_path / "out", *more)
    assert mine.main(["score", *keys]) == status
    reason = results_of(tmp_path / "out")["1"].get("reason", "")
    assert ("coco_stuff_171.json" in reason) is bool(status)


@pytest.mark.parametrize(
    ("segments", "categories", "text"),
    [
        ([(1, 7), (2, 7)], [7], ""),
        ([(1, 7)], [7], "1 segments that"),  # the JSON is of another release
        ([(1, 7), (2, 8)], [7], "class 8 of"),
    ],
)
def test_segments_of_coco_that_nothing_names(tmp_path, segments, categories, text):
    root = tmp_path / "coco"
    colours = np.zeros((40, 60, 3), np.uint8)
    colours[:, :30, 0], colours[:, 35:, 0] = 1, 2  # what is 0 belongs to none
    for folder, name, pixels in (
        ("val2017", "1.jpg", colours),
        ("annotations/panoptic_val2017", "1.png", colours),
    ):
        (root / folder).mkdir(parents=True)
        Image.fromarray(pixels).save(root / folder / name)
    infos = [{"id": n, "category_id": c, "area": 1, "iscrowd": 0} for n, c in segments]
    content = {
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": infos}],
        "categories": [{"id": n, "name": "grass-merged", "isthing": 0} for n in categories],
    }
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    keys = keys_of("base_miner", root, tmp_path / "out", "MINER.SOURCE.NAME", "coco")
    assert mine.main(["score", *keys]) == bool(text)
    reason = results_of(tmp_path / "out")["1"].get("reason", "")
    assert text in reason and ("panoptic_val2017.json" in reason) is bool(text)


# ---- files that are passed over ------------------------------------------------------------------


@pytest.mark.parametrize("labels", [True, False])
def test_images_of_a_kind_that_is_not_read_are_counted_and_named(tmp_path, capsys, labels):
    root = write_own(tmp_path / "own")
    if not labels:
        shutil.rmtree(root / "labels")
    for name in ("d.gif", "e.GIF", "f.heic", "g.avif", "h.jp2", "notes.txt", ".hidden.gif"):
        (root / "images" / name).write_bytes(b"anything")
    keys = keys_of("folder", root, tmp_path / "out")
    assert mine.main(["score" if labels else "run", "--dry-run", *keys]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "not read" in line]
    start = f"{root}/images: 5 files are images of a kind that is not read (1 .avif, 2 .gif, "
    assert start + "1 .heic, 1 .jp2), such as " in said
    assert said.endswith("; convert them to PNG or JPEG")


# ---- what would end a run late -------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, "ade20k/nothing\n", "ade20k/\n", "# none\n"])
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_list_of_picks_that_is_no_good_names_its_key(ade, tmp_path, capsys, content, more):
    path = tmp_path / "picks.txt"
    if content is not None:
        path.write_text(content)
    keys = [*keys_of("ade20k", ade, tmp_path / "out"), "--picked-list", str(path), *more]
    assert mine.main(["run", *keys]) == 2
    said = capsys.readouterr().err
    assert "mine: MINER.SELECT.PICKED (--picked-list): " in said
    assert str(path) in said or "1 picked images are not in ade20k: nothing" in said
    assert not (tmp_path / "out/journals").exists()  # nothing was scored in vain


ALLOWED = ("MINER.DESCRIBE.SEND_IMAGES", "True", "MINER.DESCRIBE.MODEL", "m")


@pytest.mark.parametrize("describer", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("more", "text"),
    [
        ((), "set MINER.DESCRIBE.SEND_IMAGES True"),
        (ALLOWED, "_API_KEY with the key of https://api"),
        ((*ALLOWED, "MINER.DESCRIBE.KEY_VARIABLE", "MINE"), "the environment variable MINE"),
        ((*ALLOWED, "MINER.DESCRIBE.BASE_URL", "nowhere"), "MINER.DESCRIBE.BASE_URL 'nowhere'"),
    ],
)
def test_who_may_not_be_asked_is_told_first_by_a_dry_run_too(
    ade, tmp_path, capsys, monkeypatch, describer, more, text
):
    pytest.importorskip(describer, reason=f"needs {describer}")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MINE"):
        monkeypatch.delenv(name, raising=False)
    keys = [*keys_of("ade20k", ade, tmp_path / "out"), "MINER.DESCRIBE.DESCRIBER", describer, *more]
    for option in (["--dry-run"], []):
        assert mine.main(["run", *keys, *option]) == 2
        assert text in capsys.readouterr().err
        assert not (tmp_path / "out/journals").exists()


def test_a_mine_that_is_described_needs_no_key_any_more(ade, tmp_path, monkeypatch, capsys):
    pytest.importorskip("openai", reason="needs openai")
    keys = keys_of("ade20k", ade, tmp_path / "out")
    keys += ["MINER.DESCRIBE.DESCRIBER", "openai", *ALLOWED, "MINER.DESCRIBE.CONCURRENCY", "1"]
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with serving(Endpoint(answers_all)) as url:
        keys += ["MINER.DESCRIBE.BASE_URL", f"{url}/v1"]
        assert mine.main(["run", *keys]) == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    assert mine.main(["run", *keys, "MINER.EXPORT.FORMATS", "('coco',)"]) == 0
    assert mine.main(["run", "--dry-run", *keys]) == 0
    assert "nothing to do" in capsys.readouterr().out


def answers_all(endpoint, request):
    """An answer about as many regions as were asked about."""
    asked = re.findall(r'\\"texture_[a-z]\\": \\"Texture of', json.dumps(request))
    return answer_of(len(asked), [*GOOD, "Texture of brown wet sand, fine grains, soft ripples"])


# ---- corrections ---------------------------------------------------------------------------------


@pytest.fixture
def labelled(ade, tmp_path):
    """Keys of a mine, and its export for Label Studio as people get it."""
    keys = keys_of("ade20k", ade, tmp_path / "out", "MINER.EXPORT.FORMATS", "('label_studio',)")
    assert mine.main(["run", *keys]) == 0
    tasks = json.loads((tmp_path / "out/export/label_studio/tasks-00000.json").read_text())
    return keys, tasks


def import_of(tmp_path, keys, tasks):
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks))
    return ["import", *keys, "--tool", "label_studio", "--export", str(path)]


def test_an_export_without_tasks_or_of_another_mine(labelled, tmp_path, capsys):
    keys, tasks = labelled
    assert mine.main(import_of(tmp_path, keys, [])) == 2
    assert "project.json: holds no image; export again" in capsys.readouterr().err
    for number, task in enumerate(tasks):
        task["data"] |= {"item_id": f"other_{number}", "image": f"/data/other_{number}.jpg"}
    assert mine.main(import_of(tmp_path, keys, tasks)) == 2
    said = capsys.readouterr().err
    assert f"holds {len(tasks)} images, and none is mined here, such as '/data/other_0.jpg'" in said


def test_what_was_looked_at_and_is_as_it_was_is_told_from_what_nobody_has_looked_at(
    labelled, tmp_path, capsys
):
    keys, tasks = labelled
    for task in tasks[:2]:
        task["annotations"] = [{"result": json.loads(json.dumps(task["predictions"][0]["result"]))}]
    text = "Texture of what a person has written about it, plain and clear"
    tasks[0]["annotations"][0]["result"][1]["value"]["text"] = [text]
    capsys.readouterr()
    assert mine.main(import_of(tmp_path, keys, tasks)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "1 images corrected; `mine.py run` takes them from here",
        "1 unchanged",
        f"{len(tasks) - 2} that nobody has looked at",
    ]

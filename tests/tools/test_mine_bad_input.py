"""Input that is wrong, through tools/mine.py: each has its message and its exit status."""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from miner.endpoints import GOOD, Endpoint, answer_of, serving
from miner_toy import write_ade_toy, write_textured_toy
from PIL import Image
from scipy.io import savemat

from detecture.data.validate import check_dataset
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
    assert "1 image failed" in capsys.readouterr().out
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
    for name in ("d.gif", "e.GIF", "f.psd", "g.jxl", "h.jp2", "notes.txt", ".hidden.gif"):
        (root / "images" / name).write_bytes(b"anything")
    keys = keys_of("folder", root, tmp_path / "out")
    assert mine.main(["score" if labels else "run", "--dry-run", *keys]) == 0
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "not read" in line]
    start = f"{root}/images: 5 files are images of a kind that is not read (2 .gif, "
    assert start + "1 .jp2, 1 .jxl, 1 .psd), such as " in said
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


# ---- files of a source ---------------------------------------------------------------------------

IMAGE = "images/training/ADE_train_00000002.jpg"
LABEL_MAP = "annotations/training/ADE_train_00000002.png"


def cut(share):
    """A change that cuts a file down to a share of it."""

    def change(path):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])

    return change


def replaced(old, new):
    """A change that puts a text in the place of another one."""
    return lambda path: path.write_text(path.read_text().replace(old, new))


def half_as_high(path):
    labels = np.asarray(Image.open(path))
    Image.fromarray(labels[: len(labels) // 2]).save(path)


def in_another_encoding(encoding):
    return lambda path: path.write_bytes(path.read_text().replace("grass", "gräs").encode(encoding))


@pytest.mark.parametrize(
    ("name", "change", "status", "text"),
    [
        (LABEL_MAP, half_as_high, 1, "the annotation is 32 x 96 and the image 64 x 96"),
        (LABEL_MAP, cut(0.5), 1, f"{LABEL_MAP}: cannot be decoded"),
        (LABEL_MAP, cut(0), 1, f"{LABEL_MAP}: is empty (0 bytes); replace the file"),
        (LABEL_MAP, Path.unlink, 0, f"1 image has no annotation, such as {IMAGE}; left out"),
        (IMAGE, cut(0.05), 1, f"{IMAGE}: cannot be decoded, it is truncated"),
        (IMAGE, cut(0.6), 1, f"{IMAGE}: cannot be decoded, it is truncated"),
        (IMAGE, cut(0), 1, f"{IMAGE}: is empty (0 bytes); replace the file"),
        (IMAGE, lambda path: path.write_text("no image"), 1, f"{IMAGE}: is no image in one of"),
        (TABLE, Path.unlink, 0, f"{TABLE} is missing; the names of the classes are those"),
        (TABLE, cut(0), 2, f"{TABLE}: names no class; take it from the release anew"),
        (TABLE, in_another_encoding("utf-16"), 2, f"{TABLE}: cannot be read (it is UTF-16)"),
        (TABLE, in_another_encoding("latin-1"), 2, "perhaps Latin-1); save it as UTF-8"),
        (TABLE, replaced("\twater", "\twall"), 0, "the classes 1 and 22 are both called 'wall'"),
        (TABLE, replaced("22 \t", "1\t"), 2, f"{TABLE}: line 23 names class 1 again"),
        (TABLE, replaced("22 \t", "²\t"), 2, f"{TABLE}: line 23 is '²"),
        (TABLE, replaced("22 \t", "9999999999\t"), 2, f"{TABLE}: line 23 is '9999999999"),
        (TABLE, replaced("Idx\tRatio\tTrain\tVal\tName\n", ""), 0, "export    4 done now; 4 ok"),
    ],
)
def test_a_file_of_ade20k_that_is_no_good(ade, tmp_path, capsys, name, change, status, text):
    change(ade / name)
    assert mine.main(["run", *keys_of("ade20k", ade, tmp_path / "out")]) == status
    said = said_by(capsys)
    assert text in said and said.count(text) == 1
    if status != 2:
        left = 4 if name == TABLE else 3
        assert f"export    {left} done now; {left} ok" in said


def said_by(capsys):
    found = capsys.readouterr()
    assert "Traceback" not in found.out + found.err
    return found.out + found.err


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        ("", 2, "cannot be read as JSON"),
        ("null", 2, "must be a list of names"),
        ("[1, 2]", 2, "must be a list of names"),
        ('{"²": "grass"}', 2, "must be a list of names"),
        ('{"99999999999999999999": "grass"}', 2, "with numbers up to 65535"),
        ('["grass", " "]', 1, "class 2 of"),
        ('["grass", "grass"]', 0, "the classes 1 and 2 are both called 'grass'"),
    ],
)
def test_a_classes_json_that_is_no_good(tmp_path, capsys, content, status, text):
    root = write_own(tmp_path / "own")
    (root / "classes.json").write_text(content)
    assert mine.main(["run", *keys_of("folder", root, tmp_path / "out")]) == status
    said = said_by(capsys)
    assert text in said and str(root / "classes.json") in said


def test_variants_need_no_mapping_file_and_some_have_no_original(ade, tmp_path, capsys):
    textured = write_textured_toy(tmp_path, ade)
    mapping = {"missing.jpg": {"base_ade20k_id": "ADE_train_00000009", "degree": 0.3}}
    (textured / "image_mapping.json").write_text(json.dumps(mapping))
    (ade / LABEL_MAP).unlink()
    more = ["MINER.SOURCE.ANNOTATION_ROOT", str(ade)]
    assert mine.main(["run", *keys_of("textured_ade20k", textured, tmp_path / "out", *more)]) == 0
    said = said_by(capsys)
    assert "export    6 done now; 6 ok" in said
    name = "ADE_train_00000002_textured_degree0.0.jpg"
    assert f"3 images have no annotation in {ade}, such as {name}; left out" in said


def test_images_of_other_sources_without_annotations_are_counted(tmp_path, capsys):
    for name in ("bsds500", "rwtd"):
        folder = tmp_path / name / "images" / ("train" if name == "bsds500" else "")
        folder.mkdir(parents=True)
        for stem in ("1", "2"):
            Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / f"{stem}.jpg")
    truth = np.empty((1, 1), object)
    truth[0, 0] = {"Segmentation": np.ones((40, 60), np.uint16)}
    (tmp_path / "bsds500/groundTruth/train").mkdir(parents=True)
    savemat(tmp_path / "bsds500/groundTruth/train/1.mat", {"groundTruth": truth})
    (tmp_path / "rwtd/labels").mkdir()
    Image.fromarray(np.zeros((40, 60), np.uint8)).save(tmp_path / "rwtd/labels/1.png")
    for name, path in (("bsds500", "images/train/2.jpg"), ("rwtd", "images/2.jpg")):
        more = ["MINER.SOURCE.NAME", name, "MINER.SOURCE.PARTS", "()"]
        keys = keys_of("base_miner", tmp_path / name, tmp_path / "out" / name, *more)
        assert mine.main(["score", *keys]) == 0
        assert f", such as {path}; left out" in said_by(capsys)


# ---- names ---------------------------------------------------------------------------------------

NAMES = ("a:b", "a b", "  ", "süß", "日本", "a#b", "a%b", "a%20b", "-lead", "x" * 200, "q?*[z]")
NAMES += ("dir: #%/-in", "a'b\"c", "new\nline", "back\\slash")


def test_names_that_are_odd_are_mined_and_give_a_clean_data_set(tmp_path, capsys):
    root = write_own(tmp_path / "own: ü #%20 -x", names=NAMES)
    output = tmp_path / "-out: ü #%20 x"
    formats = ["MINER.EXPORT.FORMATS", "('coco', 'label_studio', 'cvat', 'webdataset')"]
    assert mine.main(["run", *keys_of("folder", root, output, *formats)]) == 0
    assert f"export    {len(NAMES)} done now; {len(NAMES)} ok" in said_by(capsys)
    dataset = output / "export/ADE20K_textured_images"
    entries = 0
    for path in dataset.glob("*_metadata.json"):
        report = check_dataset(path.stem, str(path), str(dataset), max_pixels=10**8)
        assert report.ok and not report.findings, report.findings
        entries += len(json.loads(path.read_text()))
    assert entries == len(NAMES)
    assert mine.main(["review", *keys_of("folder", root, output)]) == 0


# ---- folders and keys ----------------------------------------------------------------------------


def file_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's")
    return path


@pytest.mark.parametrize("command", ["run", "status", "review", "score"])
def test_an_output_folder_that_is_a_file_or_below_one(ade, tmp_path, capsys, command):
    path = file_at(tmp_path / "file")
    assert mine.main([command, *keys_of("ade20k", ade, path)]) == 2
    assert f"OUTPUT_DIR {path}: {path} is a file; name another folder" in said_by(capsys)
    assert path.read_text() == "somebody's"
    assert mine.main(["run", *keys_of("ade20k", ade, path / "out")]) == 2
    assert f"OUTPUT_DIR {path}/out: {path} is a file; name another folder" in said_by(capsys)


@pytest.mark.parametrize(
    ("name", "is_folder", "text"),
    [
        ("journals/score.jsonl", True, "journals/score.jsonl: cannot be read (Is a directory)"),
        ("journals", False, ".jsonl: cannot be read (Not a directory)"),
        ("config.yaml", True, "config.yaml: Is a directory; mend that"),
        ("export", False, "cannot be written (Not a directory); move it away"),
        ("export/ADE20K_textured_images/own.txt", False, "holds no data set of the miner"),
    ],
)
def test_what_is_in_the_way_in_the_folder_of_the_mine(ade, tmp_path, capsys, name, is_folder, text):
    path = tmp_path / "out" / name
    path.mkdir(parents=True) if is_folder else file_at(path)
    assert mine.main(["run", *keys_of("ade20k", ade, tmp_path / "out")]) == 2
    assert text in said_by(capsys)
    assert path.exists()


@pytest.mark.parametrize("what", ["missing", "file", "empty", ""])
@pytest.mark.parametrize("config", ["ade20k", "folder"])
def test_a_root_that_is_none(tmp_path, capsys, config, what):
    file_at(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    root = tmp_path / what if what else ""
    assert mine.main(["run", *keys_of(config, root, tmp_path / "out")]) == 2
    said = said_by(capsys)
    assert (f"{root}: holds no images" if what == "empty" else "MINER.SOURCE.ROOT '") in said


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["MINER.SOURCE.NAME", "imagenet"], "no such source; there are ade20k"),
        (["MINER.SOURCE.ROOTS", "x"], "unknown key MINER.SOURCE.ROOTS; did you mean"),
        (["MINER.EXTRACT.MIN_REGIONS", "two"], "MINER.EXTRACT.MIN_REGIONS must be of type int"),
        (["MINER.RUNNING.WORKERS", "0"], "MINER.RUNNING.WORKERS is 0; it must be at least 1"),
        (["MINER.SOURCE.PARTS", "train"], "write it as ('train',)"),
        (["MINER.SOURCE.DEGREES", "('a',)"], "MINER.SOURCE.DEGREES: 'a' is no number"),
        (["MINER.SOURCE.DEGREES", "(True,)"], "MINER.SOURCE.DEGREES: True is no number"),
        (["MINER.EXPAND.DEGREES", "(0.5, [])"], "MINER.EXPAND.DEGREES: [] is no number"),
        (["MINER.EXPAND.DEGREES", "(1e999,)"], "MINER.EXPAND.DEGREES"),
        (["MINER.SELECT.BY", "chance"], "use one of score, all, picked"),
        (["OUTPUT_DIR"], "overrides are pairs of KEY VALUE"),
        (["--config-file", "nothing.yaml"], "nothing.yaml: no such config file"),
        (["--limit", "-1"], "--limit must be 0 or more"),
    ],
)
def test_a_key_or_an_option_that_is_wrong(ade, tmp_path, capsys, more, text):
    assert mine.main(["run", *keys_of("ade20k", ade, tmp_path / "out", *more)]) == 2
    assert text in said_by(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("more", [["--limit", "abc"], ["--engine", "slurm"], ["--nothing"]])
def test_an_option_that_is_none(ade, tmp_path, capsys, more):
    with pytest.raises(SystemExit) as ended:
        mine.main(["run", *keys_of("ade20k", ade, tmp_path / "out"), *more])
    assert ended.value.code == 2 and more[-1] in said_by(capsys)


@pytest.mark.parametrize("stage", ["extract", "describe", "validate", "look", "split", "export"])
def test_a_stage_before_those_that_it_needs(ade, tmp_path, capsys, stage):
    assert mine.main([stage, *keys_of("ade20k", ade, tmp_path / "out")]) == 2
    assert f"stage {stage}: stage score has no results" in said_by(capsys)


def test_lines_of_a_journal_that_are_broken_are_told_and_done_again(ade, tmp_path, capsys):
    keys = keys_of("ade20k", ade, tmp_path / "out")
    assert mine.main(["run", *keys]) == 0
    journal = tmp_path / "out/journals/score.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1:3] = [b'{"broken\n', lines[2].replace(b'"ok"', b'"OK"')]
    journal.write_bytes(b"".join(lines) + b'{"half a li')
    said_by(capsys)
    assert mine.main(["status", *keys]) == 0
    assert "score     2 of 4 done (2 ok); 2 damaged lines" in said_by(capsys)
    assert mine.main(["run", *keys]) == 0
    said = said_by(capsys)
    assert f"{journal}: 2 damaged lines are in score.damaged-1.jsonl now" in said
    assert "score     2 done now; 4 ok" in said and "export    0 done now; 4 ok" in said


def test_a_disk_that_fills_up(ade, tmp_path, capsys, monkeypatch):
    """The disk says so itself here; test_mine.py has a limit on the sizes of files."""
    real, left = os.write, [2]

    def write(descriptor, data):
        if b'"hash"' in bytes(data[:4096]):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    keys = keys_of("ade20k", ade, tmp_path / "out")
    assert mine.main(["run", *keys]) == 2
    said = said_by(capsys)
    assert "score.jsonl: cannot be written (No space left on device). Make room" in said
    monkeypatch.undo()
    assert mine.main(["run", *keys]) == 0
    assert "score     2 done now; 4 ok" in said_by(capsys)

"""Images that are mined from an object store: moto's server, and a file system in memory."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from miner_toy import use_toy_stages, write_ade_toy, write_textured_toy
from PIL import Image

from detecture.config import make_config
from detecture.errors import ImageError, MinerError
from detecture.miner.running import Mine
from detecture.miner.sources import MINER_SOURCE_REGISTRY
from detecture.miner.sources.mirror import Mirror
from detecture.miner.sources.remote import TABLES
from detecture.miner.stage import Context
from tools import mine as mine_tool

fsspec = pytest.importorskip("fsspec", reason='a store needs fsspec: pip install -e ".[store]"')

REPO = Path(__file__).resolve().parents[2]
REAL = ["MINER.DESCRIBE.OFFLINE_MODEL", "False", "MINER.SELECT.BY", "all"]


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=8, val=2)


@pytest.fixture
def s3(endpoint):
    """A file system with an empty bucket."""
    found = fsspec.filesystem("s3", use_listings_cache=False)
    if found.exists("images-here"):
        found.rm("images-here", recursive=True)
    found.mkdir("images-here")
    return found


@pytest.fixture
def memory():
    """A file system in memory, empty."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()


def uploaded(folder, system, place):
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        system.pipe_file(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def config_of(root, output, *more, name="ade20k"):
    keys = ["MINER.SOURCE.NAME", name, "MINER.SOURCE.ROOT", str(root), "OUTPUT_DIR", str(output)]
    return make_config(None, [*keys, *more])


def mine_of(root, output, *more, name="ade20k", **settings):
    return Mine.of(config_of(root, output, *more, name=name), **settings)


def content_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def fetched(output):
    """Names of the files that are here, and not as placeholders."""
    found = [path for path in (output / "source").glob("*/**/*") if path.is_file()]
    return sorted(path.name for path in found if path.stat().st_size)


def done(outcomes):
    return {outcome.stage: outcome.done for outcome in outcomes}


@pytest.fixture
def in_bucket(ade, s3):
    uploaded(ade, s3, "images-here/ADEChallengeData2016")
    return "s3://images-here/ADEChallengeData2016"


# ---- from end to end -----------------------------------------------------------------------------


def test_a_bucket_gives_what_the_disk_gives_byte_for_byte(ade, in_bucket, tmp_path):
    mine_of(ade, tmp_path / "disk", *REAL).run()
    one = tmp_path / "one"
    outcomes = mine_of(in_bucket, one, *REAL).run()
    assert all(outcome.failed == 0 for outcome in outcomes)
    exported = content_of(tmp_path / "disk/export")
    assert len(exported) > 20 and content_of(one / "export") == exported
    # Without the copies, and without a run in between.
    shutil.rmtree(one / "source")
    assert set(done(mine_of(in_bucket, one, *REAL).run()).values()) == {0}
    assert fetched(one) == ["objectInfo150.txt"]
    assert content_of(one / "export") == exported
    # On another machine, which has the journals.
    shutil.copytree(one, tmp_path / "two", ignore=shutil.ignore_patterns("source"))
    assert set(done(mine_of(in_bucket, tmp_path / "two", *REAL).run()).values()) == {0}


@pytest.mark.slow
def test_several_processes_fetch(ade, in_bucket, tmp_path):
    mine_of(ade, tmp_path / "disk", *REAL).run()
    more = ["MINER.RUNNING.WORKERS", "2", "MINER.RUNNING.STORE", "s3://images-here/mine"]
    outcomes = mine_of(in_bucket, tmp_path / "out", *REAL, *more).run()
    assert all(outcome.failed == 0 for outcome in outcomes)
    assert content_of(tmp_path / "out/export") == content_of(tmp_path / "disk/export")


def test_what_is_needed_is_fetched_and_nothing_else(in_bucket, tmp_path, monkeypatch):
    use_toy_stages(monkeypatch)
    output = tmp_path / "out"
    mine = mine_of(in_bucket, output, limit=2)
    assert fetched(output) == ["objectInfo150.txt"]
    mine.run(["score"])
    annotations = ["ADE_train_00000001.png", "ADE_train_00000002.png"]
    assert fetched(output) == [*annotations, "objectInfo150.txt"]
    mine_of(in_bucket, output, "MINER.SELECT.BY", "all", limit=2).run()
    images = [name.replace(".png", ".jpg") for name in annotations]
    assert fetched(output) == sorted([*annotations, *images, "objectInfo150.txt"])


def test_a_changed_object_is_mined_again_and_no_other(ade, in_bucket, s3, tmp_path, monkeypatch):
    use_toy_stages(monkeypatch)
    output, more = tmp_path / "out", ["MINER.SELECT.BY", "all"]
    mine_of(in_bucket, output, *more).run()
    name = "annotations/training/ADE_train_00000003.png"
    flipped = np.asarray(Image.open(ade / name))[:, ::-1]
    stream = io.BytesIO()
    Image.fromarray(flipped).save(stream, format="PNG")
    s3.pipe_file(f"images-here/ADEChallengeData2016/{name}", stream.getvalue())
    s3.rm_file("images-here/ADEChallengeData2016/annotations/training/ADE_train_00000004.png")
    mine = mine_of(in_bucket, output, *more)
    assert "ADE_train_00000004" not in {item.item_id for item in mine.items}
    (changed,) = (item for item in mine.items if item.item_id == "ADE_train_00000003")
    outcomes = done(mine.run())
    assert outcomes["score"] == outcomes["extract"] == 1
    assert (mine.source.read_labels(changed) == flipped).all()


def test_a_dry_run_and_a_review(in_bucket, tmp_path, capsys):
    output = tmp_path / "out"
    config = str(REPO / "configs/miner/ade20k.yaml")
    command = ["--config-file", config, "MINER.SOURCE.ROOT", in_bucket, "OUTPUT_DIR", str(output)]
    command += REAL
    assert mine_tool.main(["run", "--dry-run", "--limit", "3", *command]) == 0
    assert "3 images of ade20k" in capsys.readouterr().out and not output.exists()
    assert mine_tool.main(["score", *command, "--limit", "3"]) == 0
    assert not [name for name in fetched(output) if name.endswith(".jpg")]
    assert mine_tool.main(["review", *command, "--limit", "3", "MINER.REVIEW.LIMIT", "1"]) == 0
    assert len([name for name in fetched(output) if name.endswith(".jpg")]) == 1


def test_copies_go_where_a_key_says(in_bucket, tmp_path, monkeypatch):
    use_toy_stages(monkeypatch)
    monkeypatch.setenv("SCRATCH", str(tmp_path / "scratch"))
    mine = mine_of(in_bucket, tmp_path / "out", "MINER.SOURCE.COPIES", "$SCRATCH/copies", limit=1)
    mine.run(["score"])
    assert not (tmp_path / "out/source").exists()
    assert list((tmp_path / "scratch/copies").glob("*/annotations/training/*1.png"))


# ---- other sources -------------------------------------------------------------------------------


def read_all(source):
    """Images and labels of a source by the ids of its items."""
    return {
        item.item_id: (source.read_image(item), source.read_labels(item)) for item in source.items()
    }


def require_same(local, remote):
    there, here = read_all(remote), read_all(local)
    assert there.keys() == here.keys() and there
    for item_id, (image, labels) in there.items():
        np.testing.assert_array_equal(image, here[item_id][0])
        np.testing.assert_array_equal(labels, here[item_id][1])


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_rwtd(root, seed=0):
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        left = np.zeros((12, 16), np.uint8)
        left[:, : 6 if name == "a" else 9] = 255
        save(rng.integers(0, 255, (12, 16, 3), np.uint8), root / f"images/{name}.jpg")
        save(left, root / f"textures_mask/{name}_mask_0.png")
        save(255 - left, root / f"textures_mask/{name}_mask_1.png")


def write_labelled_folder(root):
    rng = np.random.default_rng(1)
    for name in ("train/a", "val/b"):
        save(rng.integers(0, 255, (12, 16, 3), np.uint8), root / f"images/{name}.png")
        save(rng.integers(0, 3, (12, 16), np.uint8), root / f"labels/{name}.png")
    (root / "classes.json").write_text('["sand", "grass"]')


def write_coco(root):
    rng = np.random.default_rng(2)
    colours = np.zeros((12, 16, 3), np.uint8)
    colours[:, 8:, 0] = 1
    save(rng.integers(0, 255, (12, 16, 3), np.uint8), root / "val2017/000000000001.jpg")
    save(colours, root / "annotations/panoptic_val2017/000000000001.png")
    content = {
        "categories": [{"id": 5, "name": "sand", "isthing": 0}],
        "annotations": [
            {"file_name": "000000000001.png", "segments_info": [{"id": 1, "category_id": 5}]}
        ],
    }
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))


def write_sa1b(root, packed):
    rng = np.random.default_rng(3)
    files = {}
    for number in (1, 2):
        image = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8))
        stream = io.BytesIO()
        image.save(stream, format="JPEG")
        segment = {
            "area": 96,
            "bbox": [0, 0, 8, 12],
            "segmentation": {"size": [12, 16], "counts": [0, 96, 96]},
        }
        content = {"image": {"height": 12, "width": 16}, "annotations": [segment]}
        files[f"sa_{number}.jpg"] = stream.getvalue()
        files[f"sa_{number}.json"] = json.dumps(content).encode()
    root.mkdir()
    if not packed:
        for name, data in files.items():
            (root / name).write_bytes(data)
        return
    with tarfile.open(root / "sa_000000.tar", "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_mats(root, name):
    from scipy.io import savemat

    rng = np.random.default_rng(4)
    image = rng.integers(0, 255, (12, 16, 3), np.uint8)
    labels = rng.integers(1, 4, (12, 16)).astype(np.uint16)
    if name == "pascal_context":
        inner = root / "VOCdevkit/VOC2010"
        save(image, inner / "JPEGImages/2008_1.jpg")
        (inner / "trainval").mkdir()
        savemat(inner / "trainval/2008_1.mat", {"LabelMap": labels})
    else:
        save(image, root / "data/images/test/1.jpg")
        (root / "data/groundTruth/test").mkdir(parents=True)
        cell = np.empty((1, 1), object)
        cell[0, 0] = {"Segmentation": labels}
        savemat(root / "data/groundTruth/test/1.mat", {"groundTruth": cell})


WRITERS = {
    "rwtd": write_rwtd,
    "folder": write_labelled_folder,
    "coco": write_coco,
    "sa1b": lambda root: write_sa1b(root, packed=True),
    "sa1b unpacked": lambda root: write_sa1b(root, packed=False),
    "pascal_context": lambda root: write_mats(root, "pascal_context"),
    "bsds500": lambda root: write_mats(root, "bsds500"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_source_reads_the_same_from_a_store(kind, memory, tmp_path):
    WRITERS[kind](tmp_path / "files")
    uploaded(tmp_path / "files", memory, "/there/files")
    name = kind.split()[0]
    local = Context(config_of(tmp_path / "files", tmp_path / "a", name=name), tmp_path / "a")
    remote = Context(config_of("memory://there/files", tmp_path / "b", name=name), tmp_path / "b")
    assert remote.source.items() == local.source.items()
    assert dict(remote.source.class_names) == dict(local.source.class_names)
    require_same(local.source, remote.source)
    for item in local.source.items():
        assert remote.image(item).read_bytes() == local.image(item).read_bytes()


def test_every_source_says_which_files_it_reads_at_once():
    assert {name for name, _ in MINER_SOURCE_REGISTRY} == TABLES.keys()


def test_variants_and_their_annotations_may_lie_in_two_stores(ade, memory, tmp_path):
    textured = write_textured_toy(tmp_path, ade)
    uploaded(ade, memory, "/one/ade")
    uploaded(textured, memory, "/two/textured")
    more = ["MINER.SOURCE.DEGREES", "(0.0,)", *REAL]
    roots = {
        "disk": (textured, ade),
        "stores": ("memory://two/textured", "memory://one/ade"),
        "mixed": (textured, "memory://one/ade"),
    }
    for name, (root, annotations) in roots.items():
        keys = ["MINER.SOURCE.ANNOTATION_ROOT", str(annotations), *more]
        outcomes = mine_of(root, tmp_path / name, *keys, name="textured_ade20k", limit=3).run()
        assert all(outcome.failed == 0 for outcome in outcomes)
        assert done(outcomes)["expand"]
    exported = content_of(tmp_path / "disk/export")
    assert any("degree1.0" in name for name in exported)
    assert content_of(tmp_path / "stores/export") == exported
    assert content_of(tmp_path / "mixed/export") == exported


def test_images_without_labels(memory, tmp_path):
    rng = np.random.default_rng(5)
    for number in range(3):
        save(rng.integers(0, 255, (12, 16, 3), np.uint8), tmp_path / f"photos/in/{number}.png")
    (tmp_path / "photos/notes.txt").write_text("mine")
    uploaded(tmp_path / "photos", memory, "/there/photos")
    context = Context(config_of("memory://there/photos", tmp_path, name="folder"), tmp_path)
    items = context.source.items()
    assert context.source.KIND == "images" and len(items) == 3
    assert context.image(items[1]).read_bytes() == (tmp_path / "photos/in/1.png").read_bytes()
    assert fetched(tmp_path) == ["1.png"]
    np.testing.assert_array_equal(
        context.source.read_image(items[0]), np.asarray(Image.open(tmp_path / "photos/in/0.png"))
    )
    assert [context.fingerprint(item) for item in items] == [
        Context(context.cfg, tmp_path / "other").fingerprint(item) for item in items
    ]


def test_another_process_of_the_run_lists_nothing_anew(memory, tmp_path, monkeypatch):
    write_labelled_folder(tmp_path / "files")
    uploaded(tmp_path / "files", memory, "/there/files")
    context = Context(config_of("memory://there/files", tmp_path, name="folder"), tmp_path)
    context.source.items()
    calls = []
    listed = Mirror._listed
    monkeypatch.setattr(Mirror, "_listed", lambda self: calls.append(self) or listed(self))
    again = context.elsewhere
    assert again.source.items() == context.source.items() and not calls
    assert again.fingerprint(again.source.items()[0]) == context.fingerprint(
        context.source.items()[0]
    )
    # On a machine that has no copies, or has others.
    elsewhere = Context(context.cfg, tmp_path / "other", context.remote.digest)
    assert elsewhere.source.items() == context.source.items() and len(calls) == 1


# ---- what goes wrong -----------------------------------------------------------------------------


def test_a_killed_fetch_or_layout_leaves_nothing_half(memory, tmp_path, monkeypatch):
    write_labelled_folder(tmp_path / "files")
    uploaded(tmp_path / "files", memory, "/there/files")
    config = config_of("memory://there/files", tmp_path, name="folder")
    context = Context(config, tmp_path)
    item = context.source.items()[0]
    path = context.image(item)

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    # Everything there is new now, and the run dies as it lays that out.
    memory.pipe_file("/there/files/images/train/a.png", b"changed")
    memory.pipe_file("/there/files/images/train/c.png", b"new")
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_fetch_tables", killed)
        with pytest.raises(Killed):
            Context(config, tmp_path).source.items()
    assert path.read_bytes() == b""
    with pytest.raises(ImageError):
        Context(config, tmp_path).source.read_image(item)
    assert path.read_bytes() == b"changed"
    # A note that is damaged: what is there is not trusted.
    (note,) = (tmp_path / "source").glob("*.jsonl")
    note.write_text("{")
    path.write_bytes(b"somebody's")
    (path.parent / "ghost.png").write_bytes(b"somebody's")
    context = Context(config, tmp_path)
    assert "ghost" not in " ".join(item.image for item in context.source.items())
    assert path.read_bytes() == b"" and context.image(item).read_bytes() == b"changed"


def test_an_object_that_goes_during_a_run_fails_alone(in_bucket, s3, tmp_path):
    mine = mine_of(in_bucket, tmp_path / "out", *REAL)
    assert len(mine.items) == 10
    inner = "images-here/ADEChallengeData2016"
    s3.rm_file(f"{inner}/annotations/training/ADE_train_00000001.png")
    s3.rm_file(f"{inner}/images/training/ADE_train_00000002.jpg")
    outcomes = {outcome.stage: outcome for outcome in mine.run()}
    assert outcomes["score"].counts == {"ok": 9, "unreadable": 1}
    results = dict(mine.journal("score").results())
    reason = results["ADE_train_00000001"]["reason"]
    assert reason.startswith(f"s3://{inner}/annotations/training/ADE_train_00000001.png: is not")
    assert outcomes["extract"].failed == 1
    failed = mine.journal("extract").get("ADE_train_00000002")
    assert "ADE_train_00000002.jpg: is not there any more" in failed["reason"]
    assert outcomes["export"].counts["ok"] >= 5


def test_a_store_that_cannot_be_read_fails_and_is_tried_again(in_bucket, tmp_path, monkeypatch):
    use_toy_stages(monkeypatch)
    mine = mine_of(in_bucket, tmp_path / "out", limit=2)
    system = mine.context.remote._mirrors[0]._fs

    def refused(*_, **__):
        raise PermissionError("Access Denied")

    with monkeypatch.context() as patch:
        patch.setattr(system, "cat_file", refused)
        (outcome,) = mine.run(["score"])
    assert outcome.failed == 2
    reason = mine.journal("score").get("ADE_train_00000001")["reason"]
    assert "PermissionError: Access Denied" in reason and "your credentials" in reason
    again = mine_of(in_bucket, tmp_path / "out", limit=2, retry_failed=True)
    assert [outcome.failed for outcome in again.run(["score"])] == [0]


@pytest.mark.parametrize("key", ["MINER.SOURCE.ROOT", "MINER.RUNNING.STORE"])
def test_an_unknown_protocol_is_told_with_a_remedy(ade, tmp_path, key):
    address = "foo://bucket/images"
    with pytest.raises(MinerError) as caught:
        mine_of(ade, tmp_path / "out", key, address).run()
    text = str(caught.value)
    assert text.startswith(f"{key} {address}: cannot be opened")
    assert "s3://bucket/folder" in text and 'pip install -e ".[store]"' in text


def test_a_bucket_that_is_not_there_or_empty(s3, tmp_path):
    with pytest.raises(MinerError, match=r"MINER\.SOURCE\.ROOT s3://no-such-bucket/x: .*bucket"):
        mine_of("s3://no-such-bucket/x", tmp_path / "out")
    with pytest.raises(MinerError, match=r"MINER\.SOURCE\.ROOT s3://images-here/x: holds no files"):
        mine_of("s3://images-here/x", tmp_path / "out")
    s3.pipe_file("images-here/x/readme.txt", b"nothing")
    with pytest.raises(MinerError, match=r"s3://images-here/x: holds no images"):
        assert mine_of("s3://images-here/x", tmp_path / "out").items
    assert not (tmp_path / "out/journals").exists()


def test_credentials_that_are_wrong(in_bucket, s3, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(s3, "find", refused)
    with pytest.raises(MinerError, match=r"MINER\.SOURCE\.ROOT s3://.*Forbidden.*your credentials"):
        mine_of(in_bucket, tmp_path / "out")


def test_the_mine_is_not_kept_among_the_images(in_bucket, tmp_path):
    with pytest.raises(MinerError, match=r"MINER\.RUNNING\.STORE .* lies in MINER\.SOURCE\.ROOT"):
        mine_of(in_bucket, tmp_path / "out", "MINER.RUNNING.STORE", f"{in_bucket}/mine")


def test_names_that_no_folder_can_hold_are_left_out(memory, tmp_path, caplog):
    rng = np.random.default_rng(6)
    save(rng.integers(0, 255, (12, 16, 3), np.uint8), tmp_path / "files/fine.png")
    content = (tmp_path / "files/fine.png").read_bytes()
    for name in ("fine.png", "a.png", "a.png/b.png", "../x.png", f"{'n' * 300}.png", ".hidden.png"):
        memory.store[f"/there/{name}"] = memory_file(memory, content)
    with caplog.at_level("WARNING"):
        context = Context(config_of("memory://there", tmp_path, name="folder"), tmp_path)
        names = [item.image for item in context.source.items()]
    assert names == ["a.png/b.png", "fine.png"]
    assert "3 files have names that no folder can hold" in caplog.text
    assert not (tmp_path / "source/x.png").exists()


def memory_file(system, content):
    from fsspec.implementations.memory import MemoryFile

    return MemoryFile(system, "", content)


def test_an_address_of_this_machine_is_a_folder(ade, tmp_path):
    context = Context(config_of(f"file://{ade}", tmp_path / "out"), tmp_path / "out")
    assert context.source.root == str(ade) and len(context.source.items()) == 10
    assert not (tmp_path / "out").exists()


def test_no_room_for_the_copies(memory, tmp_path):
    write_labelled_folder(tmp_path / "files")
    uploaded(tmp_path / "files", memory, "/there/files")
    (tmp_path / "closed").write_text("a file")
    more = ["MINER.SOURCE.COPIES", str(tmp_path / "closed")]
    with pytest.raises(MinerError, match=r"cannot be written to .*MINER\.SOURCE\.COPIES"):
        mine_of("memory://there/files", tmp_path / "out", *more, name="folder")

"""Every reader of a foreign file against all that such a file may hold.

What comes out is the right result or an error of our own, which names the file and fits on a page;
never a traceback of a library's, a file that is read for ever, or memory without end.
"""

import os
import re
import resource
import shutil
import signal

import pytest
import torch

from detecture.checkpoint.torch_file import read_torch_file
from detecture.checkpoint.weights_file import read_header, read_weights
from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.texture_json import load_texture_json
from detecture.data.formats.coco_rle import read_coco
from detecture.errors import (
    MOST_ERROR_BYTES,
    CheckpointError,
    ConfigError,
    DatasetError,
    DetectureError,
)
from tests.untrusted_inputs import FILES, LOADERS, VALUES, as_json, changed

_MOST_SECONDS = 30  # for one file, on a machine that has much else to do
_MOST_MEMORY = 600 << 10  # KiB, for all files of one reader
_MOST_PLACES = 12
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Their errors name a folder, a record, another file than the one that was changed, or a key.
_UNNAMED = {"name of a base", "pointer", "panoptic", "FiftyOne", "protocol"}
_BY_KEY = re.compile(r"^[A-Z][A-Z0-9_]+(\.[A-Z0-9_]+)*[ :]|_BASE_")


class TooSlow(BaseException):
    """The alarm rang."""


def ring(*_):
    raise TooSlow


def problem_of(name, path, caplog):
    """What is wrong with how a reader takes a file; empty where nothing is."""
    told, said = "", None
    caplog.clear()
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(_MOST_SECONDS)
    try:
        said = LOADERS[name].read(path)
    except DetectureError as error:
        told = str(error)
        is_named = path.name in told or name.startswith("override") or name in _UNNAMED
        if not is_named and not _BY_KEY.search(told):
            return f"the file is not named: {told[:200]}"
    except TooSlow:
        return f"takes over {_MOST_SECONDS} s"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if _CONTROL.search(told):
        return f"control characters: {told[:200]!r}"
    lines = [record.getMessage() for record in caplog.records]
    for text, most in ((told, 1), (said if isinstance(said, str) else "", 1), ("".join(lines), 4)):
        size = len(text.encode("utf-8", "backslashreplace"))
        if size > most * MOST_ERROR_BYTES:
            return f"{size} bytes are said: {text[:200]}"
    return ""


@pytest.fixture
def assert_taken(tmp_path, caplog):
    """Gives a reader files, one after the other, and asserts that it takes each as it should."""
    known = set(DatasetCatalog.list())

    def run(name, files):
        problems, folder = [], tmp_path / "given"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for label, content in files:
            for inner, beside in {**LOADERS[name].beside, LOADERS[name].name: content}.items():
                (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                (folder / inner).write_bytes(beside)
            if problem := problem_of(name, folder / LOADERS[name].name, caplog):
                problems.append(f"{label}: {problem}")
            for registered in set(DatasetCatalog.list()) - known:
                DatasetCatalog.remove(registered)
                MetadataCatalog.remove(registered)
            shutil.rmtree(folder)
        assert not problems, "\n".join([f"{len(problems)} problems", *problems[:20]])
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < _MOST_MEMORY

    return run


def test_there_are_many():
    assert len(FILES) > 120 and len(VALUES) > 30 and len(LOADERS) > 50


@pytest.mark.parametrize("name", LOADERS)
def test_whole_files(assert_taken, name):
    assert_taken(name, FILES.items())


def changes_of(loader):
    """A sound file with each of its values in turn replaced by each of `VALUES`."""
    for label, value in VALUES.items():
        for place, content in changed(loader.sound, value):
            yield f"{place} = {label}", loader.write(content)


WITH_VALUES = [name for name, loader in LOADERS.items() if loader.sound is not None]


def with_tier(name):
    """Of large files the values are for the slow tests: each makes a file, or has yaml parsed."""
    loader = LOADERS[name]
    is_slow = loader.name.endswith(".yaml") or len(changed(loader.sound, None)) > _MOST_PLACES
    return pytest.param(name, marks=[pytest.mark.slow] if is_slow else [])


@pytest.mark.parametrize("name", map(with_tier, WITH_VALUES))
def test_single_values(assert_taken, name):
    assert_taken(name, changes_of(LOADERS[name]))


@pytest.mark.parametrize("name", WITH_VALUES)
def test_sound_files_are_sound(tmp_path, name):
    """Else what is tried above would be refused for another reason."""
    loader = LOADERS[name]
    for inner, content in {**loader.beside, loader.name: loader.write(loader.sound)}.items():
        (tmp_path / inner).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / inner).write_bytes(content)
    before = set(DatasetCatalog.list())
    if loader.refuses:
        with pytest.raises(DetectureError, match=loader.refuses):
            loader.read(tmp_path / loader.name)
    else:
        loader.read(tmp_path / loader.name)
    for registered in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(registered)
        MetadataCatalog.remove(registered)


# ---- text of an error ------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["x", "\u4e00", "\U0001f600", "\ud800", "\x1b"])
@pytest.mark.parametrize("length", [1, 499, 666, 1999, 2000, 2001, 4000, 500_000])
def test_an_error_fits_on_a_page(letter, length):
    text = str(DetectureError(f"a.yaml: {letter * length}; correct it"))
    assert len(text.encode()) <= MOST_ERROR_BYTES
    assert text.startswith("a.yaml: ") and text.endswith("; correct it")
    assert not _CONTROL.search(text)
    assert ("(cut)" in text) == (length * len(_shown(letter)) + 20 > MOST_ERROR_BYTES)


def _shown(letter):
    shown = f"\\x{ord(letter):02x}" if letter < " " else letter
    return shown.encode("utf-8", "backslashreplace")


def test_lines_and_tabs_of_an_error_stay():
    assert str(DetectureError("a:\n\tb")) == "a:\n\tb"


# ---- configs ---------------------------------------------------------------------------------


def test_bases_that_fan_out_end_soon(tmp_path):
    """Forty files, each of which names the next one twice: 2^40 reads."""
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"_BASE_: [{number + 1}.yaml, {number + 1}.yaml]")
    (tmp_path / "40.yaml").write_text("SEED: 1")
    with pytest.raises(ConfigError, match="leads to more than 100 files"):
        make_config(tmp_path / "0.yaml")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a\0b", "null byte"), ("x" * 3000, "too long"), ("~nosuch/a.yaml", "home"), ("loop", "link")],
)
def test_a_name_that_can_be_no_file(tmp_path, name, reason):
    (tmp_path / "loop").symlink_to("loop")
    given = str(tmp_path / name) if name == "loop" else name
    for read in (
        lambda: make_config(given),
        lambda: make_config(None, ["OUTPUT_DIR", given]),
    ):
        with pytest.raises(ConfigError, match=rf"is no path of a file \(.*{reason}.*correct it"):
            read()
    (tmp_path / "top.yaml").write_bytes(as_json({"_BASE_": name}))
    with pytest.raises(ConfigError, match=r"top\.yaml: _BASE_: .* is no path of a file"):
        make_config(tmp_path / "top.yaml")


@pytest.mark.parametrize(
    "rows",
    [
        "[5]",
        "5",
        "[[]]",
        "[['a', 'b', True, 1]]",
        f"[['a', 'b', {'9' * 400}, 1]]",
        "[['a','b',1,'c']]",
    ],
)
def test_expected_results_that_are_none(rows):
    with pytest.raises(ConfigError, match=r"TEST\.EXPECTED_RESULTS"):
        make_config(None, ["TEST.EXPECTED_RESULTS", rows])


# ---- metadata --------------------------------------------------------------------------------


def metadata(tmp_path, image_path):
    folder = tmp_path / "RWTD"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "textures_mask").mkdir(exist_ok=True)
    for name in ("images/x.png", "textures_mask/x.png"):
        (folder / name).touch()
    textures = [{"description": "sand", "mask_path": "masks/x.png"}]
    entry = {"id": "a", "image_path": image_path, "textures": textures}
    (folder / "metadata.json").write_bytes(as_json([entry]))
    return load_texture_json(folder / "metadata.json", folder)[0]


@pytest.mark.parametrize(
    "path",
    [
        *("images\\x.png", ".\\images\\x.png", "images\\sub\\..\\x.png"),
        *(
            "C:\\data\\RWTD\\images\\x.png",
            "C:/data/RWTD/images/x.png",
            "d:\\elsewhere\\images\\x.png",
        ),
        *(
            "\\\\server\\share\\RWTD\\images\\x.png",
            "C:images\\x.png",
            "\\data\\RWTD\\images/x.png",
        ),
    ],
)
def test_paths_of_windows_are_taken_like_others(tmp_path, path):
    (tmp_path / "RWTD/images/sub").mkdir(parents=True)
    found = metadata(tmp_path, path)["file_name"]
    assert os.path.realpath(found) == str(tmp_path / "RWTD/images/x.png")


@pytest.mark.parametrize("path", ["..\\..\\x.png", "C:\\..\\..\\x.png", "images\\..\\..\\x.png"])
def test_paths_of_windows_stay_in_the_folder(tmp_path, path):
    with pytest.raises(DatasetError, match="leads out of the data set's folder"):
        metadata(tmp_path, path)


def test_a_file_may_have_a_backslash_in_its_name(tmp_path):
    (tmp_path / "RWTD").mkdir()
    (tmp_path / "RWTD/images\\x.png").touch()
    assert metadata(tmp_path, "images\\x.png")["file_name"] == str(tmp_path / "RWTD/images\\x.png")


@pytest.mark.parametrize("path", ["loop", "loop/x.png"])
def test_links_in_a_circle(tmp_path, path):
    (tmp_path / "RWTD/images").mkdir(parents=True)
    for place in ("loop", "images/loop"):
        (tmp_path / "RWTD" / place).symlink_to("loop")
    with pytest.raises(DatasetError, match=r"image_path: path .* cannot be looked for"):
        metadata(tmp_path, path)


@pytest.mark.parametrize("path", ["/" + "a/" * 1500 + "x.png", "a/" * 1500 + "x.png", "~nosuch/x"])
def test_paths_that_are_none(tmp_path, path):
    with pytest.raises(DatasetError, match=r"image_path: .*correct it"):
        metadata(tmp_path, path)


def test_a_path_of_windows_in_cocos_json(tmp_path):
    loader = LOADERS["COCO"]
    (tmp_path / "images/sub").mkdir(parents=True)
    (tmp_path / "images/sub/a.png").touch()
    content = {**loader.sound, "images": [{**loader.sound["images"][0], "file_name": "sub\\a.png"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / loader.name).write_bytes(as_json(content))
    (item,) = read_coco(tmp_path)
    assert item.image_path == tmp_path / "images/sub/a.png"


# ---- checkpoints -----------------------------------------------------------------------------

RESERVING = ["pickle that calls bytearray(10^12)", "torch zip that calls bytearray"]


@pytest.mark.parametrize("name", [*RESERVING, "torch zip, a bomb"])
def test_files_that_take_memory_are_refused_before_torch_sees_them(tmp_path, name, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch has read it"))
    (tmp_path / "a.pth").write_bytes(FILES[name])
    with pytest.raises(CheckpointError, match=r"a\.pth: refused as a checkpoint: .*name another"):
        read_torch_file(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves_is_read(tmp_path, legacy):
    content = {"a": torch.arange(5.0), "b": {"c": [1, "two", None]}, "rng": torch.get_rng_state()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    found = read_torch_file(tmp_path / "a.pth")
    assert torch.equal(found["a"], content["a"]) and found["b"] == content["b"]


def test_a_header_without_its_digest_is_no_sound_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(FILES["safetensors, no digest"])
    with pytest.raises(CheckpointError, match="damaged, its content is not what was written"):
        read_weights(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="its header is none of detecture's"):
        read_header(tmp_path / "a.safetensors")

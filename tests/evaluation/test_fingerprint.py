"""What makes the records of an earlier evaluation stale."""

import os

import pytest

from detecture.config import make_config
from detecture.d2 import CfgNode, get_cfg
from detecture.evaluation import fingerprint
from detecture.evaluation.fingerprint import evaluation_fingerprint


def of(*overrides):
    return evaluation_fingerprint(make_config(None, list(map(str, overrides))), [])


@pytest.mark.parametrize(
    "key",
    [
        *("VLM.CONFIG", "VLM.PROMPTS", "VLM.BASE", "SEGMENTER.CONFIG", "SEGMENTER.BASE"),
        *("DESCRIBE_THEN_SEGMENT.PROMPTS", "SA2VA.PROMPTS"),
    ],
)
def test_a_file_that_the_config_names_counts_with_its_content(tmp_path, key):
    path = tmp_path / "file"
    path.write_text("one")
    before = of(f"MODEL.{key}", path)
    os.utime(path, (1, 1))
    assert of(f"MODEL.{key}", path) == before
    path.write_text("two")
    after = of(f"MODEL.{key}", path)
    assert [name for name in after if after[name] != before[name]] == ["files of the config"]


def test_a_key_that_differs_counts_whoevers_it_is():
    changes = [
        *(["MODEL.MAX_REGIONS", 5], ["INPUT.MAX_PIXELS", 9], ["TEST.COUNT", 2]),
        *(["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 7], ["MODEL.ANCHOR_GENERATOR.OFFSET", 0.5]),
    ]
    hashes = {of(*change)["config"] for change in [[], *changes]}
    assert len(hashes) == len(changes) + 1
    assert of("TEST.EVAL_PERIOD", 3) == of("SOLVER.MAX_ITER", 3) == of()


def test_defaults_of_detectron2_do_not_count(monkeypatch):
    """Another version of it, or lite, has other keys that change nothing."""

    def newer():
        cfg = get_cfg()
        cfg.MODEL.NEWER = CfgNode({"KEY": (1, 2)})
        cfg.MODEL.DEVICE = "of that machine"
        return cfg

    def with_newer(value):
        cfg = make_config(None).clone()
        cfg.defrost()
        cfg.MODEL.NEWER = CfgNode({"KEY": value})
        return evaluation_fingerprint(cfg, [])

    before = of()
    monkeypatch.setattr(fingerprint, "get_cfg", newer)
    assert of() == with_newer([1, 2]) == before
    assert with_newer([1, 3]) != before
    # A device counts, whatever the default of the machine is.
    monkeypatch.setattr(fingerprint, "get_cfg", lambda: make_config(None))
    assert of("MODEL.DEVICE", "cpu")["config"] != of("MODEL.DEVICE", "meta")["config"]


def test_of_large_files_and_folders_size_and_time_count(tmp_path, monkeypatch):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "model.safetensors").write_text("one")
    monkeypatch.setattr(fingerprint, "_HASHED_BYTES", 2)
    for base in (folder, folder / "model.safetensors"):
        before = of("MODEL.SEGMENTER.BASE", base)
        assert of("MODEL.SEGMENTER.BASE", base) == before
        os.utime(folder / "model.safetensors", (1, 1))
        after = of("MODEL.SEGMENTER.BASE", base)
        assert after != before
        os.utime(folder / "model.safetensors")


def test_a_folder_that_is_called_as_a_word_of_the_config_does_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = of("MODEL.VLM.CONFIG", "tiny")
    (tmp_path / "tiny").mkdir()
    assert of("MODEL.VLM.CONFIG", "tiny") == before


def test_what_ships_with_the_package_counts_as_code(tmp_path, monkeypatch):
    for name in ("package.py", "wording.yaml", "structure.json", "page.css"):
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(fingerprint.detecture, "__file__", str(tmp_path / "package.py"))
    before = of()["code"]
    (tmp_path / "page.css").write_text("two")
    assert of()["code"] == before
    seen = {before}
    for name in ("package.py", "wording.yaml", "structure.json"):
        (tmp_path / name).write_text("two")
        seen.add(of()["code"])
    assert len(seen) == 4

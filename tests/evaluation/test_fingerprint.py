"""What makes the records of an earlier evaluation stale."""

import os

import pytest

from detecture.config import make_config
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

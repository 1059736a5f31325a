"""Damaged files of an export that goes on, and of a bank of textures."""

import json
import os

import numpy as np
import pytest
from mutations import KINDS, mutation

from detecture.data.synthetic import bank as bank_module
from detecture.data.synthetic import export as module
from detecture.data.synthetic.bank import draw_texture, open_bank
from detecture.data.synthetic.export import ExportSettings, export_dataset
from detecture.errors import DatasetError

LONG = os.environ.get("DETECTURE_LONG_TESTS") == "1"
SETTINGS = ExportSettings(count=3, seed=0, size=48)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "damaged" not in path.name
    }


def cut_off(folder, monkeypatch, settings=SETTINGS):
    """An export that was killed after two images."""
    write = module._write_image

    def stop(*arguments):
        if arguments[-1] == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_image", stop)
        with pytest.raises(KeyboardInterrupt):
            export_dataset(folder, settings)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "whole"
    export_dataset(folder, SETTINGS)
    return content(folder)


def test_a_damaged_record_is_made_again(whole, tmp_path, monkeypatch, caplog):
    for seed in range(8 * len(KINDS) if LONG else len(KINDS)):
        folder = cut_off(tmp_path / str(seed), monkeypatch)
        path = folder / ".records/0000001.json"
        before = path.read_bytes() + b"\n"
        name, data = mutation(seed, before)
        path.write_bytes(data)
        caplog.clear()
        export_dataset(folder, SETTINGS)
        assert content(folder) == whole, (name, seed)


def test_a_record_of_other_settings_does_not_count(whole, tmp_path, monkeypatch):
    other = cut_off(tmp_path / "other", monkeypatch, ExportSettings(count=3, seed=5, size=48))
    folder = cut_off(tmp_path / "mine", monkeypatch)
    name = ".records/0000001.json"
    (folder / name).write_bytes((other / name).read_bytes())
    export_dataset(folder, SETTINGS)
    assert content(folder) == whole


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"seed": 9}'])
def test_damaged_settings_cost_no_image(whole, tmp_path, monkeypatch, caplog, damage):
    folder = cut_off(tmp_path / "set", monkeypatch)
    image = folder / "images/0000000.png"
    written = image.stat().st_mtime_ns
    (folder / "settings.json").write_bytes(damage)
    export_dataset(folder, SETTINGS)
    assert content(folder) == whole
    assert image.stat().st_mtime_ns == written
    assert (folder / "settings.damaged-1.json").read_bytes() == damage
    assert "settings.json: damaged" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"[", b"\xff", b"[" * 100_000, b"[5]", b'[{"image_path"'])
def test_a_finished_set_with_damaged_metadata_names_a_way_out(tmp_path, whole, damage):
    folder = tmp_path / "set"
    export_dataset(folder, SETTINGS)
    (folder / "metadata.json").write_bytes(damage)
    with pytest.raises(DatasetError, match=r"metadata\.json: damaged .*delete it and run this"):
        export_dataset(folder, SETTINGS)
    (folder / "metadata.json").unlink()
    export_dataset(folder, SETTINGS)
    assert content(folder) == whole


def test_settings_of_a_finished_set_that_are_gone_are_told(tmp_path):
    folder = tmp_path / "set"
    export_dataset(folder, SETTINGS)
    (folder / "settings.json").write_bytes(b"\xff")
    with pytest.raises(DatasetError, match=r"cannot be read as JSON.*delete the folder"):
        export_dataset(folder, SETTINGS)


# ---- the bank ------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("name", ["about.json", "textures.npy"])
def test_a_damaged_bank_is_drawn_again(tmp_path, name, damage):
    open_bank(tmp_path, 2)
    (tmp_path / name).write_bytes(damage)
    textures = open_bank(tmp_path, 2)
    assert (textures[1] == draw_texture(1)).all()
    assert json.loads((tmp_path / "about.json").read_text())["count"] == 2


def test_a_file_that_was_cut_short_is_drawn_again(tmp_path):
    open_bank(tmp_path, 2)
    path = tmp_path / "textures.npy"
    path.write_bytes(path.read_bytes()[:-100])
    assert (open_bank(tmp_path, 2)[1] == draw_texture(1)).all()


def test_a_kill_while_other_textures_are_drawn_leaves_no_half_bank(tmp_path, monkeypatch):
    """Nor does it change the file under a training that reads from it."""
    reading = open_bank(tmp_path, 2)
    before = np.array(reading)

    def stop(number):
        if number == 2:
            raise KeyboardInterrupt
        return draw_texture(number + 5)

    monkeypatch.setattr(bank_module, "draw_texture", stop)
    with pytest.raises(KeyboardInterrupt):
        open_bank(tmp_path, 3)
    monkeypatch.undo()
    assert (reading == before).all()
    assert (open_bank(tmp_path, 2) == before).all()
    assert (open_bank(tmp_path, 3)[2] == draw_texture(2)).all()
    assert (reading == before).all()

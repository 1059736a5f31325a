"""Folders of checkpoints in which something was damaged: what is sound is found, and nothing else.

With DETECTURE_LONG_TESTS=1 many more damages are tried.
"""

import json
import logging
import os
import shutil

import pytest
import torch
from checkpoint.test_checkpointer import checkpointer_of, model, resumed, save, saved
from mutations import KINDS, mutation

from detecture.checkpoint.atomic import sha256_file
from detecture.checkpoint.checkpointer import Checkpointer
from detecture.checkpoint.manifest import read_manifest
from detecture.checkpoint.search import newest_sound
from detecture.checkpoint.weights_file import pack_weights, read_header, read_weights
from detecture.errors import CheckpointError
from detecture.untrusted_plain import MOST_DEPTH

LONG = os.environ.get("DETECTURE_LONG_TESTS") == "1"
DAMAGES = 480 if LONG else 2 * len(KINDS)
FILES = [f"model_000000{n}.{ending}" for n in (2, 3) for ending in ("safetensors", "training.pth")]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    saved(folder, 1.0, 2.0, 3.0)
    # In one line, as the damages expect it.
    manifest = folder / "checkpoints.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text())) + "\n")
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return copy(sound, tmp_path)


def copy(sound, tmp_path):
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    return shutil.copytree(sound, tmp_path / "run")


def repaired(folder):
    """As a training begins that is resumed: load, then (the folder is reserved) repair."""
    checkpointer = checkpointer_of(folder)
    checkpointer.resume_or_load("", resume=True)
    checkpointer.repair()
    return checkpointer


POINTERS = {
    "missing": None,
    "empty": b"",
    "blank": b" \n",
    "binary": b"\xff\xfe\x00model",
    "another folder": b"../sound0/model_0000002.safetensors",
    "absolute": b"/etc/passwd",
    "a folder": b".",
    "the folder above": b"..",
    "gone": b"model_0000009.safetensors",
    "lines": b"model_0000003.safetensors\nmodel_0000002.safetensors",
    "NUL": b"model_0000003.safetensors\0",
    "long": b"m" * 5000,
    "backslash": b"..\\model_0000003.safetensors",
    "no checkpoint": b"checkpoints.json",
    "a training state": b"model_0000003.training.pth",
}


@pytest.mark.parametrize("content", POINTERS.values(), ids=POINTERS)
def test_a_damaged_pointer_costs_nothing(folder, content, caplog):
    pointer = folder / "last_checkpoint"
    pointer.unlink()
    if content is not None:
        pointer.write_bytes(content)
    assert resumed(folder) == 3.0
    assert "CHECKPOINT REFUSED" in caplog.text and str(pointer) in caplog.text
    assert newest_sound(folder) == folder / "model_0000003.safetensors"
    repaired(folder)
    assert pointer.read_text() == "model_0000003.safetensors"
    aside = [path.read_bytes() for path in folder.glob("last_checkpoint.damaged-*")]
    assert aside == ([] if content is None else [content])
    caplog.clear()
    assert resumed(folder) == 3.0
    assert not caplog.text


def test_a_pointer_that_is_a_folder(folder):
    (folder / "last_checkpoint").unlink()
    (folder / "last_checkpoint").mkdir()
    repaired(folder)
    assert (folder / "last_checkpoint").read_text() == "model_0000003.safetensors"


def test_a_pointer_to_an_older_one_is_followed_and_told(folder, caplog):
    (folder / "last_checkpoint").write_text("model_0000002.safetensors")
    assert resumed(folder) == 2.0
    assert "names model_0000002.safetensors, though model_0000003.safetensors is newer" in (
        caplog.text
    )


def test_a_pointer_to_what_cannot_be_gone_on_from(folder):
    checkpointer_of(folder, 7.0).save_weights("model_best", iteration=7)
    (folder / "last_checkpoint").write_text("model_best.safetensors")
    assert resumed(folder) == 3.0


def test_every_damaged_manifest_is_written_anew(sound, tmp_path, caplog):
    whole = (sound / "checkpoints.json").read_bytes()
    for seed in range(DAMAGES):
        name, data = mutation(seed, whole)
        folder = copy(sound, tmp_path)
        (folder / "checkpoints.json").write_bytes(data)
        caplog.clear()
        assert resumed(folder) == 3.0, (name, seed)
        checkpointer = repaired(folder)
        hashes = read_manifest(folder)
        set_aside = list(folder.glob("checkpoints.damaged-*.json"))
        if set_aside:
            assert [path.read_bytes() for path in set_aside] == [data]
            assert "CHECKPOINT MANIFEST DAMAGED" in caplog.text
            assert hashes == {file: [sha256_file(folder / file)] for file in FILES}
        else:  # what it says is still true
            known = {name: hashes[name] for name in FILES if name in hashes}
            assert all(sha256_file(folder / file) in known[file] for file in known)
        save(checkpointer, 4.0)
        assert resumed(folder) == 4.0


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b'{"model_0000003.safetensors": 5}', b'{"a": []}']
)
def test_a_manifest_that_is_damaged_while_a_training_runs(folder, content, caplog):
    checkpointer = repaired(folder)
    (folder / "checkpoints.json").write_bytes(content)
    save(checkpointer, 4.0)
    save(checkpointer, 5.0)
    assert "CHECKPOINT MANIFEST DAMAGED" in caplog.text
    assert (folder / "checkpoints.damaged-1.json").read_bytes() == content
    assert resumed(folder) == 5.0
    # Older ones are still known, and are deleted when it is their turn.
    assert sorted(folder.glob("model_*.safetensors")) == [
        folder / f"model_000000{n}.safetensors" for n in (4, 5)
    ]


@pytest.mark.parametrize("manifest", ["sound", "damaged", "gone"])
def test_every_damaged_checkpoint_is_refused(sound, tmp_path, manifest):
    """Whatever tells of its content: never another value, never an error but that of the two."""
    for seed in range(DAMAGES):
        folder = copy(sound, tmp_path)
        if manifest == "damaged":
            (folder / "checkpoints.json").write_bytes(b"{")
        elif manifest == "gone":
            (folder / "checkpoints.json").unlink()
        file = folder / FILES[2 + seed % 2]
        kinds = ("flip_bit", "truncate", "cut_out", "put_in", "zero_out")
        seed_of = 15 * seed + [kind.__name__ for kind in KINDS].index(kinds[seed % len(kinds)])
        name, data = mutation(seed_of, file.read_bytes())
        file.write_bytes(data)
        # Bytes that mean nothing may have changed; but what is loaded is what was saved.
        assert resumed(folder) in (2.0, 3.0), (name, seed_of, file.name)


def test_a_damaged_newest_one_is_not_evaluated_silently(folder, caplog):
    path = folder / "model_0000003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert newest_sound(folder) == folder / "model_0000002.safetensors"
    assert "CHECKPOINT REFUSED" in caplog.text
    (folder / "model_0000002.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints is sound"):
        newest_sound(folder)


def test_what_nothing_tells_of_is_not_gone_on_from(tmp_path):
    """Weights of others hold no digest, an old torch file no checksums."""
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "model_1.safetensors")
    (tmp_path / "last_checkpoint").write_text("model_1.safetensors")
    checkpointer = Checkpointer(model(), str(tmp_path))
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints can be used"):
        checkpointer.resume_or_load("", resume=True)
    state = {"model": model(3.0).state_dict(), "trainer": {"value": 3.0}, "iteration": 3}
    path = tmp_path / "model_0000003.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    (tmp_path / "last_checkpoint").write_text(path.name)
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints can be used"):
        checkpointer_of(tmp_path).resume_or_load("", resume=True)
    assert checkpointer_of(tmp_path).load(str(path))["iteration"] == 3  # named by a user


def test_a_checkpoint_without_all_that_is_needed_is_not_gone_on_from(tmp_path, caplog):
    saved(tmp_path, 1.0)
    torch.save({"model": model(3.0).state_dict(), "iteration": 3}, tmp_path / "model_0000003.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    assert resumed(tmp_path) == 1.0
    assert "holds no state of trainer to go on from" in caplog.text


def test_a_training_state_that_does_not_fit_is_told_in_words(folder, caplog):
    class Other:
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            raise KeyError("momentum")

    with pytest.raises(CheckpointError, match="none of the 2"):
        Checkpointer(model(), str(folder), trainer=Other()).resume_or_load("", resume=True)
    assert "does not fit this training (KeyError: 'momentum')" in caplog.text


def test_weights_alone_in_a_folder_are_no_run_to_go_on_with(tmp_path):
    checkpointer_of(tmp_path, 5.0).save_weights("model_final", iteration=5)
    checkpointer = checkpointer_of(tmp_path)
    assert not checkpointer.has_checkpoint()
    assert checkpointer.resume_or_load("", resume=True) == {}


def test_a_folder_with_a_damaged_pointer_is_still_one_to_load_from(folder, caplog):
    (folder / "last_checkpoint").write_bytes(b"")
    layer = model()
    Checkpointer(layer).load(str(folder))
    assert layer.weight[0, 0] == 3.0
    assert "CHECKPOINT REFUSED" in caplog.text


DEEP = '{"format": 1, "more": ' + "[" * MOST_DEPTH + "]" * MOST_DEPTH + "}"


@pytest.mark.parametrize("header", ["5", "[1]", "[" * 100_000, "{}", '{"format": "1"}', DEEP])
def test_headers_that_are_none(tmp_path, header, monkeypatch):
    path = tmp_path / "x.safetensors"
    monkeypatch.setattr(json, "dumps", lambda *_, **__: header)
    content = pack_weights({"a": torch.ones(1)}, {})
    monkeypatch.undo()
    path.write_bytes(content)
    for read in (read_weights, read_header):
        with pytest.raises(CheckpointError, match=r"x\.safetensors: its header is none"):
            read(path)
    layer = model()
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        Checkpointer(layer).load(str(path))


def test_a_file_that_others_made_is_called_unverified_beside_a_damaged_manifest(tmp_path, caplog):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, path)
    Checkpointer(model()).load(str(path))
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]
    (tmp_path / "checkpoints.json").write_text("{")
    Checkpointer(model()).load(str(path))
    assert "CHECKPOINT MANIFEST DAMAGED" in caplog.text and str(path) in caplog.text

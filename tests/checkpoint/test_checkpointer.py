"""Checkpoints: atomic, hashed, strict, and falling back."""

import json
import os

import pytest
import torch
from torch import nn

from detecture.checkpoint.atomic import sha256_file, write_atomic, write_text_atomic
from detecture.checkpoint.checkpointer import Checkpointer
from detecture.errors import CheckpointError


def model(value=0.0):
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, value)
    return layer


def saved(folder, *values):
    """Checkpoints of models with these weights, in this order."""
    layer = model()
    checkpointer = Checkpointer(layer, str(folder))
    for number, value in enumerate(values):
        nn.init.constant_(layer.weight, value)
        checkpointer.save(f"model_{number:07d}", iteration=number)
        os.utime(folder / f"model_{number:07d}.pth", (number, number))
    return checkpointer


def resumed(folder):
    layer = model()
    rest = Checkpointer(layer, str(folder)).resume_or_load("", resume=True)
    return layer.weight[0, 0].item(), rest["iteration"]


def test_save_and_resume(tmp_path):
    saved(tmp_path, 1.0, 2.0)
    assert resumed(tmp_path) == (2.0, 1)
    assert not list(tmp_path.glob("*.tmp*")) + list(tmp_path.glob("*.staged"))
    manifest = json.loads((tmp_path / "checkpoints.json").read_text())
    assert manifest["model_0000001.pth"] == [sha256_file(tmp_path / "model_0000001.pth")]


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "harm", [flip_a_bit, truncate, lambda path: path.write_bytes(b""), lambda path: path.unlink()]
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(tmp_path, harm, caplog):
    saved(tmp_path, 1.0, 2.0, 3.0)
    harm(tmp_path / "model_0000002.pth")
    assert resumed(tmp_path) == (2.0, 1)
    assert "CHECKPOINT REFUSED" in caplog.text
    assert "model_0000002.pth" in caplog.text


def test_when_all_are_damaged_it_says_so(tmp_path):
    saved(tmp_path, 1.0, 2.0)
    for path in tmp_path.glob("*.pth"):
        flip_a_bit(path)
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        resumed(tmp_path)


def test_one_flipped_bit_would_load_silently_without_the_hash(tmp_path):
    saved(tmp_path, 1.0)
    path = tmp_path / "model_0000000.pth"
    data = path.read_bytes()
    at = data.index(torch.ones(4).numpy().tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match="SHA-256"):
        Checkpointer(model()).load(str(path))


@pytest.mark.parametrize("point", ["manifest", "replace", "after"])
def test_a_kill_while_overwriting_leaves_a_sound_file(tmp_path, monkeypatch, point):
    checkpointer = saved(tmp_path, 1.0)
    nn.init.constant_(checkpointer.model.weight, 9.0)

    class Killed(BaseException):
        pass

    import detecture.checkpoint.checkpointer as module

    calls = []
    original = module._record_hashes

    def record(path, hashes):
        calls.append(hashes)
        if point == "manifest" or (point == "after" and len(calls) == 2):
            raise Killed
        original(path, hashes)
        if point == "replace":
            raise Killed

    monkeypatch.setattr(module, "_record_hashes", record)
    with pytest.raises(Killed):
        checkpointer.save("model_0000000", iteration=0)
    monkeypatch.undo()
    assert resumed(tmp_path)[0] == (9.0 if point == "after" else 1.0)


def test_weights_must_fit(tmp_path):
    torch.save({"model": {"weight": torch.zeros(2, 2), "more": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"missing: bias; left over: more"):
        Checkpointer(model()).load(str(tmp_path / "a.pth"))
    torch.save({"model": {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"shape of weight: \(3, 2\) in the file, \(2, 2\)"):
        Checkpointer(model()).load(str(tmp_path / "b.pth"))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_unusable_files_are_named(tmp_path, content):
    path = tmp_path / "x.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth"):
        Checkpointer(model()).load(str(path))


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/proof",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth"):
        Checkpointer(model()).load(str(tmp_path / "evil.pth"))
    assert not (tmp_path / "proof").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    write_text_atomic(path, "old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]

"""Checkpoints: atomic, hashed, strict, and falling back."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import detecture.checkpoint.checkpointer as module
from detecture.checkpoint.atomic import sha256_file, write_atomic, write_text_atomic
from detecture.checkpoint.checkpointer import Checkpointer
from detecture.checkpoint.manifest import record_hashes
from detecture.checkpoint.weights_file import pack_weights, read_header, read_weights
from detecture.errors import CheckpointError


class Part:
    """Something with a state beside the model, as a trainer is."""

    value = 0.0

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def model(value=0.0):
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, value)
    return layer


def checkpointer_of(folder, value=0.0, **arguments):
    return Checkpointer(model(value), str(folder), trainer=Part(), **arguments)


def save(checkpointer, value, name=None, **values):
    """Weights and training state with this value."""
    nn.init.constant_(checkpointer.model.weight, value)
    checkpointer.checkpointables["trainer"].value = value
    checkpointer.save(name or f"model_{int(value):07d}", iteration=int(value), **values)


def saved(folder, *values, **arguments):
    checkpointer = checkpointer_of(folder, **arguments)
    for value in values:
        save(checkpointer, value)
    return checkpointer


def resumed(folder):
    """The value that the newest sound checkpoint has, the same in all its parts."""
    checkpointer = checkpointer_of(folder)
    rest = checkpointer.resume_or_load("", resume=True)
    value = checkpointer.model.weight[0, 0].item()
    assert checkpointer.checkpointables["trainer"].value == value
    assert rest["iteration"] == int(value)
    return value


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_save_and_resume(tmp_path):
    saved(tmp_path, 1.0, 2.0)
    assert resumed(tmp_path) == 2.0
    assert not list(tmp_path.glob("*.tmp*")) + list(tmp_path.glob("*.staged"))
    manifest = json.loads((tmp_path / "checkpoints.json").read_text())
    for name in ("model_0000002.safetensors", "model_0000002.training.pth"):
        assert manifest[name] == [sha256_file(tmp_path / name)]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000002.safetensors"


def test_old_ones_are_deleted_but_not_the_best_and_the_last(tmp_path):
    checkpointer = saved(tmp_path, 1.0, 2.0, keep=3)
    checkpointer.save_weights("model_best", iteration=2)
    save(checkpointer, 3.0)
    save(checkpointer, 4.0)
    save(checkpointer, 5.0, "model_final")
    assert [n for n in names(tmp_path) if n.endswith("safetensors")] == [
        *(f"model_000000{n}.safetensors" for n in (2, 3, 4)),
        "model_best.safetensors",
        "model_final.safetensors",
    ]
    assert not (tmp_path / "model_best.training.pth").exists()
    assert resumed(tmp_path) == 5.0
    (tmp_path / "last_checkpoint").unlink()
    write_text_atomic(tmp_path / "last_checkpoint", "gone.safetensors")
    assert resumed(tmp_path) == 5.0  # model_best is never gone on from


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("ending", ["safetensors", "training.pth"])
@pytest.mark.parametrize(
    "harm", [flip_a_bit, truncate, lambda path: path.write_bytes(b""), lambda path: path.unlink()]
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(tmp_path, harm, ending, caplog):
    saved(tmp_path, 1.0, 2.0, 3.0)
    harm(tmp_path / f"model_0000003.{ending}")
    assert resumed(tmp_path) == 2.0
    assert "CHECKPOINT REFUSED" in caplog.text
    assert "model_0000003" in caplog.text


def test_when_all_are_damaged_it_says_so(tmp_path):
    saved(tmp_path, 1.0, 2.0)
    for path in tmp_path.glob("*.safetensors"):
        flip_a_bit(path)
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        resumed(tmp_path)


def test_one_flipped_bit_is_found_without_a_manifest_too(tmp_path):
    """A file that was sent to somebody else has no manifest beside it."""
    saved(tmp_path, 1.0)
    path = tmp_path / "model_0000001.safetensors"
    data = path.read_bytes()
    (tmp_path / "checkpoints.json").unlink()
    assert read_weights(path)[1]["iteration"] == 1
    for needle in (torch.ones(4).numpy().tobytes(), b"iteration"):
        at = data.index(needle)
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CheckpointError, match="damaged"):
            Checkpointer(model()).load(str(path))


class Killed(BaseException):
    pass


def points_of_the_protocol(monkeypatch, folder, kill_at):
    """Raise `Killed` before the step number `kill_at` of a save; returns the steps so far."""
    steps = []

    def wrap(function, name):
        def step(*args, **kwargs):
            steps.append(name)
            if len(steps) == kill_at + 1:
                raise Killed
            return function(*args, **kwargs)

        return step

    for name in ("write_atomic", "record_hashes", "flush_folder", "write_text_atomic"):
        monkeypatch.setattr(module, name, wrap(getattr(module, name), name))
    path_type = type(folder)
    for name in ("replace", "unlink"):
        monkeypatch.setattr(path_type, name, wrap(getattr(path_type, name), name))
    return steps


@pytest.mark.parametrize("name", ["model_0000009", "model_0000002"])
def test_a_kill_between_any_two_steps_leaves_a_sound_checkpoint(tmp_path, monkeypatch, name):
    """Of a new checkpoint and of one that takes the place of an older one of that name."""
    kill_at, outcomes = 0, []
    while True:
        folder = tmp_path / str(kill_at)
        checkpointer = saved(folder, 1.0, 2.0)
        with monkeypatch.context() as patch:
            steps = points_of_the_protocol(patch, folder, kill_at)
            try:
                save(checkpointer, 9.0, name)
                done = True
            except Killed:
                done = False
        value = resumed(folder)
        outcomes.append(value)
        # What comes next works too, and leaves nothing behind.
        save(checkpointer, 10.0)
        assert resumed(folder) == 10.0
        assert not [n for n in names(folder) if ".tmp" in n or n.endswith(".staged")]
        if done:
            break
        kill_at += 1
    assert kill_at >= 10, steps
    # Up to some step it is the old one, from there on the new one.
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {2.0, 9.0}


def test_a_kill_in_the_middle_of_a_pair_keeps_what_belongs_together(tmp_path, monkeypatch):
    checkpointer = saved(tmp_path, 1.0, 2.0)
    with monkeypatch.context() as patch:

        def stop(folder):
            raise Killed

        patch.setattr(module, "flush_folder", stop)
        with pytest.raises(Killed):
            save(checkpointer, 9.0, "model_0000002")
    assert (tmp_path / "model_0000002.training.pth.staged").exists()
    assert resumed(tmp_path) == 9.0
    (tmp_path / "model_0000002.training.pth.staged").unlink()
    assert resumed(tmp_path) == 1.0  # weights of 9, training state of 2: refused


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    """Wherever the space runs out; from the commit on the new checkpoint is the one to go on."""
    outcomes = []
    for fails in range(100):
        folder = tmp_path / str(fails)
        checkpointer = saved(folder, 1.0, 2.0)
        before = {n: (folder / n).read_bytes() for n in names(folder)}
        calls = []
        original = os.fsync

        def full(descriptor, calls=calls, fails=fails, original=original):
            calls.append(descriptor)
            if len(calls) > fails:
                raise OSError(28, "No space left on device")
            original(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                save(checkpointer, 3.0)
            except CheckpointError as error:
                assert "cannot be written" in str(error) and "No space left" in str(error)
            else:
                break
        if fails < 5:  # two files and the manifest, each with its folder; the last not yet renamed
            assert {n: (folder / n).read_bytes() for n in names(folder)} == before
        outcomes.append(resumed(folder))
    assert outcomes == sorted(outcomes) and outcomes[:5] == [2.0] * 5
    assert len(outcomes) > 8


def test_weights_must_fit(tmp_path):
    save_file({"weight": torch.zeros(2, 2), "more": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: bias; left over: more"):
        Checkpointer(model()).load(str(tmp_path / "a.safetensors"))
    save_file({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match=r"shape of weight: \(3, 2\) in the file, \(2, 2\)"):
        Checkpointer(model()).load(str(tmp_path / "b.safetensors"))
    torch.save({"model": {"weight": torch.zeros(2, 2), "more": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"missing: bias; left over: more"):
        Checkpointer(model()).load(str(tmp_path / "a.pth"))


def test_old_files_and_folders(tmp_path, caplog):
    caplog.set_level("INFO")
    torch.save({"model": model(3.0).state_dict(), "iteration": 4}, tmp_path / "old.pth")
    layer = model()
    assert Checkpointer(layer).load(str(tmp_path / "old.pth")) == {"iteration": 4}
    assert layer.weight[0, 0] == 3.0
    torch.save(model(4.0).state_dict(), tmp_path / "bare.pth")
    assert Checkpointer(layer).load(str(tmp_path / "bare.pth")) == {}
    assert layer.weight[0, 0] == 4.0
    saved(tmp_path / "run", 1.0, 2.0)
    Checkpointer(layer).load(str(tmp_path / "run"))
    assert layer.weight[0, 0] == 2.0
    assert "Loaded 2 tensors, 6 parameters, from" in caplog.text
    (tmp_path / "run/last_checkpoint").unlink()
    with pytest.raises(CheckpointError, match="must hold one"):
        Checkpointer(layer).load(str(tmp_path / "run"))


def test_training_goes_on_from_an_old_checkpoint(tmp_path):
    state = {"model": model(3.0).state_dict(), "trainer": {"value": 3.0}, "iteration": 3}
    torch.save(state, tmp_path / "model_0000003.pth")
    write_text_atomic(tmp_path / "last_checkpoint", "model_0000003.pth")
    assert resumed(tmp_path) == 3.0


def test_weights_alone_can_be_started_from_but_not_gone_on_from(tmp_path):
    checkpointer_of(tmp_path, 5.0).save_weights("model_best", iteration=5)
    path = str(tmp_path / "model_best.safetensors")
    layer = model()
    Checkpointer(layer, trainer=Part()).resume_or_load(path, resume=False)
    assert layer.weight[0, 0] == 5.0
    with pytest.raises(CheckpointError, match="no training state"):
        Checkpointer(model(), trainer=Part()).load(path)


def test_a_model_says_what_is_kept(tmp_path):
    class Adapter(nn.Linear):
        header = None

        def checkpoint_state(self):
            return {"adapter": self.bias}

        def load_checkpoint_state(self, state):
            self.bias.data.copy_(state["adapter"])

        def checkpoint_header(self):
            return {"prompts": "describe"}

        def load_checkpoint_header(self, header):
            self.header = header

    Checkpointer(Adapter(2, 2), str(tmp_path), config="A: 1\n").save("model_final", iteration=7)
    tensors, header = read_weights(tmp_path / "model_final.safetensors")
    assert set(tensors) == {"adapter"}
    assert header["config"] == "A: 1\n" and header["iteration"] == 7 and header["format"] == 1
    assert header["libraries"]["torch"] and header["detecture"]
    other = Adapter(2, 2)
    Checkpointer(other).load(str(tmp_path / "model_final.safetensors"))
    assert torch.equal(other.bias, tensors["adapter"])
    assert other.header == {"prompts": "describe"}


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(pack_weights({}, {"format": 99, "detecture": "9.9"}))
    with pytest.raises(CheckpointError, match=r"detecture 9\.9.*Update"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_unusable_files_are_named(tmp_path, content, name):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        Checkpointer(model()).load(str(path))


@pytest.mark.parametrize("content", [b"", b"hello world\n", b"MODEL:\n  A: 1\n"])
def test_what_is_no_checkpoint_is_called_so(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pth: is no checkpoint: ") as error:
        Checkpointer(model()).load(str(tmp_path / "x.pth"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("raised", [KeyError(101), TypeError("a\nb"), IndexError("pop")])
def test_any_error_of_torch_is_told_in_one_line(tmp_path, monkeypatch, raised):
    def fail(*_, **__):
        raise raised

    torch.save({}, tmp_path / "x.pth")
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(CheckpointError, match=type(raised).__name__) as error:
        Checkpointer(model()).load(str(tmp_path / "x.pth"))
    assert "\n" not in str(error.value)


def test_a_training_state_is_told_from_weights(tmp_path):
    saved(tmp_path, 1.0)
    with pytest.raises(CheckpointError, match=r"name model_0000001\.safetensors beside it"):
        Checkpointer(model()).load(str(tmp_path / "model_0000001.training.pth"))


def test_errors_of_the_model_name_the_file(tmp_path):
    class Strict(nn.Linear):
        def load_checkpoint_state(self, state):
            raise CheckpointError("the checkpoint does not fit the model: missing: a")

    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors: the checkpoint does not fit"):
        Checkpointer(Strict(2, 2)).load(str(tmp_path / "a.safetensors"))


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/proof",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match=r"evil\.pth.*run code \(GLOBAL "):
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


def test_a_manifest_of_somebody_else_is_kept(tmp_path):
    (tmp_path / "checkpoints.json").write_text('{"a": 1}')
    with pytest.raises(CheckpointError, match=r"something else than hashes.*another folder"):
        record_hashes(tmp_path, {"b.safetensors": ["0"]})
    assert (tmp_path / "checkpoints.json").read_text() == '{"a": 1}'


@pytest.mark.parametrize("content", [[torch.zeros(2)], "a", {"weight": "a", 3: 4}, {1: None}])
def test_what_is_no_table_of_tensors_is_told(content, tmp_path):
    torch.save({"model": content}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: holds no"):
        checkpointer_of(tmp_path).load(str(tmp_path / "a.pth"))


def test_a_pipe_in_the_place_of_weights_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    for read in (read_weights, read_header):
        with pytest.raises(CheckpointError, match="no regular file"):
            read(tmp_path / "a.safetensors")

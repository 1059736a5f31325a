import os
import pickle

import pytest
import torch
from iopath.common.file_io import PathHandler

from detecture.d2 import DetectionCheckpointer, PathManager, PeriodicCheckpointer, comm


def make(folder, seed=0, **kwargs):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    checkpointer = DetectionCheckpointer(model, str(folder), optimizer=optimizer, **kwargs)
    return model, optimizer, checkpointer


def step(model, optimizer):
    model(torch.arange(6.0).reshape(2, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def same(one, two):
    states = (one.state_dict(), two.state_dict())
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_save_and_load(tmp_path):
    model, optimizer, checkpointer = make(tmp_path)
    step(model, optimizer)
    checkpointer.save("first", iteration=7, note="x")
    other, other_optimizer, loader = make(tmp_path, seed=1)
    assert not same(model, other)
    rest = loader.load(str(tmp_path / "first.pth"))
    assert same(model, other)
    assert rest["iteration"] == 7
    assert rest["note"] == "x"
    momentum = [state["momentum_buffer"] for state in optimizer.state.values()]
    loaded = [state["momentum_buffer"] for state in other_optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(momentum, loaded, strict=True))


def test_resumed_equals_uninterrupted(tmp_path):
    model, optimizer, checkpointer = make(tmp_path)
    step(model, optimizer)
    checkpointer.save("middle")
    step(model, optimizer)
    other, other_optimizer, loader = make(tmp_path, seed=1)
    loader.resume_or_load("", resume=True)
    step(other, other_optimizer)
    assert same(model, other)


def test_resume_takes_the_last_and_otherwise_the_weights_only(tmp_path):
    model, optimizer, checkpointer = make(tmp_path / "run")
    (tmp_path / "run").mkdir()
    checkpointer.save("old")
    step(model, optimizer)
    checkpointer.save("new", iteration=1)
    assert checkpointer.has_checkpoint()
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "run" / "new.pth")
    assert len(checkpointer.get_all_checkpoint_files()) == 2

    resumed, _, loader = make(tmp_path / "run", seed=1)
    assert loader.resume_or_load("", resume=True)["iteration"] == 1
    assert same(model, resumed)

    started, started_optimizer, loader = make(tmp_path / "run", seed=1)
    loader.resume_or_load(str(tmp_path / "run" / "new.pth"), resume=False)
    assert same(model, started)
    assert not started_optimizer.state  # only the model is loaded


def test_without_a_path_nothing_is_loaded(tmp_path):
    model, _, checkpointer = make(tmp_path)
    untouched, _, _ = make(tmp_path)
    assert checkpointer.load("") == {}
    assert not checkpointer.has_checkpoint()
    assert checkpointer.resume_or_load("", resume=True) == {}
    assert same(model, untouched)


def test_only_the_main_process_saves(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    make(tmp_path)[2].save("one")
    assert list(tmp_path.iterdir()) == []
    make(tmp_path, save_to_disk=True)[2].save("two")
    assert (tmp_path / "two.pth").exists()


def test_mismatches_are_told_not_hidden(tmp_path, caplog):
    other = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    torch.save({"model": other.state_dict()}, tmp_path / "other.pth")
    _, _, checkpointer = make(tmp_path)
    checkpointer.load(str(tmp_path / "other.pth"))
    assert "0.weight" in caplog.text  # of another shape
    assert "running_mean" in caplog.text  # missing in the file
    assert "2.{bias, weight}" in caplog.text or "2.bias" in caplog.text  # unknown to the model


def test_bare_state_dict_counts_as_the_models(tmp_path):
    model, _, _ = make(tmp_path)
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    other, _, loader = make(tmp_path, seed=1)
    loader.load(str(tmp_path / "bare.pth"))
    assert same(model, other)


def test_a_path_handler_gives_checkpoints(tmp_path):
    class Handler(PathHandler):
        def _get_supported_prefixes(self):
            return ["contract://"]

        def _get_local_path(self, path, force=False, **kwargs):
            return str(tmp_path / path.removeprefix("contract://"))

    PathManager.register_handler(Handler())
    model, _, checkpointer = make(tmp_path)
    checkpointer.save("known", iteration=3)
    other, _, loader = make(tmp_path, seed=1)
    assert loader.load("contract://known.pth")["iteration"] == 3
    assert same(model, other)


def test_periodic_checkpointer(tmp_path):
    periodic = PeriodicCheckpointer(make(tmp_path)[2], period=2, max_iter=7, max_to_keep=2)
    for iteration in range(7):
        periodic.step(iteration)
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["model_0000003.pth", "model_0000005.pth", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert make(tmp_path)[2].resume_or_load("", resume=True)["iteration"] == 6


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.lite_only
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_checkpoint_that_runs_code_is_refused_and_named(tmp_path, writer):
    touched = tmp_path / "touched"
    content = {"model": {}, "bomb": Bomb(str(touched))}
    path = tmp_path / "bomb.pth"
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(Exception, match=r"bomb\.pth .*could run code"):
        make(tmp_path)[2].load(str(path))
    assert not touched.exists()


@pytest.mark.lite_only
def test_broken_and_missing_files_are_named(tmp_path):
    checkpointer = make(tmp_path)[2]
    checkpointer.save("good")
    whole = (tmp_path / "good.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in [
        ("cut.pth", "damaged"),
        ("empty.pth", "damaged"),
        ("list.pth", "no dict"),
        ("gone.pth", "does not exist"),
    ]:
        with pytest.raises(Exception, match=f"{name} .*{message}"):
            checkpointer.load(str(tmp_path / name))

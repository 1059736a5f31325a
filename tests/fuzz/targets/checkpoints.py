"""Checkpoints: safetensors with a header, torch files, folders of both."""

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from functools import cache

import torch
from torch import nn

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.checkpoint.manifest import read_manifest
from detecture.checkpoint.torch_file import read_torch_file, verify_checksums
from detecture.checkpoint.weights_file import make_header, pack_weights, read_header, read_weights
from detecture.conversion.published import read_published
from detecture.errors import CheckpointError
from tests.fuzz.case import target
from tests.fuzz.inputs import nested, write, write_bytes
from tests.fuzz.mutators import altered, damaged, hostile

TENSORS = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "a.bias": torch.tensor([0.5, float("nan"), float("inf")]),
    "b": torch.tensor(7, dtype=torch.int64),
    "half": torch.ones(2, 2, dtype=torch.bfloat16),
    "none": torch.zeros(0, 3),
}


@cache
def _weights():
    header = make_header("SEED: 1\n", {"prompts": "x"}, iteration=5)
    return pack_weights(TENSORS, header)


def equal(found, due):
    """Whether two tables have the same tensors, NaN included."""
    return found.keys() == due.keys() and all(
        found[k].dtype == due[k].dtype
        and found[k].shape == due[k].shape
        and torch.equal(found[k].nan_to_num(9.0), due[k].nan_to_num(9.0))
        if due[k].is_floating_point()
        else torch.equal(found[k], due[k])
        for k in due
    )


def _with_header(case, data):
    """The same content under an altered table of tensors."""
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(data[8 : 8 + length])
    if case.chance(0.4):
        inner = json.loads(table["__metadata__"]["detecture"])
        text = json.dumps(altered(case.draw, inner))
        table["__metadata__"]["detecture"] = nested(text)
    else:
        table = altered(case.draw, table)
    text = nested(json.dumps(table)).encode("utf-8", "surrogatepass")
    size = len(text) if case.chance(0.8) else case.draw.choice((0, 1 << 20, 1 << 40, (1 << 64) - 1))
    return struct.pack("<Q", size) + text + data[8 + length :]


@target(weight=8)
def safetensors(case):
    """A weights file of this project, its header included."""
    path = case.folder / "model.safetensors"
    if case.chance(0.5):
        case.sound = write_bytes(case, path, _weights())
    else:
        write(case, path, _with_header(case, _weights()))
    header = {}
    try:
        header = read_header(path)
    except CheckpointError:
        if case.sound:
            raise
    tensors, full = read_weights(path)
    assert full == header
    if full:
        assert equal(tensors, TENSORS), "its digest passes, and the tensors are others"
        assert full["iteration"] == 5 and full["format"] == 1
    else:
        assert not case.sound


class _Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _torch_bytes(content, legacy=False):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


@cache
def _torch_files():
    content = {"model": dict(TENSORS), "iteration": 5, "scheduler": {"last_epoch": 3}}
    return [_torch_bytes(content), _torch_bytes(content, legacy=True)]


def _repacked(data, name_end, change):
    """A zip archive with one member changed, its checksums right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(
                info.filename, change(content) if info.filename.endswith(name_end) else content
            )
    return out.getvalue()


def _greedy(draw):
    """Objects that ask for memory, for work, or for what may not be run."""
    base = torch.arange(4.0)
    size = draw.choice((1 << 20, 1 << 33, 1 << 60))
    return draw.choice(
        [
            {"a": _Call(bytearray, size)},
            {"a": base.expand(1 << 20, 4)},
            {"a": torch.as_strided(base, (1 << 18, 1 << 18), (0, 0))},
            {"a": _Call(print, "ran")},
            {"a": _Call(__import__("os").mkdir, "ran")},
            {"a": _Call(OrderedDict, [])},
            {"a": torch.zeros(3, device="meta")},
            {"a": torch.sparse_coo_tensor([[0], [0]], [1.0], (1 << 15, 1 << 15))},
            {"a": nn.Linear(2, 2)},
            {"a": nn.Parameter(base)},
            {1: base, (1, 2): base, None: base},
            {"model": [base]},
            {"model": {"a": 1, 2: base}},
            base,
            [base],
            {},
            {"a": {"b": {"c": [base] * 1000}}},
            {"a": torch.quantize_per_tensor(base, 0.1, 0, torch.quint8)},
            {"a": torch.tensor([1 + 1j])},
            {"x" * 100_000: base},
            {"model": {"\ud800": base}},
        ]
    )


def _deep_pickle(draw):
    depth = draw.choice((100, 5000, 300_000))
    return b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."


def torch_input(case, path, files):
    """A torch file of any kind; returns whether it is as it was."""
    draw = case.draw
    kind = draw.random()
    data = draw.choice(files)
    if kind < 0.45:
        return write_bytes(case, path, data)
    if kind < 0.65 and data.startswith(b"PK"):
        write(case, path, _repacked(data, "data.pkl", lambda content: damaged(draw, content)))
    elif kind < 0.72:
        write(case, path, _repacked(files[0], "data.pkl", lambda _: _deep_pickle(draw)))
    elif kind < 0.76:
        write(case, path, pickle.dumps(hostile(draw)))
    else:
        write(case, path, _torch_bytes(_greedy(draw), draw.random() < 0.4))
    return False


@target(weight=10)
def torch_file(case):
    """A file of torch.save, read without running it."""
    path = case.folder / "model.pth"
    case.sound = torch_input(case, path, _torch_files())
    content = read_torch_file(path)
    assert isinstance(content, dict)
    if case.sound:
        assert equal(content["model"], TENSORS) and content["iteration"] == 5
    if verify_checksums(path) and "iteration" in content and "a" not in content:
        assert isinstance(content, dict)


class Tiny(nn.Module):
    """A model with few weights."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))


@cache
def _tiny_files():
    torch.manual_seed(0)
    state = Tiny().state_dict()
    return state, [_torch_bytes({"model": state, "iteration": 5}), _torch_bytes(state, legacy=True)]


@target(weight=8)
def checkpoint_load(case):
    """A checkpoint that a model takes its weights from, whole or not at all."""
    state, files = _tiny_files()
    path = case.folder / case.draw.choice(("model.pth", "model.safetensors"))
    if path.suffix == ".pth":
        case.sound = torch_input(case, path, files)
    else:
        data = pack_weights(state, make_header("", {}, iteration=5))
        if case.chance(0.5):
            case.sound = write_bytes(case, path, data)
        else:
            write(case, path, _with_header(case, data))
    model = Tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        Checkpointer(model, str(case.folder / "save")).load(str(path))
    except CheckpointError:
        assert equal(model.state_dict(), before), "refused, and the model has changed"
        raise
    if case.sound:
        assert equal(model.state_dict(), state)
    for value in model.state_dict().values():
        assert value.device.type == "cpu"


class Kept:
    """Something else that a training keeps: it takes back only what it gave."""

    def __init__(self, value=0):
        self.value = value

    def state_dict(self):
        """A plain value and a tensor."""
        return {"value": self.value, "moments": torch.full((3,), float(self.value))}

    def load_state_dict(self, state):
        """The inverse."""
        assert torch.equal(state["moments"], torch.full((3,), float(state["value"])))
        self.value = state["value"]


@cache
def _folder(place):
    """A folder with three checkpoints of a training; the weights after each."""
    states = {}
    model = Tiny()
    kept = Kept()
    saver = Checkpointer(model, str(place), save_to_disk=True, keep=3, kept=kept)
    for iteration in (9, 19, 29):
        kept.value = iteration
        nn.init.constant_(model.layer.weight, iteration)
        saver.save(f"model_{iteration:07d}", iteration=iteration)
        states[iteration] = {k: v.clone() for k, v in model.state_dict().items()}
    return {p.name: p.read_bytes() for p in sorted(place.iterdir())}, states


_MADE = {}


@target(weight=6)
def checkpoint_folder(case):
    """A folder of a training that is gone on with, one or two of its files damaged."""
    if not _MADE:
        torch.manual_seed(1)
        _MADE["it"] = _folder(case.folder / "made")
        shutil.rmtree(case.folder / "made")
    files, states = _MADE["it"]
    folder = case.folder / "run"
    folder.mkdir()
    hurt = case.draw.sample(sorted(files), case.draw.randint(0, 3))
    for name, data in files.items():
        if name in hurt:
            write(case, folder / name, damaged(case.draw, data))
        else:
            (folder / name).write_bytes(data)
    case.sound = not hurt
    model = Tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = Kept()
    saver = Checkpointer(model, str(folder), save_to_disk=True, keep=3, kept=kept)
    if not saver.has_checkpoint():
        return
    try:
        rest = saver.resume_or_load("", resume=True)
    except CheckpointError:
        assert equal(model.state_dict(), before)
        raise
    assert rest["iteration"] in states and kept.value == rest["iteration"]
    assert equal(model.state_dict(), states[rest["iteration"]])
    saver.repair()
    read_manifest(folder)
    saver.save("model_0000039", iteration=39)
    again = Checkpointer(Tiny(), str(folder), save_to_disk=True, kept=kept)
    assert again.resume_or_load("", resume=True)["iteration"] == 39


@cache
def _published_files():
    content = {
        "model_trainable": {
            "bridge.proj.0.weight": torch.ones(2, 3),
            "dustbin_embed": torch.ones(3),
        },
        "epoch": 3,
        "val_iou": 0.5,
        "phase": "joint",
        "optimizer": {"state": {}},
    }
    return [_torch_bytes(content), _torch_bytes(content, legacy=True)]


@target(weight=5)
def published_checkpoint(case):
    """A published checkpoint that is to be converted."""
    path = case.folder / "best.pt"
    case.sound = torch_input(case, path, _published_files())
    found = read_published(path)
    assert all(isinstance(value, torch.Tensor) for value in found.tensors.values())
    assert json.dumps(found.facts) is not None
    if case.sound:
        assert found.tensors["bridge.proj.0.weight"].sum() == 6 and found.facts["epoch"] == 3

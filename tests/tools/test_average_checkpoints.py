"""tools/average_checkpoints.py: the mean of the weights of checkpoints."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights

REPO = Path(__file__).resolve().parents[2]


def average(output, *checkpoints):
    command = [sys.executable, str(REPO / "tools/average_checkpoints.py"), "--output", str(output)]
    command += ["--checkpoints", *map(str, checkpoints)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def write(tmp_path):
    def write_file(name, **tensors):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(pack_weights(tensors, make_header(f"NAME: {name}\n", {"kind": "net"})))
        return path

    return write_file


def test_mean(write, tmp_path):
    weights = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[2.0, 2.0], [-3.0, 6.0]])
    paths = [write(f"n{i}", w=w, steps=torch.tensor(i)) for i, w in enumerate(weights)]
    done = average(tmp_path / "new" / "mean.safetensors", *paths)
    assert done.returncode == 0, done.stderr
    mean, header = read_weights(tmp_path / "new" / "mean.safetensors")
    assert torch.equal(mean["w"], torch.tensor([[1.5, 2.0], [0.0, 5.5]]))
    assert mean["w"].dtype == torch.float32 and mean["steps"] == 1
    assert header["model"] == {"kind": "net"} and len(header["parts"]) == 2


def test_wrong_input(write, tmp_path):
    one = write("one", w=torch.zeros(2), b=torch.zeros(1))
    for other, what in (
        (write("shape", w=torch.zeros(3), b=torch.zeros(1)), "w"),
        (write("fewer", w=torch.zeros(2)), "b"),
        (write("more", w=torch.zeros(2), b=torch.zeros(1), extra=torch.zeros(1)), "extra"),
    ):
        done = average(tmp_path / "mean.safetensors", one, other)
        assert done.returncode == 2 and "no checkpoint of the same model" in done.stderr
        assert what in done.stderr.split("same model")[1]
    for paths, what in (([one], "is alone"), ([one, tmp_path / "none"], "cannot be read")):
        done = average(tmp_path / "mean.safetensors", *paths)
        assert done.returncode == 2 and what in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "mean.safetensors").exists()

"""A benchmark of three methods on four toy images, evaluated by the evaluator itself."""

import pytest
from benchmark.toy_cells import evaluate, write_index
from toy import register_toy_dataset, write_toy_dataset

NASTY = '<script>alert("x")</script> & friends'


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory):
    """Name of a registered data set of six images of two strips."""
    folder = tmp_path_factory.mktemp("report") / "toy"
    return register_toy_dataset(write_toy_dataset(folder, count=6))


@pytest.fixture(scope="session")
def toy_root(toy_dataset, tmp_path_factory):
    """Folder of a benchmark; not to be changed."""
    root = tmp_path_factory.mktemp("benchmark")
    evaluate(root / "right/toy", toy_dataset, texts=(NASTY, "two"))
    evaluate(root / "wrong/toy", toy_dataset, wrong={"toy_0", "toy_1"}, texts=("", ""))
    evaluate(root / "failing/toy", toy_dataset, fail={"toy_2"})
    cells = [
        {"method": name, "dataset": toy_dataset, "folder": f"{name}/toy"}
        for name in ("right", "wrong", "failing")
    ]
    absent = {"method": "absent", "dataset": toy_dataset, "folder": None, "state": "missing"}
    return write_index(root, [*cells, absent | {"note": "never run"}])

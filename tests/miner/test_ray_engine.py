"""The miner on a Ray cluster of two nodes on this machine, one of which is killed."""

import json
import os
import threading
import time
from pathlib import Path

import pytest
from miner_toy import write_ade_toy

from detecture.config import make_config
from detecture.errors import MinerError
from detecture.miner.running import Mine

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason='Ray is not installed: pip install -e ".[ray]"')

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=150, val=10)


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), str(REPO / "tests")]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def mine_of(ade, output, *more):
    overrides = ["MINER.SOURCE.NAME", "ade20k", "MINER.SOURCE.ROOT", str(ade)]
    overrides += ["MINER.SELECT.BY", "all", "MINER.DESCRIBE.OFFLINE_MODEL", "False"]
    return Mine.of(make_config(None, [*overrides, "OUTPUT_DIR", str(output), *more]))


def content_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_node_that_is_killed_loses_nothing_and_doubles_nothing(ade, cluster, tmp_path):
    node = cluster.add_node(num_cpus=1)
    output = tmp_path / "out"
    journal = output / "journals/score.jsonl"

    def kill():
        while not journal.exists() or journal.stat().st_size < 3000:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    more = ["MINER.RUNNING.ENGINE", "ray", "MINER.RUNNING.WORKERS", "2"]
    more += ["MINER.RUNNING.RAY_ADDRESS", cluster.address]
    outcomes = mine_of(ade, output, *more).run()
    killer.join(60)
    assert not killer.is_alive(), "nothing was killed"
    assert all(outcome.failed == 0 for outcome in outcomes)
    for path in (output / "journals").glob("*.jsonl"):
        ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
        assert len(ids) == len(set(ids)), path
    mine_of(ade, tmp_path / "whole").run()
    assert content_of(output / "export") == content_of(tmp_path / "whole/export")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"  # Ray reports home where it is not


def test_a_cluster_that_is_not_there(ade, tmp_path):
    more = ["MINER.RUNNING.ENGINE", "ray", "MINER.RUNNING.RAY_ADDRESS", "127.0.0.1:1"]
    with pytest.raises(MinerError, match=r"cannot be reached.*RAY_ADDRESS"):
        mine_of(ade, tmp_path / "out", *more).run()

"""One launch does all the distributed checks: starting processes is what costs time."""

import json
import os
from pathlib import Path

import pytest
import torch

from detecture.d2 import InferenceSampler, TrainingSampler, comm, launch

WORLD = 2

cpu_only = pytest.mark.skipif(
    torch.accelerator.is_available(),
    reason="two CPU processes: hide the accelerators (CUDA_VISIBLE_DEVICES=) to run this",
)


def test_world_of_one():
    assert (comm.get_world_size(), comm.get_rank()) == (1, 0)
    assert (comm.get_local_rank(), comm.get_local_size()) == (0, 1)
    assert comm.is_main_process()
    comm.synchronize()
    assert comm.all_gather({"a": 1}) == [{"a": 1}]
    assert comm.gather("x") == ["x"]
    assert 0 <= comm.shared_random_seed() < 2**31
    values = {"b": torch.tensor(2.0)}
    assert comm.reduce_dict(values) == values


def note(folder, text):
    (Path(folder) / f"{os.getpid()}.txt").write_text(text)


def test_launch_of_one_process_runs_here(tmp_path):
    launch(note, 1, args=(str(tmp_path), "here"))
    assert (tmp_path / f"{os.getpid()}.txt").read_text() == "here"


def first(sampler, count):
    iterator = iter(sampler)
    return [next(iterator) for _ in range(count)]


def report(folder, scale):
    rank = comm.get_rank()
    data = {"rank": rank, "text": "x" * (1 + 1000 * rank)}  # of different size per rank
    values = [("b", torch.tensor(float(rank))), ("a", torch.tensor(scale))]
    # The order of the keys differs between the processes.
    reduced = comm.reduce_dict(dict(values if rank == 0 else reversed(values)))
    summed = comm.reduce_dict({"n": torch.tensor(rank + 1.0)}, average=False)
    seeds = [comm.shared_random_seed(), comm.shared_random_seed()]
    result = {
        "rank": rank,
        "world": comm.get_world_size(),
        "local": [comm.get_local_rank(), comm.get_local_size()],
        "main": comm.is_main_process(),
        "all_gather": [len(item["text"]) for item in comm.all_gather(data)],
        "gather": [item["rank"] for item in comm.gather(data)],
        "gather_to_1": [item["rank"] for item in comm.gather(data, dst=1)],
        "reduced": {key: float(value) for key, value in reduced.items()},
        "summed": float(summed["n"]),
        "seeds": seeds,
        "training": first(TrainingSampler(6), 6),
        "inference": list(InferenceSampler(5)),
        "threads": torch.get_num_threads(),
        "pid": os.getpid(),
    }
    comm.synchronize()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(result))


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    if torch.accelerator.is_available():
        pytest.skip(cpu_only.kwargs["reason"])
    folder = tmp_path_factory.mktemp("launch")
    launch(report, WORLD, dist_url="auto", args=(str(folder), 4.0))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


def test_ranks(reports):
    assert [one["rank"] for one in reports] == [0, 1]
    assert [one["world"] for one in reports] == [2, 2]
    assert [one["local"] for one in reports] == [[0, 2], [1, 2]]
    assert [one["main"] for one in reports] == [True, False]
    assert len({os.getpid(), *(one["pid"] for one in reports)}) == 3


def test_gathering(reports):
    assert [one["all_gather"] for one in reports] == [[1, 1001], [1, 1001]]
    assert [one["gather"] for one in reports] == [[0, 1], []]
    assert [one["gather_to_1"] for one in reports] == [[], [0, 1]]


def test_reducing(reports):
    assert reports[0]["reduced"] == {"a": 4.0, "b": 0.5}
    assert reports[0]["summed"] == 3.0


def test_shared_seed_is_shared_and_new_each_time(reports):
    assert reports[0]["seeds"] == reports[1]["seeds"]
    assert reports[0]["seeds"][0] != reports[0]["seeds"][1]


def test_samplers_share_the_records(reports):
    zero, one = (report["training"] for report in reports)
    stream = [index for pair in zip(zero, one, strict=True) for index in pair]
    assert sorted(stream[:6]) == list(range(6))
    assert sorted(stream[6:]) == list(range(6))
    assert [report["inference"] for report in reports] == [[0, 1, 2], [3, 4]]


@pytest.mark.lite_only
def test_cpu_processes_share_the_cores(reports):
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for one in reports:
        assert one["threads"] == max(1, cpus // WORLD)


def fail_on_rank_1():
    if comm.get_rank() == 1:
        raise ValueError("the reason is told")
    comm.synchronize()
    comm.all_gather(1)


@cpu_only
def test_error_in_one_process_ends_the_job_and_is_told():
    with pytest.raises(Exception, match="the reason is told"):
        launch(fail_on_rank_1, WORLD, dist_url="auto")


@pytest.mark.lite_only
def test_several_machines_need_an_address():
    with pytest.raises(Exception, match="--dist-url"):
        launch(report, 1, num_machines=2, dist_url="auto")


@pytest.mark.lite_only
def test_local_rank_without_a_local_group_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="create_local_process_group"):
        comm.get_local_rank()
    with pytest.raises(RuntimeError, match="create_local_process_group"):
        comm.get_local_size()

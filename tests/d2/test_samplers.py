import itertools

import pytest

from detecture.d2 import InferenceSampler, TrainingSampler, comm


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def pretend(monkeypatch, rank, world_size):
    """Let samplers believe that this is process `rank` of `world_size`."""
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


def test_training_sampler_is_endless_permutations():
    stream = take(TrainingSampler(7, seed=0), 21)
    passes = [stream[0:7], stream[7:14], stream[14:21]]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1]


def test_training_sampler_without_shuffling():
    assert take(TrainingSampler(3, shuffle=False), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_training_sampler_seed_decides():
    assert take(TrainingSampler(50, seed=4), 60) == take(TrainingSampler(50, seed=4), 60)
    assert take(TrainingSampler(50, seed=4), 50) != take(TrainingSampler(50, seed=5), 50)
    # Seeds that are drawn differ, too (a chance of 1 in 2**31 of failing).
    assert take(TrainingSampler(50), 50) != take(TrainingSampler(50), 50)


def test_training_sampler_can_be_iterated_again_from_the_start():
    sampler = TrainingSampler(20, seed=1)
    assert take(sampler, 25) == take(sampler, 25)


@pytest.mark.parametrize("size", [1, 5, 12])
def test_training_sampler_ranks_share_one_stream(monkeypatch, size):
    world = 3
    whole = take(TrainingSampler(size, seed=9), 4 * world)
    for rank in range(world):
        pretend(monkeypatch, rank, world)
        assert take(TrainingSampler(size, seed=9), 4) == whole[rank::world]


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("world", [1, 2, 4, 5])
def test_inference_sampler_covers_all_once(monkeypatch, size, world):
    shares = []
    for rank in range(world):
        pretend(monkeypatch, rank, world)
        sampler = InferenceSampler(size)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1])
    assert list(itertools.chain.from_iterable(shares)) == list(range(size))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("sampler", [TrainingSampler, InferenceSampler])
def test_empty_data_sets_are_refused(sampler):
    with pytest.raises((ValueError, AssertionError)):
        sampler(0)

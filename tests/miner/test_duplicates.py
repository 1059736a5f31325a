"""Images that look alike are found, and all of them: against every pair compared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from detecture.errors import MinerError
from detecture.miner import duplicates
from detecture.miner.duplicates import near_duplicates, perceptual_hash


def scene(seed, size=(120, 160)):
    """Coarse noise of its own for each seed."""
    noise = np.random.default_rng(seed).normal(size=(*size, 3))
    smooth = ndimage.gaussian_filter(noise, (12, 12, 0))
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


def bits_apart(one, other):
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_what_looks_alike_has_nearly_the_same_hash():
    image = scene(0)
    small = np.asarray(Image.fromarray(image).resize((81, 60)))
    dark = (image * 0.7).astype(np.uint8)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 6, image.shape), 0, 255)
    for changed in (small, dark, noisy.astype(np.uint8)):
        assert bits_apart(perceptual_hash(image), perceptual_hash(changed)) <= 4
    others = [perceptual_hash(scene(seed)) for seed in range(1, 30)]
    assert min(bits_apart(perceptual_hash(image), other) for other in others) > 12


def test_a_plain_image_has_one_hash_whatever_its_colour():
    plain = {perceptual_hash(np.full((33, 47, 3), level, np.uint8)) for level in (0, 77, 255)}
    assert plain == {"0" * 16}


def brute(hashes, distance):
    """The groups by comparing each with each."""
    names = sorted(hashes)
    group = {name: {name} for name in names}
    for one in names:
        for other in names:
            if bits_apart(hashes[one], hashes[other]) <= distance:
                joined = group[one] | group[other]
                for name in joined:
                    group[name] = joined
    return sorted({tuple(sorted(g)) for g in group.values() if len(g) > 1})


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 63), max_size=9)), max_size=25),
    st.integers(0, 16),
)
@settings(max_examples=150, deadline=None)
def test_the_groups_are_those_of_all_pairs(changes, distance):
    centres = np.random.default_rng(0).integers(0, 2**63, 5)
    hashes = {}
    for number, (centre, flipped) in enumerate(changes):
        value = int(centres[centre])
        for bit in flipped:
            value ^= 1 << bit
        hashes[f"i{number}"] = f"{value:016x}"
    assert list(map(tuple, near_duplicates(hashes, distance))) == brute(hashes, distance)


def test_blocks_and_order_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = {f"i{n}": f"{int(v):016x}" for n, v in enumerate(rng.integers(0, 2**10, 150))}
    whole = near_duplicates(hashes, 2)
    monkeypatch.setattr(duplicates, "_PAIRS_AT_ONCE", 64)
    assert near_duplicates(dict(reversed(hashes.items())), 2) == whole
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert near_duplicates(hashes, 2) == whole


def test_many_equal_ones_are_one_node(monkeypatch):
    compared = []
    count = duplicates._bit_counts
    monkeypatch.setattr(duplicates, "_bit_counts", lambda x: compared.append(x.size) or count(x))
    hashes = {f"i{n:05}": "0" * 16 for n in range(20_000)} | {"other": "f" * 16}
    (group,) = near_duplicates(hashes, 6)
    assert len(group) == 20_000
    assert sum(compared) <= 100


def test_each_is_compared_with_few(monkeypatch):
    compared = []
    count = duplicates._bit_counts
    monkeypatch.setattr(duplicates, "_bit_counts", lambda x: compared.append(x.size) or count(x))
    values = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    values[-1] = values[0] ^ np.uint64(0b111)
    hashes = {f"i{n:05}": f"{int(v):016x}" for n, v in enumerate(values)}
    assert near_duplicates(hashes, 6) == [["i00000", "i19999"]]
    assert sum(compared) < 0.02 * 20_000**2


def test_nothing_and_errors():
    assert near_duplicates({}, 6) == []
    assert near_duplicates({"a": "0" * 16}, 6) == []
    with pytest.raises(MinerError, match="DUPLICATE_DISTANCE"):
        near_duplicates({}, 17)
    for bad in ("xyz", "0" * 17, "g" * 16):
        with pytest.raises(MinerError, match=r"a: .* is no hash"):
            near_duplicates({"a": bad}, 6)

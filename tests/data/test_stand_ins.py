"""The procedural data sets in the regimes of the published ones."""

import pytest

from detecture.config import make_config
from detecture.d2 import MetadataCatalog
from detecture.data import (
    build_test_loader,
    load_ground_truth,
    load_registered,
    load_test_records,
)
from detecture.data.synthetic import plan_of, render_scene

NAMES = {"synthetic_single": 200, "synthetic_pair": 200, "synthetic_autonomous": 212}


@pytest.mark.parametrize(("name", "length"), NAMES.items())
def test_regions_go_with_the_regime(name, length):
    records = load_registered(name)
    assert len(records) == len(list(records)) == length
    assert len({record["image_id"] for record in records}) == length
    counts = set()
    for record in records[:12]:
        truth = load_ground_truth(record, 10**6)
        counts.add(len(truth.masks))
        if name == "synthetic_single":
            assert 0.05 < (truth.index_map == 0).mean() < 0.95
        elif name == "synthetic_pair":
            assert (truth.index_map > 0).all()
    regime = MetadataCatalog.get(name).k_regime
    due = {"single": {1}, "pair": {2}}.get(regime)
    assert counts == due if due else len(counts) > 2


def test_the_plan_is_what_is_drawn():
    for index in range(6):
        count, leaves_part = plan_of(6, index)
        scene = render_scene(6, index, 64, edition=2)
        assert len(scene.masks) == count
        assert (~scene.masks.any(axis=0)).any() == leaves_part


def test_an_evaluation_can_be_limited():
    assert len(load_test_records("synthetic_pair", 3)) == 3
    assert len(load_test_records("synthetic_pair", 0)) == 200
    cfg = make_config(None, ["TEST.LIMIT", "2", "DATALOADER.NUM_WORKERS", "0"])
    loader = build_test_loader(cfg, "synthetic_pair")
    samples = [sample for batch in loader for sample in batch]
    assert [s["image_id"] for s in samples] == [
        r["image_id"] for r in load_registered("synthetic_pair")[:2]
    ]
    assert [s["k_hint"].k for s in samples] == [2, 2]

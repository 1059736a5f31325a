"""Which published description is of which mask, where that was read."""

import json

import pytest

from detecture.data import load_registered
from detecture.data.datasets import description_order as module
from detecture.data.datasets.description_order import description_order, fingerprint

TEXTS = ["a shell", "the sand around it"]


@pytest.fixture
def read(tmp_path, monkeypatch):
    entries = {
        name: {"order": name, "descriptions": fingerprint(TEXTS)}
        for name in ("straight", "swapped", "neither")
    }
    path = tmp_path / "order.json"
    path.write_text(json.dumps({"beach": entries}))
    monkeypatch.setattr(module, "_FILE", path)
    module._read.cache_clear()
    yield
    module._read.cache_clear()


@pytest.mark.parametrize(
    ("dataset", "image_id", "texts", "expected"),
    [
        ("beach", "straight", TEXTS, (0, 1)),
        ("beach", "swapped", TEXTS, (1, 0)),
        ("beach", "neither", TEXTS, None),
        ("beach", "unread", TEXTS, None),
        ("desert", "straight", TEXTS, None),
        # A release that mended them itself must not be turned a second time.
        ("beach", "swapped", TEXTS[::-1], None),
        ("beach", "swapped", ["a shell"], None),
    ],
)
def test_order(read, dataset, image_id, texts, expected):
    assert description_order(dataset, image_id, texts) == expected


def test_every_picture_of_rwtd_that_is_here_was_read(require_dataset):
    require_dataset("RWTD")
    entries = module._read()["rwtd"]
    for record in load_registered("rwtd"):
        texts = [texture["description"] for texture in record["textures"]]
        assert entries[record["image_id"]]["descriptions"] == fingerprint(texts)

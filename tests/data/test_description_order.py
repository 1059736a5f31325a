"""Which published description is of which mask, where that was read."""

import json

import pytest

from detecture.data import load_registered
from detecture.data.datasets import description_order as module
from detecture.data.datasets.description_order import fingerprint, order_of_descriptions

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
    assert order_of_descriptions(dataset, image_id, texts) == expected


def test_what_was_read_of_rwtd_is_what_is_published(require_dataset):
    require_dataset("RWTD")
    entries = module._read()["rwtd"]
    found = {
        record["image_id"]: fingerprint([texture["description"] for texture in record["textures"]])
        for record in load_registered("rwtd")
    }
    assert {name: entry["descriptions"] for name, entry in entries.items()}.items() <= found.items()
    assert len(entries) == 127

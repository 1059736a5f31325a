"""`synthetic_test` is frozen: its pixels and masks have committed hashes.

frozen.json holds the SHA-256 of single images (`Scene.digest`) and that of all 1,000 (over the
hexadecimal digests in order). Scores on the set are only comparable while they stay. With
DETECTURE_SLOW_TESTS=1 all 1,000 images are drawn (about a minute).
"""

import hashlib
import json
from pathlib import Path

import pytest

from detecture.data import load_registered
from detecture.data.synthetic import render_scene

FROZEN = json.loads((Path(__file__).parent / "frozen.json").read_text())


def test_sample():
    records = load_registered("synthetic_test")
    assert len(records) == FROZEN["count"] and records[0]["seed"] == FROZEN["seed"]
    assert len(FROZEN["images"]) == 20
    found = {i: render_scene(FROZEN["seed"], int(i)).digest() for i in FROZEN["images"]}
    assert found == FROZEN["images"]


@pytest.mark.slow
@pytest.mark.slow
def test_all():
    digests = (render_scene(FROZEN["seed"], i).digest() for i in range(FROZEN["count"]))
    assert hashlib.sha256("".join(digests).encode()).hexdigest() == FROZEN["all"]

"""Why a job failed, as its folder tells."""

import pytest

from detecture.jobs.crew import read_failure


def test_no_failure(tmp_path):
    assert read_failure(tmp_path) == ""
    (tmp_path / "failure.json").write_text('{"note": "boom", "status": 1}')
    assert read_failure(tmp_path) == "boom"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"5", b"{}", b"\xff", b"[" * 100_000])
def test_a_damaged_failure_is_still_one(tmp_path, content):
    (tmp_path / "failure.json").write_bytes(content)
    assert "failure.json cannot be read" in read_failure(tmp_path)

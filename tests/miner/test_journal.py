"""The journal of a stage: kills, damage, and other settings."""

import logging
import os

import pytest

from detecture.errors import MinerError
from detecture.miner.journal import Journal, files_of


def write(path, count, stage_hash="h", start=0, **more):
    with Journal(path, stage_hash) as journal:
        for index in range(start, start + count):
            journal.append(f"item{index}", {"status": "ok", "value": index, **more}, "12-3", "g")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journals" / "score.jsonl"


def test_results_are_read_again(path):
    write(path, 3)
    journal = Journal(path, "h")
    assert len(journal) == 3 and not journal.damaged
    assert journal.get("item1") == {"status": "ok", "value": 1}
    assert journal.get("none") is None
    assert [item for item, _ in journal.results()] == ["item0", "item1", "item2"]
    assert journal.status("item1") == journal.status("item1", "12-3") == "ok"
    assert journal.status("item1", "99-3") == ""  # the image has changed
    assert journal.status("item1", "12-3", "g") == "ok"
    assert journal.status("item1", "12-3", "other") == ""


def test_no_file_is_an_empty_journal(path):
    assert len(Journal(path, "h")) == 0 and not path.exists()


def test_a_kill_at_any_byte_of_the_last_line_loses_that_record_alone(path):
    write(path, 3)
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        found = Journal(path, "h")
        # All but the line's end is written: then the record is whole.
        expected = 3 if end == len(whole) - 1 else 2
        assert len(found) == expected, end
        write(path, 3 - expected, start=expected)
        write(path, 1, start=3)
        again = Journal(path, "h")
        assert again.ids() == [f"item{index}" for index in range(4)] and not again.damaged
    assert [entry.name for entry in path.parent.iterdir()] == ["score.jsonl"]


def test_a_damaged_line_is_told_and_set_aside(path, caplog):
    write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = lines[1].replace(b'"value": 1', b'"value": 7')
    path.write_bytes(lines[0] + changed + b"\x00\xff nonsense\n" + lines[2] + lines[3])
    journal = Journal(path, "h")
    assert journal.ids() == ["item0", "item2", "item3"]
    assert [damage.number for damage in journal.damaged] == [2, 3]
    before = path.read_bytes()
    assert Journal(path, "h").damaged and path.read_bytes() == before  # a reader changes nothing
    with caplog.at_level(logging.WARNING), journal:
        assert "2 damaged lines" in caplog.text
        journal.append("item1", {"status": "ok", "value": 1})
        assert journal.get("item3") == {"status": "ok", "value": 3}
    aside = path.with_name("score.damaged-1.jsonl")
    assert aside.read_bytes() == changed + b"\x00\xff nonsense\n"
    again = Journal(path, "h")
    assert len(again) == 4 and not again.damaged


def test_the_last_result_of_an_item_counts(path):
    with Journal(path, "h") as journal:
        journal.append("a", {"status": "failed", "reason": "no answer"})
        assert journal.status("a") == "failed"
        journal.append("a", {"status": "ok"})
        assert journal.status("a") == "ok" and journal.get("a") == {"status": "ok"}
    assert Journal(path, "h").counts() == {"ok": 1}


def test_results_of_other_settings_are_kept_and_not_used(path):
    write(path, 2, "h")
    write(path, 1, "other")
    assert Journal(path, "other").ids() == ["item0"]
    assert Journal(path, "h").ids() == ["item0", "item1"]  # they cost something once
    assert Journal(path, "third").ids() == []


def test_files_that_later_settings_have_replaced_are_not_used(path):
    write(path, 2, "h", index_mask="extract/x.png")
    write(path, 1, "other", index_mask="extract/x.png")
    assert Journal(path, "h").ids() == ["item1"]


def test_what_is_no_number_is_refused_and_writes_nothing(path):
    with Journal(path, "h") as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append("a", {"status": "ok", "value": float("nan")})
        assert path.read_bytes() == b""


def test_a_full_disk_is_told(path, monkeypatch):
    with Journal(path, "h") as journal:
        journal.append("a", {"status": "ok"})
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:5]))
        with pytest.raises(MinerError, match="Make room"):
            journal.append("b", {"status": "ok"})
        monkeypatch.undo()
    assert Journal(path, "h").ids() == ["a"]
    write(path, 1, start=5)
    assert Journal(path, "h").ids() == ["a", "item5"]


def test_a_journal_that_is_not_open_takes_nothing(path):
    with pytest.raises(MinerError, match="not open"):
        Journal(path, "h").append("a", {"status": "ok"})


def test_a_folder_in_its_place_is_told(path):
    path.mkdir(parents=True)
    with pytest.raises(MinerError, match="cannot be read"):
        Journal(path, "h")


def test_files_that_a_result_names():
    assert files_of({"index_mask": "a.png", "files": {"b.png": "1", "c.png": "2"}}) == [
        *("a.png", "b.png", "c.png")
    ]
    assert files_of({"status": "ok"}) == []

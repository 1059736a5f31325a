"""The engine of the miner, with stages that stand in for the real ones."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from miner_toy import use_toy_stages, write_ade_toy, write_textured_toy
from PIL import Image

from detecture.config import make_config
from detecture.data.validate import check_dataset
from detecture.errors import MinerError
from detecture.miner import stages
from detecture.miner.published_set import folder_of
from detecture.miner.running import Mine

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=6, val=2)


@pytest.fixture(autouse=True)
def toy_stages(monkeypatch):
    use_toy_stages(monkeypatch)


def mine_of(ade, output, *more, **settings):
    overrides = ["MINER.SOURCE.NAME", "ade20k", "MINER.SOURCE.ROOT", str(ade)]
    cfg = make_config(None, [*overrides, "OUTPUT_DIR", str(output), *more])
    return Mine.of(cfg, **settings)


def done_of(outcomes):
    return {outcome.stage: outcome.done for outcome in outcomes}


def content_of(folder):
    """All but the notes on what was written, which list earlier contents too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def check(mine, split):
    folder = folder_of(mine.context)
    path = folder / f"{split}_metadata.json"
    return check_dataset(split, str(path), str(folder), max_pixels=10**8)


def test_all_stages_and_a_data_set_without_faults(ade, tmp_path):
    mine = mine_of(ade, tmp_path / "out")
    outcomes = mine.run()
    done = done_of(outcomes)
    assert list(done) == [
        *("score", "extract", "expand", "describe", "validate", "look", "split", "export")
    ]
    assert done["score"] == 8
    taken = done["extract"]
    assert 0 < taken < 8  # those with a person are left out
    assert all(done[name] == taken for name in ("describe", "validate", "split", "export"))
    for split in ("train", "val"):
        report = check(mine, split)
        assert report.ok and not report.findings, report.findings
    folder = folder_of(mine.context)
    entries = json.loads((folder / "metadata.json").read_text())
    assert len(entries) == taken
    entry = entries[0]
    assert (folder / entry["image_path"]).read_bytes() == (
        ade / "images/training" / f"{entry['id']}.jpg"
    ).read_bytes()
    mask = np.asarray(Image.open(folder / entry["textures"][0]["mask_path"]))
    assert set(np.unique(mask)) <= {0, 255}
    assert not (tmp_path / "out/progress.json").exists()


def test_a_second_run_does_nothing_and_leaves_the_same_files(ade, tmp_path):
    mine_of(ade, tmp_path / "out").run()
    before = content_of(tmp_path / "out")
    assert set(done_of(mine_of(ade, tmp_path / "out").run()).values()) == {0}
    assert content_of(tmp_path / "out") == before


def test_a_limit_and_then_more(ade, tmp_path):
    assert done_of(mine_of(ade, tmp_path / "out", limit=5).run())["score"] == 5
    assert done_of(mine_of(ade, tmp_path / "out").run())["score"] == 3
    mine_of(ade, tmp_path / "whole").run()
    assert content_of(tmp_path / "out/export") == content_of(tmp_path / "whole/export")


def test_what_failed_is_done_again_when_asked_alone(ade, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "fail").write_text("ADE_train_00000001 ADE_train_00000002")
    first = mine_of(ade, output).run()[0]
    assert (first.done, first.failed) == (8, 2)
    result = mine_of(ade, output).journal("score").get("ADE_train_00000001")
    assert result == {"status": "failed", "reason": "RuntimeError: told to fail"}
    (output / "fail").unlink()
    assert done_of(mine_of(ade, output).run())["score"] == 0  # not without being told to
    outcomes = mine_of(ade, output, retry_failed=True).run()
    assert (outcomes[0].done, outcomes[0].failed) == (2, 0)
    mine_of(ade, tmp_path / "whole").run()
    assert content_of(output / "export") == content_of(tmp_path / "whole/export")


def test_retrying_is_refused_where_a_key_has_changed_and_nothing_is_lost(ade, tmp_path):
    mine_of(ade, tmp_path / "out").run()
    before = content_of(tmp_path / "out/export")
    for key, stage in (("MINER.SPLIT.SEED", "split"), ("MINER.SCORE.LONG_SIDE", "score")):
        changed = mine_of(ade, tmp_path / "out", key, "70", retry_failed=True)
        with pytest.raises(MinerError, match=f"the settings of stage {stage} have changed"):
            changed.run()
    assert content_of(tmp_path / "out/export") == before


def test_retrying_leaves_what_is_merely_missing(ade, tmp_path):
    mine_of(ade, tmp_path / "out", limit=4).run()
    outcomes = mine_of(ade, tmp_path / "out", retry_failed=True).run(["score", "extract"])
    assert set(done_of(outcomes).values()) == {0}


def test_too_many_failures_in_a_row_end_the_run(ade, tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "fail").write_text(" ".join(f"ADE_train_{n:08d}" for n in range(1, 7)))
    mine = mine_of(ade, output, "MINER.RUNNING.FAILURES_IN_A_ROW", "3")
    with pytest.raises(MinerError, match=r"3 images in a row.*told to fail"):
        mine.run()


def test_a_changed_key_does_again_what_rests_on_it_and_nothing_else(ade, tmp_path, monkeypatch):
    output = tmp_path / "out"
    mine_of(ade, output).run()
    calls = (output / "calls").read_text()

    # A key that says how to run changes nothing.
    again = mine_of(ade, output, "MINER.DESCRIBE.CONCURRENCY", "2").run()
    assert set(done_of(again).values()) == {0}

    # What merely lets images in costs only those that are new.
    taken = mine_of(ade, output).run()[1].counts["ok"]
    done = done_of(mine_of(ade, output, "MINER.SELECT.BY", "all").run())
    assert done["score"] == 0 and done["extract"] == done["describe"] == 8 - taken
    assert (output / "calls").read_text().startswith(calls)
    monkeypatch.undo()

    # A stage's own settings: itself and what takes from it.
    use_toy_stages(monkeypatch)
    new = stages.replace(stages.STAGES["extract"], version=2)
    monkeypatch.setitem(stages.STAGES, "extract", new)
    done = done_of(mine_of(ade, output).run())
    assert done["score"] == done["look"] == 0
    assert done["extract"] == done["describe"] == done["export"] == taken


def test_images_that_are_taken_no_longer_leave_the_data_set(ade, tmp_path):
    output = tmp_path / "out"
    mine = mine_of(ade, output, "MINER.SELECT.BY", "all")
    mine.run()
    changed = next((folder_of(mine.context) / "images").glob("ADE_val*2.jpg"))
    changed.write_bytes(changed.read_bytes() + b"mine")
    picked = tmp_path / "picked.txt"
    picked.write_text("ade20k/ADE_train_00000001\nADE_train_00000004\n")
    overrides = ["MINER.SELECT.BY", "picked", "MINER.SELECT.PICKED", str(picked)]
    mine = mine_of(ade, output, *overrides)
    mine.run()
    folder = folder_of(mine.context)
    entries = json.loads((folder / "metadata.json").read_text())
    assert [entry["id"] for entry in entries] == ["ADE_train_00000001", "ADE_train_00000004"]
    images = {path.name for path in (folder / "images").iterdir()}
    assert images == {"ADE_train_00000001.jpg", "ADE_train_00000004.jpg", changed.name}


def test_a_file_that_is_gone_is_written_again(ade, tmp_path):
    mine = mine_of(ade, tmp_path / "out")
    mine.run()
    before = content_of(tmp_path / "out/export")
    next((folder_of(mine.context) / "textures_mask").iterdir()).unlink()
    next((tmp_path / "out/extract").iterdir()).write_bytes(b"")
    done = done_of(mine_of(ade, tmp_path / "out").run())
    assert done["export"] >= 1 and done["extract"] == 1 and done["describe"] == 0
    assert content_of(tmp_path / "out/export") == before


def test_a_file_that_was_cut_is_written_again(ade, tmp_path):
    mine = mine_of(ade, tmp_path / "out")
    mine.run()
    before = content_of(tmp_path / "out/export")
    folder = folder_of(mine.context)
    for path in (*folder.glob("textures_mask/*"), *folder.glob("images/*01.jpg")):
        path.write_bytes(path.read_bytes()[:-7])
    cut = next((tmp_path / "out/extract").iterdir())
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    mine_of(ade, tmp_path / "out").run()
    assert cut.read_bytes() == whole
    assert content_of(tmp_path / "out/export") == before


@pytest.mark.parametrize("name", ["extract", "regions", "corrections", "journals"])
def test_files_of_the_user_s_own_are_not_written_over(ade, tmp_path, name):
    own = tmp_path / "out" / name / "ADE_train_00000001.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(MinerError, match=rf"{own.name}: is there already.*choose another"):
        mine_of(ade, tmp_path / "out").run()
    assert own.read_bytes() == b"mine" and not (tmp_path / "out/config.yaml").exists()


def test_a_changed_image_is_done_again(tmp_path):
    ade = write_ade_toy(tmp_path, count=3, val=0)
    mine_of(ade, tmp_path / "out", "MINER.SELECT.BY", "all").run()
    image = ade / "images/training/ADE_train_00000002.jpg"
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(image)
    done = done_of(mine_of(ade, tmp_path / "out", "MINER.SELECT.BY", "all").run())
    assert {done[name] for name in ("score", "extract", "describe", "export")} == {1}, done


@pytest.mark.parametrize("reuse", [False, True])
def test_variants_share_regions_and_if_so_told_descriptions(ade, tmp_path, reuse):
    textured = write_textured_toy(tmp_path, ade)
    source = ["MINER.SOURCE.NAME", "textured_ade20k", "MINER.SOURCE.ROOT", str(textured)]
    source += ["MINER.SOURCE.ANNOTATION_ROOT", str(ade), "MINER.SOURCE.DEGREES", "(0.0,)"]
    more = ["MINER.EXPAND.REUSE_DESCRIPTIONS", str(reuse)]
    mine = mine_of(ade, tmp_path / "out", *source, *more)
    done = done_of(mine.run())
    taken = done["extract"]
    assert done["score"] == 6 and done["expand"] >= taken
    assert done["describe"] == (taken if reuse else 2 * taken)
    assert done["export"] == done["split"] == done["look"] == 2 * taken
    entries = json.loads((folder_of(mine.context) / "metadata.json").read_text())
    assert {entry["degree"] for entry in entries} == {0.0, 1.0}
    assert all(t["description"] for entry in entries for t in entry["textures"])
    assert check(mine, "train").ok and check(mine, "val").ok
    again = mine_of(ade, tmp_path / "out", *source, *more)
    assert set(done_of(again.run()).values()) == {0}


def test_an_error_of_the_disk_is_told_as_what_it_is(ade, tmp_path, monkeypatch):
    def raising(number):
        def write(*args):
            raise OSError(number, os.strerror(number), "out/config.yaml")

        return write

    for number, text in (
        (errno.ENOSPC, r"out/config.yaml: cannot be written \(No space left.*make room, and run"),
        (errno.ELOOP, r"out/config.yaml: Too many levels of symbolic links; mend that, and run"),
    ):
        monkeypatch.setattr("detecture.miner.running.write_config", raising(number))
        with pytest.raises(MinerError, match=text):
            mine_of(ade, tmp_path / "out").run()


def test_keys_of_a_stage_that_is_off_are_named(ade, tmp_path, caplog):
    mine_of(ade, tmp_path / "out", "MINER.CLIP.BATCH_SIZE", "3").run(["score"])
    assert "MINER.CLIP.BATCH_SIZE: set without effect, since ENABLED" in caplog.text


def test_a_second_run_at_the_same_time_is_refused(ade, tmp_path):
    mine = mine_of(ade, tmp_path / "out")
    with mine.lock(), pytest.raises(MinerError, match="another run of the miner"):
        mine_of(ade, tmp_path / "out").run()


def test_a_stage_before_its_time_and_one_that_is_none(ade, tmp_path):
    with pytest.raises(MinerError, match="stage score has no results"):
        mine_of(ade, tmp_path / "out").run(["extract"])
    with pytest.raises(MinerError, match="not one of score"):
        mine_of(ade, tmp_path / "out").run(["scores"])
    (tmp_path / "none").mkdir()
    with pytest.raises(MinerError, match="none: holds no images"):
        mine_of(tmp_path / "none", tmp_path / "out").run()
    assert not (tmp_path / "out").exists()


def test_an_output_among_the_images_is_refused(ade):
    with pytest.raises(MinerError, match="lies in the folder of the images"):
        mine_of(ade, ade / "images" / "out")


def test_a_data_set_of_somebody_else_is_left_alone(ade, tmp_path):
    folder = tmp_path / "out/export/ADE20K_textured_images"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text("[]")
    with pytest.raises(MinerError, match="holds no data set of the miner"):
        mine_of(ade, tmp_path / "out").run()
    assert [path.name for path in folder.iterdir()] == ["metadata.json"]
    assert not (tmp_path / "out/journals").exists()  # it is found before the work, not behind it


def test_a_stage_that_there_is_not(ade, tmp_path, monkeypatch):
    new = stages.replace(stages.STAGES["score"], make="detecture.miner.nothing:make")
    monkeypatch.setitem(stages.STAGES, "score", new)
    with pytest.raises(MinerError, match="has no stage score"):
        mine_of(ade, tmp_path / "out").run()


@pytest.mark.slow
def test_processes_give_the_same_data_set_and_tell_why_they_cannot_begin(
    ade, tmp_path, monkeypatch
):
    mine_of(ade, tmp_path / "one").run()
    mine_of(ade, tmp_path / "two", "MINER.RUNNING.WORKERS", "2").run()
    assert content_of(tmp_path / "one/export") == content_of(tmp_path / "two/export")
    new = stages.replace(stages.STAGES["score"], make="detecture.miner.nothing:make")
    monkeypatch.setitem(stages.STAGES, "score", new)
    with pytest.raises(MinerError, match="cannot begin: this version of detecture has no"):
        mine_of(ade, tmp_path / "three", "MINER.RUNNING.WORKERS", "2").run()


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
import miner_toy
from dataclasses import replace
from detecture.config import make_config
from detecture.miner import stages
from detecture.miner.running import Mine

for name in ("score", "extract", "describe", "validate", "expand", "look", "split"):
    new = replace(stages.STAGES[name], make=f"miner_toy:toy_{{name}}")
    stages.STAGES[name] = new
if __name__ == "__main__":
    Mine.of(make_config(None, sys.argv[1:])).run()
"""


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        pytest.param("SIGKILL", "2", marks=pytest.mark.slow),
        pytest.param("SIGKILL", "1", marks=pytest.mark.long),
        pytest.param("SIGINT", "2", marks=pytest.mark.long),
    ],
)
def test_a_run_that_was_ended_goes_on(tmp_path, how, workers):
    ade = write_ade_toy(tmp_path, count=60, val=0)
    mine_of(ade, tmp_path / "whole").run()
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=str(REPO / "tests")))
    output = tmp_path / "out"
    overrides = ["MINER.SOURCE.NAME", "ade20k", "MINER.SOURCE.ROOT", str(ade), "OUTPUT_DIR"]
    command = [sys.executable, str(script), *overrides, str(output)]
    command += ["MINER.RUNNING.WORKERS", workers]
    for journal in ("score", "extract", "export"):
        process = subprocess.Popen(command, cwd=REPO, stderr=subprocess.DEVNULL)
        path = output / "journals" / f"{journal}.jsonl"
        while process.poll() is None and not (path.exists() and path.stat().st_size > 3000):
            time.sleep(0.01)
        process.send_signal(getattr(signal, how))
        process.wait(60)
    subprocess.run(command, cwd=REPO, check=True, stderr=subprocess.DEVNULL)
    assert content_of(output / "export") == content_of(tmp_path / "whole/export")
    calls = (output / "calls").read_text().split()
    assert len(calls) <= len(set(calls)) + 3 * 4  # those in work at a kill, four threads
    for path in (output / "journals").iterdir():
        assert os.fspath(path).endswith(".jsonl")
        assert "damaged" not in path.name

"""Some cases of each target every day, 1,500 with DETECTURE_SLOW_TESTS=1, 15,000 with
DETECTURE_LONG_TESTS=1. Every case follows from its number: what is green here stays so.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detecture.errors import ConfigError
from tests.fuzz.case import SEED, Target, load_targets
from tests.fuzz.judge import MOST_GROWTH, clear, judge, memory
from tests.fuzz.run import REPO, planned, report, run_cases, told

EVERY_DAY = 8  # cases of each target
SLOW, LONG = 1500, 15_000
TARGETS = load_targets()

pytestmark = pytest.mark.filterwarnings("ignore")  # odd input makes libraries say odd things


@pytest.mark.parametrize("name", TARGETS)
def test_some_cases(name, tmp_path):
    baseline = memory("VmRSS")
    outcomes = []
    for number in range(EVERY_DAY):
        folder = tmp_path / f"{name}-{number}"
        outcomes.append(judge(TARGETS[name], number, SEED, folder, baseline))
        if outcomes[-1].kind != "fault":
            clear(folder)
    faults = [one for one in outcomes if one.kind == "fault"]
    assert not faults, "\n".join(map(told, faults)) + f"\n{faults[0].text}"


@pytest.mark.slow
def test_many_cases(tmp_path):
    cases = LONG if os.environ.get("DETECTURE_LONG_TESTS") == "1" else SLOW
    outcomes = run_cases(planned(TARGETS, cases), SEED, 2, tmp_path / "faults")
    print("\n".join(report(outcomes)))
    assert len(outcomes) >= 0.98 * cases
    faults = [one for one in outcomes if one.kind == "fault"]
    assert not faults, "\n".join(map(told, faults[:20]))


def test_cases_follow_from_their_number(tmp_path):
    one, other = ({} for _ in range(2))
    for found, folder in ((one, tmp_path / "one"), (other, tmp_path / "other")):
        for name in ("metadata", "image", "journal"):
            judge(TARGETS[name], 3, SEED, folder / name, 0)
        for path in folder.rglob("*"):
            if path.is_file():
                found[path.relative_to(folder)] = path.read_bytes()
    assert one and one == other


def outcome_of(run, folder, baseline=None):
    baseline = memory("VmRSS") if baseline is None else baseline
    return judge(Target("x", run, 1), 0, SEED, folder, baseline)


def refuse(case):
    raise ConfigError("x")


def refuse_what_is_sound(case):
    case.sound = True
    raise ConfigError("x")


def stop(case):
    raise SystemExit(0)


def write_here(case):
    Path("x").touch()


def write_at_home(case):
    Path("~/x").expanduser().touch()


@pytest.mark.parametrize(
    ("run", "kind", "text"),
    [
        (lambda case: None, "right", ""),
        (refuse, "refused", "x"),
        (refuse_what_is_sound, "fault", "refused what is valid"),
        (lambda case: [][0], "fault", "IndexError"),
        (stop, "fault", "SystemExit"),
        (write_here, "fault", "wrote to the current folder"),
        (write_at_home, "fault", "wrote to the current folder, or the home"),
    ],
)
def test_the_rules(run, kind, text, tmp_path):
    found = outcome_of(run, tmp_path / "case")
    assert (found.kind, text in found.text) == (kind, True), found


def test_memory_and_time_have_bounds(tmp_path, monkeypatch):
    if not memory("VmHWM"):
        pytest.skip("this system does not tell how much memory is used")
    found = outcome_of(lambda case: None, tmp_path, memory("VmRSS") - MOST_GROWTH - (64 << 20))
    assert found.kind == "fault" and "MB of memory" in found.text
    monkeypatch.setattr("tests.fuzz.judge.MOST_SECONDS", 0.1)
    found = outcome_of(lambda case: time.sleep(30), tmp_path)
    assert found.kind == "fault" and "no end within" in found.text and found.seconds < 10


@pytest.mark.slow
def test_a_case_that_ends_its_process_is_told_and_the_others_go_on(tmp_path):
    cases = [("class_text", 0), ("there is none", 7), ("class_text", 1)]
    told_of = []
    outcomes = run_cases(cases, SEED, 1, tmp_path, told_of.append)
    assert [one.kind == "fault" for one in outcomes] == [False, True, False]
    assert "the process ended" in outcomes[1].text
    assert len(told_of) == 1 and "there is none 7" in told_of[0]


@pytest.mark.slow
def test_a_case_that_cannot_be_interrupted_is_ended(tmp_path, monkeypatch):
    """By the watchdog, from without."""
    monkeypatch.setattr("tests.fuzz.run.MOST_SECONDS", 0.0)
    monkeypatch.setattr("tests.fuzz.run._GRACE_SECONDS", 0.0)
    (outcome,) = run_cases([("sentence", 0)], SEED, 1, tmp_path, lambda _: None)
    assert outcome.kind == "fault" and "no end within" in outcome.text


@pytest.mark.slow
def test_workers_see_what_is_written_and_run_elsewhere(tmp_path):
    """What is seen cannot be unseen, so in a process of its own."""
    script = f"""
import subprocess, sys
from pathlib import Path
from tests.fuzz.case import Target
from tests.fuzz.judge import judge, memory, watch_writes
watch_writes()
def bad(case):
    Path({str(tmp_path / "outside")!r}).touch()
    subprocess.run([sys.executable, "-c", ""])
def good(case):
    (case.folder / "x").touch()
for run in (bad, good):
    folder = Path({str(tmp_path)!r}) / run.__name__
    found = judge(Target("x", run, 1), 0, 1, folder, memory("VmRSS"))
    print(found.kind, found.text)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=REPO,
        check=True,
    )
    bad, good = done.stdout.splitlines()
    assert "outside of the case's folder" in bad and "subprocess.Popen" in bad
    assert good.strip() == "right"

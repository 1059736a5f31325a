"""Some cases of each target every day, 1,500 with DETECTURE_SLOW_TESTS=1, 15,000 with
DETECTURE_LONG_TESTS=1. Every case follows from its number: what is green here stays so."""

import os

import pytest

from tests.fuzz.case import SEED, load_targets
from tests.fuzz.judge import MOST_BYTES, clear, judge, memory
from tests.fuzz.run import planned, report, run_cases, told

EVERY_DAY = 8  # cases of each target
SLOW, LONG = 1500, 15_000
TARGETS = load_targets()


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
            judge(TARGETS[name], 3, SEED, folder, 0)
        for path in folder.rglob("*"):
            if path.is_file():
                found[path.relative_to(folder)] = path.read_bytes()
    assert one and one == other


def test_rules():
    assert MOST_BYTES == 2000

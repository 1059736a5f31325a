"""The bounds of setup.py, which `make test-oldest` installs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from oldest import EXTRAS, declared, lower_bound, oldest
from packaging.requirements import Requirement
from packaging.version import Version

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def given():
    return declared()


def everything(given):
    return [*given["install_requires"], *(r for e in given["extras_require"].values() for r in e)]


def test_every_requirement_has_a_bound_that_its_oldest_version_fits(given):
    for text in everything(given):
        requirement = Requirement(text)
        if requirement.name == "ruff":  # its format changes from one to the next
            assert [s.operator for s in requirement.specifier] == ["=="]
            continue
        name, version = lower_bound(text)
        assert name.split("[")[0] == requirement.name
        assert requirement.specifier.contains(version), text


def test_a_package_has_one_bound_wherever_it_is_named(given):
    bounds = {}
    for text in everything(given):
        requirement = Requirement(text)
        assert bounds.setdefault(requirement.name.lower(), text) == text


def test_majors_that_are_not_known_yet_are_left_out(given):
    upper = {"transformers": "6", "gradio": "7", "ray": "2.64"}
    found = {Requirement(t).name: Requirement(t).specifier for t in everything(given)}
    for name, first in upper.items():
        assert not found[name].contains(first, prereleases=True), name


def test_oldest_covers_the_package_and_all_extras_but_two(given):
    assert {*EXTRAS, "meta-sam3", "dev"} == set(given["extras_require"])
    names = {line.split("==")[0] for line in oldest()}
    wanted = [*given["install_requires"], *(r for e in EXTRAS for r in given["extras_require"][e])]
    assert names == {lower_bound(text)[0] for text in wanted}
    done = subprocess.run(
        [sys.executable, "-S", str(REPO / "tests/oldest.py")], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == oldest()  # without any package


def test_dev_has_all_extras(given):
    extras = given["extras_require"]
    assert {r for name, e in extras.items() if name != "dev" for r in e} <= set(extras["dev"])


def test_a_requirement_without_a_lower_bound_is_refused():
    for text in ("types-tqdm", "numpy<3", "torch!=2.9.*"):
        with pytest.raises(ValueError, match="NAME>=VERSION"):
            lower_bound(text)
    assert lower_bound("ray[data]>=2.40,<2.64") == ("ray[data]", "2.40")


def test_the_oldest_python_is_the_one_that_is_promised(given):
    minimum = given["python_requires"].removeprefix(">=")
    assert f"python{minimum}" in (REPO / "Makefile").read_text()
    assert f"Python {minimum} to" in (REPO / "INSTALL.md").read_text()
    assert Version(minimum) == Version("3.10")


def test_the_tests_that_make_runs_are_there():
    text = (REPO / "Makefile").read_text().replace("\\\n", " ")
    listed = re.search(r"^OLDEST_TESTS \?= (.+)$", text, re.MULTILINE)[1].split()
    assert len(listed) > 8
    assert [name for name in listed if not (REPO / name).exists()] == []

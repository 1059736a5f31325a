import ast
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from detecture.doctor import __main__ as command
from detecture.doctor import installation, machine, packages, proof
from detecture.doctor.examine import CHECKS, examine, findings_of
from detecture.doctor.finding import Check, Finding

REPO = Path(__file__).resolve().parents[2]
LEFT_AND_RIGHT = np.repeat([[1, 2]], 48, axis=1).repeat(96, axis=0)

WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""

WITHOUT_NETWORK = """
import socket

class Blocked(socket.socket):
    def __init__(self, *arguments, **options):
        raise OSError("the network is used")

socket.socket = Blocked
"""


def run(tmp_path, *arguments, files=None, cwd=REPO, **variables):
    """The doctor in a process of its own; `files` lie on its path before everything else."""
    for name, text in (files or {}).items():
        path = tmp_path / "first" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    variables.setdefault("DETECTURE_DATASETS_ROOT", "")
    path = os.pathsep.join([str(tmp_path / "first"), str(REPO)])
    env = {**os.environ, "PYTHONPATH": path, **variables}
    command = [sys.executable, "-m", "detecture.doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def report(done):
    """Findings by name, from --json."""
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] == (done.returncode == 0)
    return {finding["name"]: finding for finding in found["findings"]}


def problems(findings):
    return [name for name, finding in findings.items() if finding["level"] == "problem"]


def findings(function, broken=()):
    return findings_of(Check("check", function), set(broken))


def write_dist_info(folder, name, version, *requires):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]))


def test_sound_machine_without_network(tmp_path):
    """The whole thing, with a socket that raises, and the hub switched off."""
    done = run(tmp_path, "--json", files={"sitecustomize.py": WITHOUT_NETWORK}, HF_HUB_OFFLINE="1")
    found = report(done)
    assert done.returncode == 0, done.stdout
    for name in ("python", "torch", "torchvision", "packages", "device", "proof", "data samples"):
        assert found[name]["level"] == "ok", found[name]
    assert "HF_HUB_OFFLINE is on" in found["hub cache"]["text"]
    assert "mIoU" in found["proof"]["text"]
    shipped = found["shipped model"]
    assert shipped["level"] == "ok", shipped
    assert "TextureGrouping" in shipped["text"] and "2 regions" in shipped["text"]
    assert re.search(r"in \d+\.\d s \(loaded in \d+\.\d s\): \"Texture of", shipped["text"])
    assert {f"extra {name}" for name in ("meta-sam3", "web", "ray", "quantized", "dev")} <= set(
        found
    )


def test_without_torchvision(tmp_path):
    files = {"sitecustomize.py": WITHOUT.format(module="torchvision")}
    done = run(tmp_path, files=files, DETECTURE_DATASETS_ROOT=str(tmp_path / "wrong"))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    bad = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("[PROBLEM]")]
    assert bad == ["torchvision", "data"]
    assert "-> install both anew" in done.stdout
    assert "python -m pip install torch torchvision\n" in done.stdout
    assert "DETECTURE_DATASETS_ROOT is" in done.stdout and "not there" in done.stdout
    assert "[ok]      proof" in done.stdout  # no method needs it
    assert re.search(r"\[note\] +shipped model +not examined: needs torchvision", done.stdout)
    assert done.stdout.splitlines()[-1].startswith("Mend the problems (")


def test_torchvision_of_another_build_in_a_folder_that_cannot_be_written_to(tmp_path):
    nms = "def nms(*_):\n    raise RuntimeError('operator torchvision::nms does not exist')\n"
    files = {"torchvision/__init__.py": "__version__ = '0.1+cpu'", "torchvision/ops.py": nms}
    where = "/proc" if Path("/proc").is_dir() else "/"
    found = report(run(tmp_path, "--json", files=files, cwd=where))
    assert problems(found) == ["torchvision", "current folder"]
    text = found["torchvision"]["text"]
    assert "does not fit torch" in text and "operator torchvision::nms does not exist" in text
    assert "pip uninstall -y torch torchvision" in found["torchvision"]["remedy"]


@pytest.mark.parametrize("module", ["torch", "numpy"])
def test_without_a_part_that_everything_needs(tmp_path, module):
    files = {"sitecustomize.py": WITHOUT.format(module=module)}
    found = report(run(tmp_path, "--json", files=files))
    assert module in problems(found)
    assert found["proof"] == {
        "name": "proof", "level": "note", "text": f"not examined: needs {module}", "remedy": "",
    }  # fmt: skip
    assert found["memory"]["level"] in ("ok", "warning") and "extra web" in found


def test_a_package_that_kills_python(tmp_path):
    """A wheel built for another processor does not raise."""
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
    found = report(run(tmp_path, "--json", files={"torch/__init__.py": kill}))
    assert found["torch"]["level"] == "problem"
    assert "killed Python itself (SIGILL)" in found["torch"]["text"]
    assert found["proof"]["level"] == "note" and found["memory"]["level"] in ("ok", "warning")


def test_wrong_arguments(tmp_path):
    done = run(tmp_path, "--unknown")
    assert done.returncode == 2 and "usage: python -m detecture.doctor" in done.stderr


def test_checks_that_hang_or_die_do_not_stop_the_others():
    checks = [
        Check("hangs", functools.partial(time.sleep, 60)),
        Check("dies", functools.partial(signal.raise_signal, signal.SIGTERM)),
        Check("needs both", machine.check_python, needs=("hangs", "dies")),
        Check("python", machine.check_python),
    ]
    found = list(examine(checks, timeout=20.0 if sys.platform == "win32" else 8.0))
    assert [f.name for f in found] == ["hangs", "dies", "needs both", "python"]
    assert "gave no answer" in found[0].text and "SIGTERM" in found[1].text
    assert found[2].text == "not examined: needs hangs and dies" and found[3].level != "problem"


def test_an_exception_is_a_finding():
    def check():
        yield Finding("first", "ok", "kept")
        raise RuntimeError("broken\nbadly")

    first, second = findings(check)
    assert first.text == "kept"
    assert second == Finding("check", "problem", "RuntimeError: broken\nbadly", second.remedy)

    def needs_module():
        import no_such_module  # noqa: F401

        yield

    (finding,) = findings(needs_module)
    assert finding.text == "no_such_module is not installed" and "pip install" in finding.remedy


@pytest.mark.parametrize(
    ("version", "level"), [((3, 9, 1), "problem"), ((3, 10, 0), "ok"), ((3, 14, 0), "warning")]
)
def test_python_versions(version, level, monkeypatch):
    monkeypatch.setattr(machine, "sys", SimpleNamespace(version_info=version, executable="python"))
    (finding,) = findings(machine.check_python)
    assert finding.level == level


def test_an_old_python_can_read_the_doctor():
    """Otherwise nobody would ever see the finding that Python is too old."""
    files = [*(REPO / "detecture/doctor").glob("*.py"), REPO / "detecture/__init__.py"]
    for path in [*files, REPO / "detecture/errors.py"]:
        text = path.read_text(encoding="utf-8")
        ast.parse(text, feature_version=(3, 9))
        if path.parent.name == "doctor" and "import" in text and path.name != "__init__.py":
            assert "from __future__ import annotations" in text


@pytest.mark.parametrize(
    ("version", "level", "says"),
    [
        ("2.5.1+cpu", "problem", "CVE-2025-32434"),
        ("2.6.0", "ok", ""),
        ("2.9.1+cpu", "problem", "Conv3d"),
        ("2.10.0", "ok", ""),
        ("3.0", "ok", ""),
    ],
)
def test_torch_versions(version, level, says, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    (finding,) = findings(packages.check_torch)
    assert finding.level == level and says in finding.text


def test_torchvision_that_wants_another_torch(tmp_path, monkeypatch):
    write_dist_info(tmp_path, "torchvision", "0.20.0", "torch (==2.5.0)")
    monkeypatch.syspath_prepend(tmp_path)
    (finding,) = findings(packages.check_torchvision)
    assert finding.level == "warning" and "wants torch==2.5.0" in finding.text


def test_required_packages(tmp_path, monkeypatch):
    required = ["numpy>=999", "no-such-package>=1", "pillow", "torch", "gradio; extra == 'web'"]
    write_dist_info(tmp_path, "detecture", "0.1.0", *required)
    monkeypatch.syspath_prepend(tmp_path)
    numpy, missing = findings(packages.check_required_packages)
    assert numpy.name == "numpy" and ">=999 is needed" in numpy.text
    assert missing.text == "is not installed"
    assert missing.remedy == 'python -m pip install "no-such-package>=1"'


def test_extras(tmp_path, monkeypatch):
    required = ["numpy; extra == 'a'", "none-a; extra == 'b'", "numpy>=999; extra == 'c'"]
    write_dist_info(tmp_path, "detecture", "0.1.0", *required, "numpy; extra == 'd'")
    metadata = tmp_path / "detecture-0.1.0.dist-info/METADATA"
    with metadata.open("a") as file:
        file.write("\nRequires-Dist: none-d; extra == 'd'")
        file.writelines(f"\nProvides-Extra: {name}" for name in "abcd")
    monkeypatch.syspath_prepend(tmp_path)
    found = findings(packages.check_extras)
    assert [f.level for f in found] == ["ok", "note", "warning", "note"]
    assert found[1].text == "not installed (none-a)"
    assert found[1].remedy == 'python -m pip install -e ".[b]"'
    assert found[3].text == "in part: none-d not installed"


def test_an_extra_that_cannot_be_imported(tmp_path, monkeypatch):
    """Its version fits, and a user who asked for it gets an exception all the same."""
    write_dist_info(tmp_path, "detecture", "0.1.0", "broken-part; extra == 'a'")
    with (tmp_path / "detecture-0.1.0.dist-info/METADATA").open("a") as file:
        file.write("\nProvides-Extra: a")
    write_dist_info(tmp_path, "broken_part", "1.0")
    (tmp_path / "broken_part-1.0.dist-info/top_level.txt").write_text("broken_part\n")
    (tmp_path / "broken_part.py").write_text("raise OSError('libnone.so: not there')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = findings(packages.check_extras)
    assert found.level == "warning"
    assert "broken-part cannot be imported (OSError: libnone.so: not there)" in found.text
    assert found.remedy == 'python -m pip install -e ".[a]"'


@pytest.mark.parametrize("what", ["regions", "words"])
def test_a_shipped_model_that_answers_wrongly(what, monkeypatch):
    """Numbers that a broken build computes, on which nothing raises."""
    from detecture.engine import TexturePredictor

    answer = SimpleNamespace(
        label_map=np.ones((96, 96), np.int64) if what == "regions" else LEFT_AND_RIGHT,
        num_regions=2,
        descriptions=["Texture of bands", "" if what == "words" else "Texture of noise"],
    )
    stand_in = type("Stand", (), {"model": None, "__call__": lambda *_, **__: answer})
    monkeypatch.setattr(TexturePredictor, "from_config", lambda: stand_in())
    (found,) = findings(proof.check_shipped_model)
    assert found.level == "problem"
    assert ("0.9 is due" if what == "regions" else "has no description") in found.text


def test_names_and_texts_do_not_run_together():
    line = command.format_finding(Finding("data with_a_name_that_is_long", "ok", "there"), 120)
    assert "data with_a_name_that_is_long there" in line


def test_own_metadata(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_dist_info(tmp_path, "detecture", "0.0.1")
    (finding,) = findings(packages.check_detecture)
    assert finding.level == "warning" and "0.0.1 is what pip has installed" in finding.text
    monkeypatch.setattr(packages, "_own_distribution", lambda: None)
    (finding,) = findings(packages.check_detecture)
    assert finding.level == "problem" and "pip install -e ." in finding.remedy


def test_clash_of_detectron2_and_sam3(tmp_path, monkeypatch):
    (alone,) = findings(packages.check_detectron2)
    assert alone.level == "ok"
    write_dist_info(tmp_path, "detectron2", "0.6", "iopath<0.1.0,>=0.0.1")
    write_dist_info(tmp_path, "sam3", "0.1.4", "iopath>=0.1.0")
    monkeypatch.syspath_prepend(tmp_path)
    _, clash = findings(packages.check_detectron2)
    assert clash.level == "warning" and "detectron2 wants iopath<0.1.0,>=0.0.1" in clash.text
    assert "sam3 wants iopath" not in clash.text and "uninstall sam3" in clash.remedy


def test_device_with_a_driver_that_torch_does_not_use(monkeypatch):
    monkeypatch.setattr("detecture.device.has_accelerator", lambda: False)
    monkeypatch.setattr("detecture.device.accelerators", list)
    monkeypatch.setattr(machine, "_has_nvidia_driver", lambda: True)
    (finding,) = findings(machine.check_device)
    assert finding.level == "warning" and "uses no GPU" in finding.text
    monkeypatch.setattr("detecture.device.accelerators", lambda: [("GPU X", 2**33)] * 2)
    found = findings(machine.check_device)
    assert "1: GPU X, 8 GiB" in found[1].text


def test_little_memory(monkeypatch):
    monkeypatch.setattr(machine, "_container_limit", lambda: 2**30)
    finding = findings(machine.check_memory)[0]
    assert finding.level == "warning" and finding.text.startswith("1.0 GiB")
    monkeypatch.setattr(machine, "_LEAST_SHARED_MEMORY", 2**60)
    if Path("/dev/shm").is_dir():
        assert "Bus error" in findings(machine.check_memory)[1].text


def test_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_LEAST_DISK", 2**60)
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("TMPDIR", str(file))
    monkeypatch.setattr(machine.tempfile, "tempdir", None)  # what it has found out before
    current, temporary = findings(machine.check_folders)
    assert current.level == "warning" and "little" in current.text
    assert temporary.level == "warning" and f"TMPDIR is {file}" in temporary.text


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "root"
    folder.mkdir()
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(folder))
    return folder


def test_wrong_data_roots(root, monkeypatch):
    (empty,) = findings(installation.check_data_root)
    assert empty.level == "warning" and "RWTD, STLD, ADE20k_Detecture, CAID" in empty.text
    (root / "rwtd").mkdir()
    (case,) = findings(installation.check_data_root)
    assert case.level in ("warning", "ok")  # ok where the file system ignores case
    (root / "sets/STLD").mkdir(parents=True)
    (below,) = findings(installation.check_data_root)
    assert below.level == "ok" or below.remedy.endswith(f"DETECTURE_DATASETS_ROOT={root / 'sets'}")
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(root / "sets/STLD"))
    (inside,) = findings(installation.check_data_root)
    assert inside.remedy.endswith(f"DETECTURE_DATASETS_ROOT={root / 'sets'}")
    monkeypatch.setenv("DETECTURE_DATASETS_ROOT", str(root / "nowhere"))
    (nowhere,) = findings(installation.check_data_root)
    assert nowhere.level == "problem" and "RWTD" in nowhere.remedy
    monkeypatch.delenv("DETECTURE_DATASETS_ROOT")
    monkeypatch.setenv("HOME", str(root))
    (unset,) = findings(installation.check_data_root)
    assert unset.level == "note"


def test_datasets(root):
    def look():
        return {f.name: f for f in findings(installation.check_datasets)}

    assert look()["data rwtd"].text == f"not there ({root / 'RWTD'})"
    images = root / "BSDS500/images/val"
    assert look()["data bsds500_val"].text == f"not there ({images})"
    images.mkdir(parents=True)
    assert look()["data bsds500_val"].level == "problem"  # it is empty
    (images / "1.jpg").touch()
    assert look()["data bsds500_val"].text.startswith("1 of the 100 published images")
    (root / "RWTD").mkdir()
    (root / "STLD/images").mkdir(parents=True)
    (root / "RWTD/metadata.json").write_text("[{}]")
    entry = {"image_path": "images/a.png", "textures": [{"description": "", "mask_path": "a.png"}]}
    (root / "STLD/metadata.json").write_text(json.dumps([entry]))
    found = look()
    assert found["data rwtd"].level == "problem" and "lacks the key" in found["data rwtd"].text
    assert found["data rwtd"].remedy == "python tools/check_dataset.py rwtd"
    assert found["data stld"].level == "problem" and "a.png is not" in found["data stld"].text
    (root / "STLD/images/a.png").touch()  # not decoded
    found = look()
    assert found["data stld"].level == "note" and "1 of the 200" in found["data stld"].text


def test_hub_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = findings(installation.check_hub_cache)
    assert finding.level == "note" and "cannot load" in finding.text
    (tmp_path / "hub/models--facebook--sam3").mkdir(parents=True)
    (finding,) = findings(installation.check_hub_cache)
    assert finding.level == "ok" and "1 models" in finding.text


def test_text(monkeypatch, capsys):
    found = [Finding("a", "ok", "good"), Finding("b", "warning", "word " * 40, "do:\nthis --now")]
    monkeypatch.setattr(command, "examine", lambda: iter(found))
    monkeypatch.setenv("COLUMNS", "80")
    assert command.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{'[ok]':10}{'a':23}good"
    assert all(len(line) <= 80 for line in lines)
    assert lines[-3].strip() == "-> do:" and lines[-2].strip() == "this --now"
    assert lines[-1] == "The installation is sound (1 ok, 0 notes, 1 warning, 0 problems)."


def test_every_check_has_a_name_of_its_own_and_known_needs():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert {need for check in CHECKS for need in check.needs} <= {*names, "numpy", "transformers"}

"""Checks of installed packages: torch and torchvision, setup.py's requirements, Detectron2."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from detecture.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_ROOT = Path(__file__).resolve().parents[2]
_INSTALL = f"in {_ROOT}:\npython -m pip install -e ."
_REINSTALL_BOTH = (
    "install both anew, from one place:\n"
    "python -m pip uninstall -y torch torchvision\n"
    "python -m pip install torch torchvision\n"
    "(another GPU build: with the --index-url of https://pytorch.org/get-started/locally/)"
)
# Names under which packages are imported, if they differ from those that pip uses.
_MODULES = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
# They take seconds to import, and import torchvision: if that is broken, they are not to blame.
_VERSION_ONLY = ("peft", "transformers")
# These have checks of their own.
_CHECKED_APART = ("torch", "torchvision")


def check_detecture() -> Iterator[Finding]:
    """Whether the package is installed and its recorded metadata is up to date."""
    from detecture import __version__

    here = f"{__version__} in {_ROOT / 'detecture'}"
    installed = _own_distribution()
    if installed is None:
        yield Finding(
            "detecture", "problem", f"{here}, not installed: nothing can be required", _INSTALL
        )
        return
    setup = _ROOT / "setup.py"
    metadata = next((f for f in installed.files or () if f.name == "METADATA"), None)
    recorded = Path(str(metadata.locate())) if metadata else None
    if installed.version != __version__:
        text = f"{here}, but version {installed.version} is what pip has installed"
        yield Finding("detecture", "warning", text, _INSTALL)
    elif recorded and setup.is_file() and setup.stat().st_mtime > recorded.stat().st_mtime:
        text = f"{here}; setup.py has changed since it was installed"
        yield Finding("detecture", "note", text, _INSTALL)
    else:
        yield Finding("detecture", "ok", here)


def _own_distribution() -> importlib.metadata.Distribution | None:
    """What pip has recorded about this package; None if it is not installed."""
    found = list(importlib.metadata.distributions(name="detecture"))
    # In a checkout, a build leaves behind an egg-info, however old, and it is found first.
    recorded = [distribution for distribution in found if distribution.read_text("METADATA")]
    return next(iter(recorded or found), None)


def check_torch() -> Iterator[Finding]:
    """torch 2.6 or later, but not 2.9."""
    remedy = _REINSTALL_BOTH
    try:
        import torch

        version = str(torch.__version__)
        torch.ones(2).sum().item()
    except ModuleNotFoundError as error:
        if error.name == "torch":
            yield Finding("torch", "problem", "is not installed", remedy)
        else:
            yield Finding("torch", "problem", f"lacks a part of its own: {error}", remedy)
        return
    except Exception as error:  # noqa: BLE001 - a broken build raises anything; it is the finding
        text = f"cannot be used: {type(error).__name__}: {_first_line(error)}"
        yield Finding("torch", "problem", text, remedy)
        return
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < (2, 6):
        text = f"{version}: before 2.6 a weights file can run code when it is loaded"
        yield Finding("torch", "problem", f"{text} (CVE-2025-32434)", remedy)
    elif numbers == (2, 9):
        text = f"{version}: its Conv3d is 10 to 20 times slower, which the vision models need"
        yield Finding("torch", "problem", text, remedy)
    else:
        yield Finding("torch", "ok", version)


def check_torchvision() -> Iterator[Finding]:
    """torchvision of the same build as torch: its compiled part works, on the device too."""
    import torch

    try:
        import torchvision
        from torchvision.ops import nms

        from detecture.device import resolve_device

        version = str(torchvision.__version__)
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1]])
        scores = torch.tensor([0.9, 0.8])
        for device in {torch.device("cpu"), resolve_device("auto")}:
            kept = nms(boxes.to(device), scores.to(device), 0.5).tolist()
            if kept != [0]:
                raise RuntimeError(f"nms on {device} keeps the boxes {kept}, not [0]")
    except ModuleNotFoundError as error:
        missing = error.name == "torchvision"
        text = "is not installed" if missing else f"lacks a part of its own: {error}"
        yield Finding("torchvision", "problem", text, _REINSTALL_BOTH)
        return
    except Exception as error:  # noqa: BLE001 - a wrong build raises anything; it is the finding
        text = f"does not fit torch {torch.__version__}: {_first_line(error)}"
        yield Finding("torchvision", "problem", text, _REINSTALL_BOTH)
        return
    text = f"{version}, its nms works"
    builds = [v.partition("+")[2] for v in (str(torch.__version__), version)]
    if all(builds) and builds[0] != builds[1]:
        text = f"{version} is another build than torch {torch.__version__}"
        yield Finding("torchvision", "warning", text, _REINSTALL_BOTH)
    elif wanted := _unmet("torchvision", "torch"):
        text = f"{version} wants {wanted}, there is {torch.__version__}"
        yield Finding("torchvision", "warning", text, _REINSTALL_BOTH)
    else:
        yield Finding("torchvision", "ok", text)


def check_required_packages() -> Iterator[Finding]:
    """Everything pip should have installed with this package: present, compatible, importable."""
    installed = _own_distribution()
    required = [r for r in _requirements(installed, "") if r.name not in _CHECKED_APART]
    bad = [finding for requirement in required for finding in _required_package(requirement)]
    yield from bad
    if required and not bad:
        yield Finding("packages", "ok", f"all {len(required)} others that are required fit")


def _required_package(requirement: Requirement) -> Iterator[Finding]:
    """What is wrong with one required package, if anything."""
    name = requirement.name
    install = f'"{name}{requirement.specifier}"'
    if text := _misfit(requirement):
        yield Finding(name, "problem", text, f"python -m pip install {install}")
        return
    if name in _VERSION_ONLY:
        return
    module = _MODULES.get(name.lower(), name.replace("-", "_"))
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken package raises anything; it is the finding
        missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        if missing and missing.split(".")[0] != module:
            yield Finding(name, "note", f"not examined: needs {missing}")
            return
        text = f"cannot be imported: {type(error).__name__}: {_first_line(error)}"
        yield Finding(name, "problem", text, f"python -m pip install --force-reinstall {install}")


def check_extras() -> Iterator[Finding]:
    """Optional parts: whether each is installed, fits, and can be imported."""
    installed = _own_distribution()
    modules = _modules_of_distributions()
    extras = installed.metadata.get_all("Provides-Extra") or [] if installed else []
    for extra in extras:
        name = f"extra {extra}"
        required = _requirements(installed, extra)
        misfits = {r.name: text for r in required if (text := _misfit(r))}
        remedy = f'python -m pip install -e ".[{extra}]"'
        listed = ", ".join(r.name for r in required)
        wrong = [f"{n} {text}" for n, text in misfits.items() if text != _ABSENT]
        absent = [n for n, text in misfits.items() if text == _ABSENT]
        fitting = [r.name for r in required if r.name not in misfits]
        wrong += [f"{n} {text}" for n in fitting if (text := _import_error(n, modules))]
        if wrong:
            yield Finding(name, "warning", "; ".join(wrong), remedy)
        elif len(absent) == len(required):
            yield Finding(name, "note", f"not installed ({listed})", remedy)
        elif absent:
            yield Finding(name, "note", f"in part: {', '.join(absent)} not installed", remedy)
        else:
            yield Finding(name, "ok", f"installed, can be imported ({listed})")


def _modules_of_distributions() -> dict[str, list[str]]:
    """Modules that each installed distribution provides, by its canonical name."""
    from packaging.utils import canonicalize_name

    found: dict[str, list[str]] = {}
    for module, owners in importlib.metadata.packages_distributions().items():
        for owner in owners:
            found.setdefault(canonicalize_name(owner), []).append(module)
    return found


def _import_error(name: str, modules: dict[str, list[str]]) -> str:
    """Why a distribution cannot be imported; empty if it can, or if it provides no module."""
    from packaging.utils import canonicalize_name

    canonical = canonicalize_name(name)
    own = [m for m in modules.get(canonical, ()) if m.isidentifier() and not m.startswith("_")]
    # Of several modules, the one with the distribution's name counts; the others are its helpers.
    for module in [m for m in own if m == canonical.replace("-", "_")] or own:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - a broken package raises anything
            return f"cannot be imported ({type(error).__name__}: {_first_line(error)})"
    return ""


def check_detectron2() -> Iterator[Finding]:
    """Which Detectron2 API is active, and whether detectron2 and sam3 get in each other's way."""
    forced = os.environ.get("DETECTURE_D2")
    try:
        from detecture import d2
    except ImportError as error:
        yield Finding("detectron2 API", "problem", str(error), "export DETECTURE_D2=lite")
        return
    reasons = {"lite": "detecture.d2.lite, detectron2 is not used", "detectron2": "detectron2"}
    why = f" (DETECTURE_D2={forced})" if forced else ""
    yield Finding("detectron2 API", "ok", f"{reasons[d2.BACKEND]}{why}")
    if _version("detectron2") and _version("sam3"):
        unmet = [f"{name} wants {w}" for name in ("detectron2", "sam3") if (w := _unmet(name))]
        yield Finding(
            "iopath",
            "warning",
            f"detectron2 wants iopath < 0.1.10 and sam3 wants >= 0.1.10; here is "
            f"{_version('iopath')}{': ' if unmet else ''}{' and '.join(unmet)}",
            "one environment for each, or without sam3 (the transformers backend of SAM 3 needs "
            "it not):\npython -m pip uninstall sam3",
        )


_ABSENT = "is not installed"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _misfit(requirement: Requirement) -> str:
    """What is wrong with the installed version; empty if it fits."""
    version = _version(requirement.name)
    if version is None:
        return _ABSENT
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"is {version} where {requirement.specifier} is needed"


def _requirements(
    distribution: importlib.metadata.Distribution | None, extra: str
) -> list[Requirement]:
    """What a distribution requires: always (`extra` empty), or for one extra and only for it."""
    from packaging.requirements import Requirement

    found = [Requirement(text) for text in (distribution.requires if distribution else ()) or ()]
    if not extra:
        return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [
        r
        for r in found
        if r.marker and r.marker.evaluate({"extra": extra}) and not r.marker.evaluate({"extra": ""})
    ]


def _unmet(owner: str, package: str = "iopath") -> str:
    """What an installed `owner` requires of `package` and does not get; otherwise empty."""
    try:
        required = _requirements(importlib.metadata.distribution(owner), "")
    except (ImportError, ValueError):  # no metadata, no `packaging`, or an unreadable requirement
        return ""
    return next((str(r) for r in required if r.name == package and _misfit(r)), "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

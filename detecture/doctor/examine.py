"""Runs the checks; whatever happens inside one becomes a finding, and the others still run.

The checks run in a separate process: a compiled package that does not fit the machine does not
raise; it kills the process that imports it, or never returns.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from detecture.doctor import installation, machine, packages, proof
from detecture.doctor.finding import Check, Finding

CHECKS = (
    Check("python", machine.check_python),
    Check("detecture", packages.check_detecture),
    Check("torch", packages.check_torch),
    Check("packages", packages.check_required_packages),
    Check("torchvision", packages.check_torchvision, needs=("torch", "numpy")),
    Check("device", machine.check_device, needs=("torch",)),
    Check("memory", machine.check_memory),
    Check("folders", machine.check_folders),
    Check("detectron2 API", packages.check_detectron2, needs=("torch", "numpy")),
    Check("data root", installation.check_data_root, needs=("torch", "numpy")),
    Check("data sets", installation.check_datasets, needs=("torch", "numpy")),
    Check("weights", installation.check_weights, needs=("torch", "numpy")),
    Check("hub cache", installation.check_hub_cache),
    Check("extras", packages.check_extras),
    Check("proof", proof.check_method, needs=("torch", "numpy")),
    Check(
        "shipped model",
        proof.check_shipped_model,
        needs=("torch", "numpy", "torchvision", "transformers", "weights"),
    ),
)

_REPORT = "if it stays after the other findings are mended, report it together with --json's output"


def examine(checks: Sequence[Check] = CHECKS, timeout: float = 300.0) -> Iterator[Finding]:
    """Findings of all checks, each as soon as it is known.

    Args:
        checks: what to run, in this order; functions of modules, since they go to other processes.
        timeout: seconds that one check may take.
    """
    context = multiprocessing.get_context("spawn")  # the same on every system
    broken: set[str] = set()
    done = 0
    while done < len(checks):
        receiver, sender = context.Pipe(duplex=False)
        worker = context.Process(target=_run, args=(sender, checks[done:], broken), daemon=True)
        worker.start()
        sender.close()  # the worker's copy is then the only one: its death ends the stream
        death = ""
        try:
            while done < len(checks):
                if not receiver.poll(timeout):
                    death = f"gave no answer for {timeout:.0f} s"
                    break
                findings: list[Finding] = receiver.recv()
                broken |= _problems(findings)
                done += 1
                yield from findings
        except EOFError:
            worker.join()
            death = f"killed Python itself ({_cause(worker.exitcode)})"
        finally:
            worker.kill()
            worker.join()
            receiver.close()
        if death:
            broken.add(checks[done].name)
            yield Finding(
                checks[done].name,
                "problem",
                f"to examine this {death}: a compiled package does not fit this machine",
                "install again what this is about (python -m pip install --force-reinstall ..), "
                "or make a new\nenvironment as INSTALL.md says",
            )
            done += 1


def findings_of(check: Check, broken: set[str]) -> list[Finding]:
    """Findings of one check; an exception in it counts as a finding too.

    Args:
        check: what to run.
        broken: names of the problems that earlier checks found.
    """
    missing = [name for name in check.needs if name in broken]
    if missing:
        return [Finding(check.name, "note", f"not examined: needs {' and '.join(missing)}")]
    found: list[Finding] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters in them is a finding
            for finding in check.run():
                found.append(finding)  # noqa: PERF402 - what came before an exception is kept
    except ModuleNotFoundError as error:
        text = f"{error.name or error} is not installed"
        found.append(Finding(check.name, "problem", text, "python -m pip install -e ."))
    except Exception as error:  # noqa: BLE001 - broken packages raise anything; it is the finding
        found.append(Finding(check.name, "problem", f"{type(error).__name__}: {error}", _REPORT))
    return found


def _run(sender: Connection, checks: Sequence[Check], broken: set[str]) -> None:
    """The worker: sends the findings of each check."""
    os.dup2(2, 1)  # whatever a package prints on import must not end up among the findings
    for check in checks:
        findings = findings_of(check, broken)
        broken |= _problems(findings)
        sender.send(findings)


def _problems(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if finding.level == "problem"}


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit status {exit_code}"

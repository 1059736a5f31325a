"""Is this installation of detecture sound? What to do where it is not.

  python -m detecture.doctor
  python -m detecture.doctor --json > report.json

Changes nothing and never uses the network. Exit status: 0 no problem (notes and warnings are
allowed), 1 problems, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from detecture import __version__
from detecture.doctor.examine import examine
from detecture.doctor.finding import LEVELS, Finding
from detecture.errors import EXIT_FAILED
from detecture.jobs.command_line import any_text_printed

_MARKS = {"ok": "[ok]", "note": "[note]", "warning": "[WARNING]", "problem": "[PROBLEM]"}
_MARK_WIDTH, _NAME_WIDTH = 10, 23


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m detecture.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    args = parser.parse_args(argv)
    with any_text_printed():
        findings = _as_json(examine()) if args.json else _as_text(examine())
    return EXIT_FAILED if any(finding.level == "problem" for finding in findings) else 0


def format_finding(finding: Finding, width: int) -> str:
    """A finding as lines of at most `width` characters; the remedy's lines are left as they are."""
    head = f"{_MARKS[finding.level]:<{_MARK_WIDTH}}{finding.name:<{_NAME_WIDTH - 1}} "
    indent = " " * (_MARK_WIDTH + _NAME_WIDTH)
    body = textwrap.wrap(
        finding.text,
        max(40, width - len(indent)),
        break_long_words=False,
        break_on_hyphens=False,
    )
    # Not wrapped: commands are meant to be copied.
    remedy = [f"{'-> ' if i == 0 else '   '}{s}" for i, s in enumerate(finding.remedy.splitlines())]
    return head + f"\n{indent}".join([*(body or [""]), *remedy])


def _as_text(stream: Iterable[Finding]) -> list[Finding]:
    width = shutil.get_terminal_size((120, 24)).columns
    findings: list[Finding] = []
    for finding in stream:
        # Printed at once: importing torch takes seconds.
        sys.stdout.write(format_finding(finding, width) + "\n")
        sys.stdout.flush()
        findings.append(finding)
    counts = Counter(finding.level for finding in findings)
    listed = ", ".join(
        f"{counts[level]} {level}{'s' if counts[level] != 1 and level != 'ok' else ''}"
        for level in LEVELS
    )
    verdict = "Mend the problems" if counts["problem"] else "The installation is sound"
    sys.stdout.write(f"{verdict} ({listed}).\n")
    return findings


def _as_json(stream: Iterable[Finding]) -> list[Finding]:
    findings = list(stream)
    report = {
        "detecture": __version__,
        "ok": all(finding.level != "problem" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return findings


if __name__ == "__main__":
    sys.exit(main())

"""What a check returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

LEVELS = ("ok", "note", "warning", "problem")
"""`note`: an optional part is absent; `warning`: works, but badly or in part; `problem`: broken."""


@dataclass(frozen=True)
class Finding:
    """One thing about the installation.

    Attributes:
        name: what was examined, one or two words.
        level: one of `LEVELS`.
        text: what was found.
        remedy: what to do, with each command on its own line. Empty if there is nothing to do.
    """

    name: str
    level: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """A function that examines something.

    Attributes:
        name: what it examines; its findings may have other names.
        run: yields the findings; what it yielded before it raised is kept.
        needs: names of findings; the check only makes sense if none of these is a problem.
    """

    name: str
    run: Callable[[], Iterator[Finding]]
    needs: tuple[str, ...] = ()

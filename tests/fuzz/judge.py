"""The rules: what may become of a case, and how that is seen."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from detecture.data.paths import DATASETS_ROOT
from detecture.errors import DetectureError
from tests.fuzz.case import Case, draw_of

MOST_BYTES = 2000
"""Of an error's text, or of a warning in the log, in UTF-8."""
MOST_SECONDS = 60.0
MOST_GROWTH = 1 << 30
"""Bytes of memory above what there was after the imports."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PLACES = {  # which arguments of an audited event are paths that are changed, and their folders
    **dict.fromkeys(("os.rmdir", "os.remove"), ((0, 1),)),
    **dict.fromkeys(("os.mkdir", "os.chmod"), ((0, 2),)),
    "os.truncate": ((0, None),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.rename": ((0, 2), (1, 3)),
}
_FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect")
_watched: list[str] = []  # folders in which the case that runs may write
_seen: list[str] = []  # what it did that it may not


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        target, number: of the case.
        kind: `right`, `refused`, or `fault`.
        text: of the refusal or the fault; a traceback where there is one.
        seconds: it took.
        growth: bytes of memory above the baseline, at most.
    """

    target: str
    number: int
    kind: str
    text: str = ""
    seconds: float = 0.0
    growth: int = 0

    def to_dict(self):
        return asdict(self)


class _Log(logging.Handler):
    """Keeps the longest warning."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.longest = ""

    def emit(self, record):
        # In bytes that any file takes: names of files are not always text.
        text = record.getMessage()
        if len(text) > len(self.longest):
            self.longest = text


def memory(key):
    """`VmRSS` or `VmHWM` of this process, in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = next((line for line in lines if line.startswith(f"{key}:")), "x 0")
    return int(found.split()[1]) << 10


def _forget_peak():
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def judge(target, number, seed, folder, baseline):
    """Run one case in this process.

    Args:
        target: of `case.TARGETS`.
        number: of the case.
        seed: of all cases.
        folder: made for the case, and left there for whoever looks at it.
        baseline: bytes of memory after the imports.
    """
    for name in ("in", "cwd", "tmp", "home"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    case = Case(draw_of(seed, target.name, number), folder / "in")
    _forget_peak()
    kind, text = "right", ""
    start = time.monotonic()
    with _confined(folder) as log:
        try:
            target.run(case)
        except DetectureError as error:
            kind, text = "refused", str(error)
            if case.sound:
                kind, text = "fault", f"refused what is valid: {traceback.format_exc()}"
            elif len(text.encode("utf-8", "replace")) > MOST_BYTES:
                kind, text = "fault", f"an error of {len(text):,} characters: {text[:300]}"
        except (Exception, SystemExit, KeyboardInterrupt):
            kind, text = "fault", traceback.format_exc()
    seconds = time.monotonic() - start
    growth = max(0, memory("VmHWM") - baseline)
    if kind != "fault":
        problems = list(dict.fromkeys(_seen))[:5]
        if any((folder / "cwd").iterdir()) or any((folder / "home").iterdir()):
            problems.append("wrote to the current folder, or the home folder")
        if growth > MOST_GROWTH:
            problems.append(f"took {growth / (1 << 20):,.0f} MB of memory")
        if seconds > MOST_SECONDS:
            problems.append(f"took {seconds:.0f} s")
        if len(log.longest.encode("utf-8", "replace")) > MOST_BYTES:
            problems.append(f"a warning of {len(log.longest):,} characters: {log.longest[:300]}")
        if problems:
            kind, text = "fault", "; ".join(problems)
    return Outcome(target.name, number, kind, text[:20_000], seconds, growth)


def clear(folder):
    """Remove the folder of a case."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _confined(folder):
    """Inside, the current, the home and the temporary folder are those of the case."""
    before = Path.cwd(), tempfile.tempdir, os.fsync
    variables = {name: os.environ.get(name) for name in ("HOME", DATASETS_ROOT)}
    log, logger = _Log(), logging.getLogger("detecture")
    logger.addHandler(log)
    _seen.clear()
    _watched[:] = [os.path.realpath(folder / name) + os.sep for name in ("in", "tmp")]
    os.chdir(folder / "cwd")
    os.environ |= dict.fromkeys(variables, str(folder / "home"))
    tempfile.tempdir = str(folder / "tmp")
    os.fsync = lambda _: None  # it takes most of the time, and nothing is cut off here
    try:
        with _alarm():
            yield log
    finally:
        _watched.clear()
        os.chdir(before[0])
        tempfile.tempdir, os.fsync = before[1:]
        for name, value in variables.items():
            del os.environ[name]
            os.environ |= {name: value} if value is not None else {}
        logger.removeHandler(log)


@contextmanager
def _alarm():
    """A case that waits for ever ends, even without a watchdog; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_):
        raise TimeoutError(f"no end within {MOST_SECONDS:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def watch_writes():
    """From now on see what cases write, run and connect to. For workers: it cannot be undone."""
    sys.addaudithook(_audit)


def _audit(event, arguments):
    if not _watched:
        return
    if event in _FORBIDDEN:
        _seen.append(f"{event} {arguments[0]!r:.100}")
    elif event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITES:
            _look_at(event, path)
    elif event in _PLACES:
        for place, folder in _PLACES[event]:
            _look_at(event, arguments[place], -1 if folder is None else arguments[folder])


def _look_at(event, path, folder=-1):
    if not isinstance(path, (str, bytes, os.PathLike)):
        return
    given = Path(os.fsdecode(path))
    if isinstance(folder, int) and folder >= 0:
        given = Path(f"/proc/self/fd/{folder}").readlink() / given
    real = os.path.realpath(given.parent) + os.sep + given.name + os.sep
    if not real.startswith(tuple(_watched)) and given != Path(os.devnull):
        _seen.append(f"{event} of {str(given)!r:.200}, outside of the case's folder")

"""Errors that a user can mend. The command lines print their text without a traceback.

Every message names the file, the key or the id, and the remedy.
"""

import re
import reprlib
from collections.abc import Sequence
from typing import Any

MOST_ERROR_BYTES = 2000
"""Of the text of an error, in UTF-8: what somebody wrote into a file is no reason to write more."""

_CUT = " .. (cut) .. "
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and new line
_CONTROL_OR_BREAK = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class DetectureError(Exception):
    """Base of all errors that are about the user's input, not about a defect of the program.

    Its text is never longer than `MOST_ERROR_BYTES`: longer texts are cut in the middle, since they
    begin with the file and end with the remedy. It holds no character that moves the cursor or
    changes colours of a terminal, and no half character, since it goes to logs, records and pages.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > MOST_ERROR_BYTES:  # cut before it is copied, and again below
            text = text[:MOST_ERROR_BYTES] + text[-MOST_ERROR_BYTES:]
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
        encoded = text.encode("utf-8", "backslashreplace")
        if len(encoded) > MOST_ERROR_BYTES:
            end = MOST_ERROR_BYTES // 3
            start = MOST_ERROR_BYTES - end - len(_CUT)
            encoded = encoded[:start] + _CUT.encode() + encoded[-end:]
        return encoded.decode("utf-8", "ignore")


class ConfigError(DetectureError):
    """A config file, a key or an override is wrong."""


class DatasetError(DetectureError):
    """A data set is missing, incomplete or malformed."""


class ImageError(DetectureError):
    """An image or mask file cannot be read as one."""


class PredictionError(DetectureError):
    """A method failed on an image: it raised an exception, or returned no standard output."""


class CheckpointError(DetectureError):
    """A checkpoint is missing, damaged or does not fit the model."""


class OutputError(DetectureError):
    """A file cannot be written: the one there is somebody else's, or nothing can be written."""


class EvaluationError(DetectureError):
    """An evaluation cannot go on: too many failures in a row, a locked or full output folder."""


class MinerError(DetectureError):
    """The miner cannot go on: a source, a journal or a stage's settings are wrong."""


EXIT_FAILED = 1
"""Exit status of a command line whose work failed or whose check was missed."""

EXIT_USAGE = 2
"""Exit status of a command line that was given something it cannot work with."""

EXIT_INTERRUPTED = 130
"""Exit status of a command line that was interrupted from the keyboard."""


def one_line(text: object) -> str:
    r"""A path, an id or another text as one line: control characters as `\x0a`.

    Names of files may hold a new line, or what moves the cursor of a terminal.
    """
    return _CONTROL_OR_BREAK.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 region", "2 regions", "1,000 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 80
_BRIEF.maxlevel = 3


def brief(value: Any) -> str:
    """`repr` of a value from a user's file, cut to some 80 characters before it is built."""
    return _BRIEF.repr(value)


def require_choice(key: str, value: str, known: Sequence[str]) -> None:
    """Check a value that must be one of a few words.

    Raises:
        ConfigError: it is none of them; names the config key and the words.
    """
    if value not in known:
        raise ConfigError(f"{key} is {brief(value)}; use one of {', '.join(known)}")

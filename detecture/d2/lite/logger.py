"""Logging to the terminal and to a file of the output folder."""

import logging
import sys
from pathlib import Path
from typing import Any, TextIO

from termcolor import colored

DATE_FORMAT = "%m/%d %H:%M:%S"


class _StdoutHandler(logging.StreamHandler):
    """Writes to whatever `sys.stdout` is at the time, so that redirecting it works."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stdout


class _ColorFormatter(logging.Formatter):
    """Green head, red level of warnings and errors, and a short name for the root logger."""

    def __init__(self, root_name: str, abbrev_name: str) -> None:
        super().__init__(
            colored("[%(asctime)s %(short_name)s]: ", "green") + "%(message)s", datefmt=DATE_FORMAT
        )
        self._root_name = root_name
        self._abbrev_name = abbrev_name

    def formatMessage(self, record: logging.LogRecord) -> str:
        # Into a field of its own: other handlers show the full name.
        rest = record.name.removeprefix(self._root_name)
        record.short_name = (self._abbrev_name + rest).removeprefix(".")
        text = super().formatMessage(record)
        if record.levelno >= logging.WARNING:
            text = colored(record.levelname, "red", attrs=["bold"]) + " " + text
        return text


def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detecture",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Let a logger and all below it write to the terminal and to a file.

    Calling it again adds nothing that is there already.

    Args:
        output: a folder, which gets `log.txt`, or a path that ends in `.txt` or `.log`. Processes
            of another rank than 0 append `.rankN` to the name. None: no file.
        distributed_rank: number of this process; only process 0 writes to the terminal.
        color: colours on the terminal.
        name: name of the logger.
        abbrev_name: what the terminal shows in place of `name`; "" leaves it out.
        enable_propagation: also hand records to the loggers above.
        configure_stdout: write to the terminal at all.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    plain = logging.Formatter(
        "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt=DATE_FORMAT
    )
    if configure_stdout and distributed_rank == 0 and not _has(logger, _StdoutHandler):
        terminal = _StdoutHandler()
        short = name if abbrev_name is None else abbrev_name
        terminal.setFormatter(_ColorFormatter(name, short) if color else plain)
        logger.addHandler(terminal)
    if output is not None:
        path = _log_file(output, distributed_rank)
        if not _has(logger, logging.FileHandler, baseFilename=str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(path, mode="a", encoding="utf-8", errors="backslashreplace")
            file.setFormatter(plain)
            logger.addHandler(file)
    return logger


def _log_file(output: str, rank: int) -> Path:
    path = Path(output) if output.endswith((".txt", ".log")) else Path(output) / "log.txt"
    path = path.absolute()
    return path.with_name(f"{path.name}.rank{rank}") if rank > 0 else path


def _has(logger: logging.Logger, kind: type[logging.Handler], **attributes: Any) -> bool:
    return any(
        isinstance(handler, kind)
        and all(getattr(handler, key) == value for key, value in attributes.items())
        for handler in logger.handlers
    )

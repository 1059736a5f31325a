"""What the command lines share: errors become texts and exit statuses, old options still work."""

import argparse
import functools
import itertools
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec

from detecture.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    DetectureError,
    EvaluationError,
)

Arguments = ParamSpec("Arguments")


def command_line(name: str) -> Callable[[Callable[Arguments, int]], Callable[Arguments, int]]:
    """Decorates the `main` of a tool, which returns its exit status.

    Errors that a user can mend are printed in one line, without a traceback. The status is 1 where
    the work failed, 2 where the input was wrong, 130 where the keyboard ended it.

    Args:
        name: of the tool, in front of the text.
    """

    def decorate(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
        @functools.wraps(main)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
            with any_text_printed():
                try:
                    return main(*args, **kwargs)
                except DetectureError as error:
                    sys.stderr.write(f"{name}: {error}\n")
                    return EXIT_FAILED if isinstance(error, EvaluationError) else EXIT_USAGE
                except KeyboardInterrupt:
                    sys.stderr.write(f"{name}: interrupted; the same command goes on from here\n")
                    return EXIT_INTERRUPTED

        return run

    return decorate


@contextmanager
def any_text_printed() -> Iterator[None]:
    r"""Inside, characters that an output stream cannot encode are printed as `\xe4`, not raised.

    Redirected streams are often not UTF-8, and file names are not always valid text.
    """
    streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
    changed = [(stream, stream.errors) for stream in streams if not _prints_any_text(stream)]
    for stream, _ in changed:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in changed:
            if not stream.closed:
                stream.reconfigure(errors=errors)


def tell_once(handler: logging.Handler) -> None:
    """Let a handler say once that it cannot write, instead of in a traceback for every line.

    A full disk then costs the lines of the log, but not the work that they report.
    """
    told: list[BaseException] = []
    usual = handler.handleError

    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            usual(record)  # a defect in the code that logs
        elif not told:
            told.append(error)
            name = getattr(handler, "baseFilename", "the log")
            with suppress(OSError):
                sys.stderr.write(f"{name}: cannot be written ({error}); the work goes on\n")

    handler.handleError = handle  # type: ignore[method-assign]


def _prints_any_text(stream: Any) -> bool:
    if not hasattr(stream, "reconfigure"):
        return True  # not one of Python's own; nothing can be done
    try:
        "\u20ac\ud800".encode(stream.encoding, stream.errors)
    except UnicodeError:
        return False
    return True


class OverridesParser(argparse.ArgumentParser):
    """Takes pairs of config key and value anywhere, not only after all options.

    argparse itself gives everything after the first pair to an argument with `nargs=REMAINDER`, so
    that in `tool KEY VALUE --overwrite` the option would be taken for a key.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As in argparse, with the words of `args` put in an order that it understands."""
        words = list(sys.argv[1:] if args is None else args)
        self._refuse_empty_paths(words)
        found, rest = super().parse_known_args(self._pairs_last(words), namespace)
        for action in self._of_remainder():
            given = getattr(found, action.dest, None)
            setattr(found, action.dest, [word for word in given or () if word != "--"])
        return found, rest

    def _refuse_empty_paths(self, words: Sequence[str]) -> None:
        """An empty one, such as of a shell variable that is not set, is the current folder."""
        pairs = [
            *itertools.pairwise(words),
            *(w.split("=", 1) for w in words if "=" in w),
        ]
        for name, value in pairs:
            action = self._option_string_actions.get(name)
            if not value and action is not None and action.type is Path:
                self.error(f"{name} is empty; give a path (. is the current folder)")

    def _of_remainder(self) -> list[argparse.Action]:
        return [action for action in self._actions if action.nargs == argparse.REMAINDER]

    def _pairs_last(self, words: list[str]) -> list[str]:
        """The words with all pairs after the options; everything after `--` is pairs."""
        if not self._of_remainder():
            return words
        positional = sum(not each.option_strings for each in self._actions) - 1
        front: list[str] = []
        pairs: list[str] = []
        while words:
            word = words.pop(0)
            if word == "--":
                pairs += words
                break
            if word.startswith("-"):
                taken = self._taken(word, words)
                front += [word, *words[:taken]]
                del words[:taken]
            elif positional > 0:
                positional -= 1
                front.append(word)
            else:
                pairs.append(word)
                # A value may begin with hyphens, but an option is not a value.
                if words and words[0] not in self._option_string_actions:
                    pairs.append(words.pop(0))
        return [*front, "--", *pairs] if pairs else front

    def _taken(self, option: str, following: Sequence[str]) -> int:
        """How many of the words after an option belong to it."""
        known = self._option_string_actions
        names = [option] if option in known else [name for name in known if name.startswith(option)]
        if not names:  # unknown, which argparse reports, or `--option=value`
            return 0
        nargs = known[names[0]].nargs
        most = 1 if nargs in (None, argparse.OPTIONAL) else len(following)
        most = nargs if isinstance(nargs, int) else most
        ends = (n for n, word in enumerate(following[:most]) if _is_option(word))
        end = next(ends, min(most, len(following)))
        if isinstance(nargs, int) or nargs in (None, argparse.OPTIONAL):
            return end
        # The option takes one word at least, whatever it is called.
        keys = (n for n, word in enumerate(following[:end]) if n and _is_key(word))
        return next(keys, end)


def _is_key(word: str) -> bool:
    """Whether a word is a key of the config, or begins like one of its sections."""
    section, dot, key = word.partition(".")
    found = _default_config().get(section)
    return found is not None and isinstance(found, dict) == bool(dot) and key == key.upper()


@functools.cache
def _default_config() -> dict[str, Any]:
    # Not above: torch comes with it, and the doctor has to start where that cannot be imported.
    from detecture.config import make_config

    return make_config(None, [])


def _is_option(word: str) -> bool:
    """Whether argparse would take a word for an option: not a negative number or lone hyphen."""
    if len(word) < 2 or not word.startswith("-"):
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def add_overwrite_option(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`; without it, `detecture.checkpoint.ownership` decides what is replaced."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that this program did not write, or that were changed since",
    )


def add_renamed_option(
    parser: argparse.ArgumentParser, option: str, *, before: str, **settings: Any
) -> None:
    """Add an option that was renamed: the old name still works, and a line says the new one.

    Args:
        parser: of the command line.
        option: such as `--images`.
        before: its earlier name.
        settings: of `add_argument`.
    """
    parser.add_argument(option, **settings)
    settings = {k: v for k, v in settings.items() if k not in ("default", "required")}
    settings |= {"dest": option.strip("-").replace("-", "_"), "new": option}
    settings |= {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(before, action=_Renamed, **settings)


class _Renamed(argparse.Action):
    """Stores what an option is given under its old name, and says the new name."""

    def __init__(self, *args: Any, new: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.new = new

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        sys.stderr.write(f"{parser.prog}: {option_string} is {self.new} now\n")
        setattr(namespace, self.dest, values)

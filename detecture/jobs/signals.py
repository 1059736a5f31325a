"""What tells a process to end: Ctrl-C, a scheduler's SIGTERM, a terminal that is closed."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ONE_SIGNAL_SECONDS = 1.0


class EndSignals:
    """Turns those signals into `KeyboardInterrupt`, at once or when the work says so.

    Signals belong to the process, so there is one instance, `end_signals`. Signals within a second
    count as one: Ctrl-C reaches all processes of a terminal, and their parent passes it on as well.
    """

    def __init__(self) -> None:
        self._is_heard = False
        self._is_held = False
        self._first: float | None = None

    @property
    def is_asked(self) -> bool:
        """Whether this process was told to end, since `heard` was entered."""
        return self._first is not None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, each of the signals raises `KeyboardInterrupt`.

        Signals that the process was started to ignore (`nohup`) stay ignored. Outside the main
        thread nothing is changed, since Python sets handlers only there.
        """
        if self._is_heard or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._first, self._is_held, self._is_heard = None, False, True
        before = _handle(self._hear)
        try:
            yield
        finally:
            self._is_heard = self._is_held = False
            _restore(before)

    def hold(self) -> None:
        """From here on the first signal is only noted (`is_asked`); the second one raises."""
        self._is_held = True

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Inside, no signal is held back, and one that was held before raises.

        Raises:
            KeyboardInterrupt: on entry, this process was told to end.
        """
        was_held, self._is_held = self._is_held, False
        try:
            if self.is_asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_held = was_held

    def _hear(self, *_: object) -> None:
        now = time.monotonic()
        if self._first is not None and now - self._first < _ONE_SIGNAL_SECONDS:
            return
        is_first, self._first = self._first is None, now
        if not (is_first and self._is_held):
            raise KeyboardInterrupt


end_signals = EndSignals()
"""Of this process."""


@contextmanager
def passed_on() -> Iterator[Callable[[], bool]]:
    """Inside, the signals go to the processes that this one has started, and it waits for them.

    Yields a function that says whether any signal has come.
    """
    told: list[int] = []

    def pass_on(number: int, _: object) -> None:
        told.append(number)
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)

    before = _handle(pass_on)
    try:
        yield lambda: bool(told)
    finally:
        _restore(before)


class LoaderWorker:
    """What a worker of a data loader begins with: only the process that started it ends it.

    A signal to a whole group would end the workers under an iteration that is to be finished.

    Args:
        begin: what the loader would have begun with.
    """

    def __init__(self, begin: Callable[[int], None] | None) -> None:
        self._begin = begin

    def __call__(self, worker_id: int) -> None:
        """Begin, in the worker."""
        if self._begin is not None:
            self._begin(worker_id)
        for name in _NAMES:
            if name != "SIGTERM" and hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        if hasattr(signal, "sigwaitinfo"):  # not on every system
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the SIGTERM by which a loader ends its workers; others' SIGTERMs are ignored."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _handle(handler: Callable[..., object]) -> dict[int, object]:
    """Set a handler for each signal that is not ignored; returns what was there before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _restore(before: dict[int, object]) -> None:
    for number, handler in before.items():
        # None: it was set by a library, and Python cannot set it again.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

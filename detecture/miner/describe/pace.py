"""When to call: so many a minute, and later again after a failure."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

Clock = Callable[[], float]


class Pace:
    """Gives each call its turn, for threads that share one endpoint."""

    def __init__(self, per_minute: float = 0.0, clock: Clock = time.monotonic) -> None:
        """Start with no calls made.

        Args:
            per_minute: calls at most, evenly spread; 0: no limit.
            clock: seconds.
        """
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._clock = clock
        self._next = -float("inf")
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def turn(self) -> bool:
        """Wait until it is this call's turn.

        Returns:
            False where calls were stopped meanwhile.
        """
        with self._lock:
            now = self._clock()
            mine = max(now, self._next)
            self._next = mine + self._gap
        return self.rest(mine - now)

    def rest(self, seconds: float) -> bool:
        """Wait; False where calls were stopped meanwhile."""
        if seconds > 0:
            return not self._stopped.wait(seconds)
        return not self._stopped.is_set()

    def leave_alone(self, seconds: float) -> None:
        """Give no turns for so long, to whomever: the endpoint wants to be left alone."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def stop(self) -> None:
        """End all waits, for good."""
        self._stopped.set()


def backoff(first: float, most: float, retry: int, seed: str) -> float:
    """Seconds to wait before a retry: twice as long each time, and by chance 50 to 100 % of that.

    Args:
        first: before the first one.
        most: the longest.
        retry: from 0.
        seed: of the chance; who waits at the same time has another one.
    """
    longest = min(most, first * 2.0 ** min(retry, 60))
    return longest * (0.5 + 0.5 * random.Random(f"{seed} {retry}").random())

"""Notes on images that are read differently from what their owner might expect.

A note is logged, and passed to any collector in this thread, such as the web page.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)

_MOST = 20  # images that are named for one kind of note
_told: dict[str, set[str]] = {}
_lock = threading.Lock()
_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def note(kind: str, text: str) -> None:
    """Log a note on an image: each text once, and about twenty images for each kind.

    Args:
        kind: kind of note, such as `stretched`.
        text: begins with the image's name.
    """
    collected = _collected.get()
    if collected is not None and text not in collected:
        collected.append(text)
    with _lock:
        told = _told.setdefault(kind, set())
        if text in told or len(told) >= _MOST:
            return
        told.add(text)
        last = len(told) == _MOST
    logger.warning("%s%s", text, "; further images like this are not named" if last else "")


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Collects the notes made inside the block, in this thread, in order; each once."""
    found: list[str] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)

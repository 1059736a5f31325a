"""An error in one of several processes that work together is an error in all of them."""

from collections.abc import Iterator
from contextlib import contextmanager

from detecture.d2 import comm
from detecture.errors import DetectureError


@contextmanager
def in_all_processes(kind: type[DetectureError]) -> Iterator[None]:
    """Raise an error of one process in all of them, once all have left the block.

    A process that went on alone would wait for the others for ever. No process goes on before all
    have reached the end of the block; inside the block they must not wait for each other.

    Args:
        kind: of the error in the other processes, where the first error is not one that a user can
            mend (such an error keeps its own kind).

    Raises:
        Exception: in a process that failed, its own error; in the others that of the first process
            that failed.
    """
    own: Exception | None = None
    try:
        yield
    except Exception as error:  # noqa: BLE001 - told to the others, and raised again
        own = error
    mended = own if isinstance(own, DetectureError) else None
    text = "" if own is None else f"{type(own).__name__}: {own}" if mended is None else str(own)
    told = comm.all_gather((own is not None, kind if mended is None else type(mended), text))
    if own is not None:
        raise own
    for rank, (failed, other, reason) in enumerate(told):
        if failed:
            raise other(f"process {rank}: {reason}")

"""Folders that one run at a time may write to."""

from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from detecture.errors import DetectureError


class FolderLock:
    """Reserves a folder, also against other processes; the end of a process releases it.

    Used as a context manager, or by `acquire` and `release`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        busy: str,
        remedy: str,
        error: type[DetectureError],
        waits: bool = False,
    ) -> None:
        """Prepare the lock; nothing is written yet.

        Args:
            folder: made where it does not exist.
            name: of the lock's file in it; different kinds of runs may share a folder.
            busy: text of the error: what it means that another has the lock.
            remedy: text of the error: what to do where the folder cannot be reserved.
            error: kind of the error.
            waits: wait until another releases the lock, instead of raising.
        """
        self.folder = folder
        self._lock = FileLock(folder / name)
        self._busy, self._remedy, self._error = busy, remedy, error
        self._timeout = -1 if waits else 0

    def acquire(self) -> None:
        """Reserve the folder.

        Raises:
            DetectureError: of the given kind; another has it, or it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=self._timeout)
        except Timeout as error:
            raise self._error(
                f"{self.folder}: {self._busy}; wait for it, or {self._remedy}"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def is_busy(self) -> bool:
        """Whether another has reserved the folder; makes neither the folder nor the lock's file.

        Raises:
            DetectureError: of the given kind; the folder cannot be written to.
        """
        if not Path(self._lock.lock_file).exists():
            return False
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError as error:
            raise self._unwritable(error) from error
        self._lock.release()
        return False

    def release(self) -> None:
        """Let others use the folder."""
        self._lock.release()

    def _unwritable(self, error: OSError) -> DetectureError:
        reason = error.strerror or error
        return self._error(f"{self.folder}: cannot be written to ({reason}); {self._remedy}")

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

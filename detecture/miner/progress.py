"""The progress of a stage while it runs."""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from detecture.checkpoint.atomic import write_text_atomic
from detecture.miner.journal import Result

PROGRESS = "progress.json"
"""Of the stage that runs, in OUTPUT_DIR."""

_PROGRESS_SECONDS = 2.0


def duration(seconds: int) -> str:
    """Hours and minutes, or minutes and seconds, in words."""
    minutes, hours = seconds // 60 % 60, seconds // 3600
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


@dataclass(frozen=True)
class StageOutcome:
    """The outcome of a run of a stage.

    Attributes:
        stage: its name.
        done: results that this run made.
        failed: items that this run, or an earlier one, failed on.
        counts: results by status, in total.
        begins: seconds until the first result of this run, the loading of models included.
        seconds: from then to the last result.
    """

    stage: str
    done: int
    failed: int
    counts: dict[str, int]
    begins: float = 0.0
    seconds: float = 0.0


class StageBar:
    """Shows the progress of a stage here and, for `mine.py status`, in a file."""

    def __init__(self, output: Path, stage: str, total: int, before: int) -> None:
        """Show it.

        Args:
            output: OUTPUT_DIR.
            stage: its name.
            total: items of the stage.
            before: items that were done before this run.
        """
        self._path = output / PROGRESS
        self._stage, self._total, self._before, self._done = stage, total, before, 0
        self._cost = 0.0
        self._begun = self._said = time.monotonic()
        self._bar = tqdm(desc=stage, total=total, initial=before, unit="image", file=sys.stderr)
        self._say()

    def __enter__(self) -> "StageBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._say()

    def step(self, result: Result) -> None:
        """Count one more item as done."""
        self._done += 1
        self._cost += float(result.get("cost") or 0.0)
        self._bar.update()
        if time.monotonic() - self._said > _PROGRESS_SECONDS:
            self._said = time.monotonic()
            self._say()

    def _say(self) -> None:
        seconds = time.monotonic() - self._begun
        rate = self._done / seconds if seconds > 0 and self._done else 0.0
        left = self._total - self._before - self._done
        content = {
            "stage": self._stage,
            "total": self._total,
            "done": self._before + self._done,
            "images_per_second": round(rate, 3),
            "seconds_left": round(left / rate) if rate else None,
            "cost": round(self._cost, 4),
        }
        write_text_atomic(self._path, json.dumps(content) + "\n")


class Clock:
    """Seconds until the first result, and from then to the last."""

    def __init__(self) -> None:
        """Start it."""
        self._started = time.monotonic()
        self.begins = self.seconds = 0.0
        self._ticks = 0

    def tick(self) -> None:
        """Note that another result is there."""
        passed = time.monotonic() - self._started
        if not self._ticks:
            self.begins = passed
        self.seconds = passed - self.begins
        self._ticks += 1

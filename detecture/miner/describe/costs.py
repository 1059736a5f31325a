"""What describing costs: estimates before, a limit meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detecture.data.lexicon.phrases import POSITION_PHRASES
from detecture.miner.describe.prompt import SYSTEM, RegionHint, clean_name, instruction
from detecture.miner.describe.settings import DescribeSettings

_CHARACTERS_PER_TOKEN = 3.0  # of prompts; English has about four
_TOKENS_PER_REGION = 40  # of an answer
_LONGEST_PLACE = max((names[0] for names in POSITION_PHRASES.values()), key=len)


def tokens_of(text: str, shapes: Sequence[Sequence[int]], settings: DescribeSettings) -> int:
    """About how many tokens a text and images are; rather more than fewer.

    Args:
        text: the words.
        shapes: of each image, its height and width first.
        settings: say how many pixels are a token.
    """
    pixels = sum(shape[0] * shape[1] for shape in shapes)
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN + pixels / settings.pixels_per_token)


def counted(value: Any, estimate: int) -> int:
    """A number of tokens as an endpoint has counted it, or the estimate where that is no number.

    Args:
        value: out of an answer; anything.
        estimate: in its place. A count of more than a hundred times as many is not believed.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return estimate
    return int(value) if 0 <= value <= 100 * max(estimate, 1000) else estimate


def shown_size(height: int, width: int, settings: DescribeSettings) -> tuple[int, int]:
    """The size at which an image is sent."""
    scale = min(1.0, settings.max_side / max(height, width, 1))
    return max(1, round(height * scale)), max(1, round(width * scale))


def tokens_of_call(
    size: Sequence[int], class_names: Sequence[str], settings: DescribeSettings
) -> tuple[int, int]:
    """About how many tokens one call reads, and writes.

    Args:
        size: height and width of the image.
        class_names: of its regions.
        settings: MINER.DESCRIBE.
    """
    hints = [RegionHint(clean_name(name), 0.5, _LONGEST_PLACE) for name in class_names]
    colors = [("light magenta", (0, 0, 0))] * len(hints) if settings.overlay else []
    shapes = [shown_size(size[0], size[1], settings)] * (2 if settings.overlay else 1)
    read = tokens_of(SYSTEM + instruction(hints, colors), shapes, settings)
    return read, min(settings.max_tokens, _TOKENS_PER_REGION * len(hints) + 20)


@dataclass(frozen=True)
class DescribeEstimate:
    """What describing will take, before anything is sent.

    Attributes:
        images: number of images, each one call where all goes well.
        tokens: read and written, where all goes well.
        cost: USD for that.
        cost_most: USD where every image takes all attempts, and every answer is as long as can be.
        priced: prices are known; where not, both costs are 0.
    """

    images: int
    tokens: tuple[int, int]
    cost: float
    cost_most: float
    priced: bool

    def times(self, factor: float) -> DescribeEstimate:
        """The same of so many times as many images."""
        read, written = (round(count * factor) for count in self.tokens)
        images = round(self.images * factor)
        cost, most = self.cost * factor, self.cost_most * factor
        return DescribeEstimate(images, (read, written), cost, most, self.priced)

    def __str__(self) -> str:
        read, written = self.tokens
        money = (
            f"about {self.cost:.2f} USD, at most about {self.cost_most:.2f} USD"
            if self.priced
            else "cost unknown (set MINER.DESCRIBE.PRICE_IN and PRICE_OUT)"
        )
        return (
            f"{self.images:,} images, about {read:,} tokens read and {written:,} written: {money}"
        )


def estimate(
    extracted: Iterable[Mapping[str, Any]], settings: DescribeSettings
) -> DescribeEstimate:
    """What it will take to describe images; nothing is read or sent.

    Args:
        extracted: the result of the stage `extract` of each image, with `size` and `regions`.
        settings: MINER.DESCRIBE.
    """
    images = read = written = most_written = 0
    for result in extracted:
        names = [region["class_name"] for region in result["regions"]]
        one_read, one_written = tokens_of_call(result["size"], names, settings)
        images, read, written = images + 1, read + one_read, written + one_written
        most_written += settings.max_tokens
    most = settings.cost((read * settings.attempts, most_written * settings.attempts))
    priced = bool(settings.price_in or settings.price_out)
    return DescribeEstimate(images, (read, written), settings.cost((read, written)), most, priced)


class CostLimit:
    """Keeps what is spent below a limit, whatever runs at the same time.

    Before each call its likely cost is set aside; what does not fit any more is not begun.

    Attributes:
        most: USD; 0: no limit.
        spent: USD so far.
    """

    def __init__(self, most: float, spent: float = 0.0) -> None:
        self.most = most
        self.spent = spent
        self._held = 0.0
        self._greatest = 0.0
        self._lock = threading.Lock()

    def hold(self, likely: float) -> float | None:
        """Set the cost of a call aside, at least that of the dearest one so far.

        Returns:
            What was set aside, for `settle`; None where it does not fit.
        """
        with self._lock:
            amount = max(likely, self._greatest)
            if self.most and self.spent + self._held + amount > self.most:
                return None
            self._held += amount
            return amount

    def settle(self, held: float, cost: float) -> None:
        """A call is over: what was set aside for it, and what it cost."""
        with self._lock:
            self._held -= held
            self.spent += cost
            self._greatest = max(self._greatest, cost)

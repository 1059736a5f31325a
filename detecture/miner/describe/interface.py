"""What a describer is: it writes a sentence about each region of an image.

Legend: H, W size of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from detecture.errors import MinerError, brief
from detecture.miner.describe.answers import AnswerError, parse_answer_texts


@dataclass(frozen=True)
class DescribeTask:
    """An image whose regions are to be described.

    Attributes:
        item_id: of the image.
        image: uint8 RGB (H,W,3).
        index_mask: uint8 (H,W), i+1 where region i is, 0 where none is.
        class_names: of each region, as its source calls it; empty text where it has no name.
    """

    item_id: str
    image: np.ndarray
    index_mask: np.ndarray
    class_names: Sequence[str]

    def problem(self) -> str:
        """Why it cannot be described; empty where it can."""
        count = len(self.class_names)
        if not count:
            return "there are no regions"
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            return f"the image is {self.image.dtype} {self.image.shape}, not uint8 (H,W,3)"
        if self.index_mask.shape != self.image.shape[:2]:
            return f"the index mask is {self.index_mask.shape}, the image {self.image.shape[:2]}"
        found = set(np.unique(self.index_mask).tolist()) - {0}
        if missing := sorted(set(range(1, count + 1)) - found):
            return f"region {missing[0]} has no pixels in the index mask"
        if more := sorted(found - set(range(1, count + 1))):
            return f"the index mask holds {more[0]}, but there are {count} regions"
        return ""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a describer answered.

    Attributes:
        descriptions: one for each region; empty where `problem` says why.
        problem: why the answer cannot be used; empty where it was read.
        tokens: read and written, as they are paid for.
    """

    descriptions: tuple[str, ...] = ()
    problem: str = ""
    tokens: tuple[int, int] = (0, 0)


class CallFailed(MinerError):
    """A describer gave no answer at all.

    Attributes:
        retry: the same call may succeed later.
        at_once: the describer has changed how it asks, and wants to be called again now.
        stop: no other call would succeed either; the text says what to do.
        wait: seconds that the endpoint wants to be left alone for; None: it does not say.
        may_be_paid: the call may be charged for, though there is no answer.
    """

    def __init__(
        self,
        text: str,
        *,
        retry: bool = False,
        at_once: bool = False,
        stop: bool = False,
        wait: float | None = None,
        may_be_paid: bool = False,
    ) -> None:
        super().__init__(text)
        self.retry = retry
        self.at_once = at_once
        self.stop = stop
        self.wait = wait
        self.may_be_paid = may_be_paid


class MinerDescriber(Protocol):
    """Writes one sentence about each region of an image.

    Attributes:
        name: of the describer, as in MINER.DESCRIBE.DESCRIBER.
        offline: the sentences are made of measurements, or by the small model that ships.
        model: name of the model that writes them.
        remote: images leave this machine; calls may fail, and cost.
    """

    name: str
    offline: bool
    model: str
    remote: bool

    def describe(
        self,
        image: np.ndarray,
        index_mask: np.ndarray,
        class_names: Sequence[str],
        *,
        reason: str = "",
    ) -> Said:
        """Describe the regions of an image.

        Args:
            image: uint8 RGB (H,W,3).
            index_mask: uint8 (H,W), i+1 where region i is.
            class_names: of each region; empty text where it has no name.
            reason: why the answer before this one was refused; empty the first time.

        Raises:
            CallFailed: there is no answer.
        """


@runtime_checkable
class DescribesBatches(Protocol):
    """A describer that is quicker with several images at a time.

    Attributes:
        batch_size: how many it takes.
    """

    batch_size: int

    def describe_batch(self, tasks: Sequence[DescribeTask], reasons: Sequence[str]) -> list[Said]:
        """As `MinerDescriber.describe`, of several images, with the `reason` of each."""


def said_of(text: str, count: int, tokens: tuple[int, int] = (0, 0)) -> Said:
    """What a text that a model wrote says of `count` regions."""
    try:
        return Said(descriptions=tuple(parse_answer_texts(text, count)), tokens=tokens)
    except AnswerError as refused:
        return Said(problem=str(refused), tokens=tokens)


def require_known(name: str, known: Sequence[str]) -> None:
    """Check the name of a describer.

    Raises:
        MinerError: there is none of this name.
    """
    if name not in known:
        raise MinerError(
            f"MINER.DESCRIBE.DESCRIBER is {brief(name)}; use one of {', '.join(known)}"
        )

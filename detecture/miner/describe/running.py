"""Describes images: attempts, retries, a pace, and a limit of cost, which all threads share.

Every image that is begun ends described, or failed with the reason; where nothing more can be
asked, with an error that says why.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detecture.errors import DetectureError
from detecture.miner.describe.answers import OFFLINE_RULES, WordRules, check_texts
from detecture.miner.describe.costs import CostLimit, tokens_of_call
from detecture.miner.describe.interface import (
    CallFailed,
    DescribeTask,
    MinerDescriber,
    Said,
)
from detecture.miner.describe.pace import Pace, backoff
from detecture.miner.describe.settings import DescribeSettings
from detecture.miner.stage import StageStopped

logger = logging.getLogger(__name__)

MOST_FAILURES_IN_A_ROW = 20
"""Images whose calls fail, one after the other, before the endpoint is given up."""

MOST_BEFORE_AN_ANSWER = 3
"""The same where there has been no answer at all: it is the address or the network, then."""

_SHOWN_CHARACTERS = 300


class DescribeStopped(StageStopped):
    """Nothing more can be asked; the text says why, and what to do."""


@dataclass
class _Progress:
    """One image on its way."""

    task: DescribeTask
    attempts: int = 0
    tokens: tuple[int, int] = (0, 0)
    reason: str = ""
    said: Said | None = None
    warnings: list[str] = field(default_factory=list)


class DescribeRunner:
    """Runs a describer over images.

    Attributes:
        limit: of cost.
    """

    def __init__(
        self, describer: MinerDescriber, settings: DescribeSettings, *, spent: float = 0.0
    ) -> None:
        """Make a runner; nothing is asked yet.

        Args:
            describer: writes the sentences.
            settings: MINER.DESCRIBE.
            spent: USD that runs before this one have spent of MAX_COST.
        """
        self.describer = describer
        self.settings = settings
        self.rules = OFFLINE_RULES if describer.offline else WordRules()
        self.limit = CostLimit(settings.max_cost if describer.remote else 0.0, spent)
        self._pace = Pace(settings.requests_per_minute if describer.remote else 0.0)
        self._lock = threading.Lock()
        self._failures_in_a_row = 0
        self._has_answered = False
        self._why = "calls have been stopped"

    # ---- many images ------------------------------------------------------------------------

    def stop(self) -> None:
        """Make no more calls, as where the run was interrupted; images that wait end unresolved."""
        self._stop("the run was interrupted")

    def describe_batch(self, tasks: Sequence[DescribeTask]) -> list[dict[str, Any]]:
        """The results of several images at a time, in their order.

        Args:
            tasks: for a describer that `DescribesBatches`.
        """
        batch = [_Progress(task) for task in tasks]
        open_ones = []
        for one in batch:
            one.reason = one.task.problem()
            if not one.reason:
                open_ones.append(one)
        for _ in range(self.settings.attempts):
            if not open_ones:
                break
            for one, said in zip(open_ones, self._said_of_batch(open_ones), strict=True):
                self._take(one, said)
            open_ones = [one for one in open_ones if one.reason]
        return [self._result(one) for one in batch]

    def _said_of_batch(self, batch: list[_Progress]) -> list[Said]:
        describer: Any = self.describer
        try:
            return describer.describe_batch([b.task for b in batch], [b.reason for b in batch])
        except Exception as error:  # noqa: BLE001 - such as no memory for so many images at a time
            if len(batch) == 1:
                return [Said(problem=_text_of(error))]
            logger.warning("%d images together failed (%s); one by one", len(batch), error)
            return [said for one in batch for said in self._said_of_batch([one])]

    # ---- one image --------------------------------------------------------------------------

    def describe_one(self, task: DescribeTask) -> dict[str, Any]:
        """The result of one image: plain values. Threads may call this at the same time.

        Raises:
            DescribeStopped: nothing more can be asked, and the image has no result.
        """
        one = _Progress(task, reason=task.problem())
        if one.reason:
            return self._result(one)
        failed: CallFailed | None = None
        while one.attempts < self.settings.attempts:
            try:
                said = self._call(one)
            except CallFailed as error:
                failed = error
                # The reason of an answer that was refused is worth more than that of its retry.
                one.reason = f"{one.reason}; then {error}" if one.attempts else str(error)
                break
            except DescribeStopped as stop:
                if not one.attempts:
                    raise
                one.reason = f"{one.reason}; no other attempt: {stop}"  # what is paid for is kept
                break
            self._take(one, said)
            if not one.reason:
                break
        self._count_failures(failed)
        return self._result(one)

    def _call(self, one: _Progress) -> Said:
        """One answer, after as many retries as are allowed."""
        settings, task = self.settings, one.task
        likely = settings.cost(
            tokens_of_call(task.image.shape, task.class_names, settings)
            if self.describer.remote
            else (0, 0)
        )
        retry = 0
        while True:
            held = self.limit.hold(likely)
            if held is None:
                raise DescribeStopped(
                    f"MINER.DESCRIBE.MAX_COST {settings.max_cost:g} USD would be passed: "
                    f"{self.limit.spent:.4f} USD are spent, and the next call is likely to take "
                    f"{likely:.4f}. Raise it to go on"
                )
            cost = 0.0
            try:
                if not self._pace.turn():
                    raise DescribeStopped(self._why)
                said = self._describe(one)
                cost = settings.cost(said.tokens)
                return said
            except CallFailed as error:
                cost = held if error.may_be_paid else 0.0
                failure = error
            finally:
                self.limit.settle(held, cost)
            if failure.stop:
                self._stop(str(failure))
                raise DescribeStopped(str(failure)) from failure
            if failure.at_once:
                continue
            if not failure.retry or retry >= settings.retries:
                tried = f" (tried {retry + 1} times)" if retry else ""
                raise CallFailed(f"{failure}{tried}", retry=failure.retry) from failure
            pause = backoff(
                settings.backoff, settings.most_wait, retry, f"{settings.seed} {task.item_id}"
            )
            if failure.wait is not None:
                if failure.wait > settings.most_wait:
                    raise CallFailed(
                        f"{failure}; it asks to wait {failure.wait:.0f} s, more than "
                        f"MINER.DESCRIBE.MOST_WAIT {settings.most_wait:g}"
                    ) from failure
                # Others would be refused as well.
                self._pace.leave_alone(failure.wait)
                pause = max(pause, failure.wait)
            logger.info("%s: %s; again in %.1f s", task.item_id, failure, pause)
            retry += 1
            if not self._pace.rest(pause):
                raise DescribeStopped(self._why) from failure

    def _describe(self, one: _Progress) -> Said:
        task = one.task
        try:
            return self.describer.describe(
                task.image, task.index_mask, task.class_names, reason=one.reason
            )
        except CallFailed:
            raise
        except Exception as error:
            # One image that a client or model cannot take ends no run of thousands.
            raise CallFailed(_text_of(error)) from error

    def _count_failures(self, failed: CallFailed | None) -> None:
        if not self.describer.remote:
            return
        with self._lock:
            self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
            self._has_answered |= failed is None or not failed.retry
            most = MOST_FAILURES_IN_A_ROW if self._has_answered else MOST_BEFORE_AN_ANSWER
            many = self._failures_in_a_row >= most
        if many:
            self._stop(
                f"{most} images in a row got no answer, the last one because of: "
                f"{failed}. Mend that, and run again"
            )

    def _stop(self, why: str) -> None:
        """Make no more calls; those that wait end."""
        self._why = why
        self._pace.stop()

    # ---- results ----------------------------------------------------------------------------

    def _take(self, one: _Progress, said: Said) -> None:
        """Judge an answer; `reason` is then why it is refused, or empty."""
        one.attempts += 1
        one.tokens = one.tokens[0] + said.tokens[0], one.tokens[1] + said.tokens[1]
        one.said, one.reason, one.warnings = said, said.problem, []
        if one.reason:
            return
        if len(said.descriptions) != len(one.task.class_names):
            one.reason = f"{len(said.descriptions)} texts for {len(one.task.class_names)} regions"
            return
        problems, one.warnings = check_texts(said.descriptions, self.rules)
        one.reason = "; ".join(problems)[:_SHOWN_CHARACTERS]

    def _result(self, one: _Progress) -> dict[str, Any]:
        described = one.said is not None and not one.reason
        cost = self.settings.cost(one.tokens) if self.describer.remote else 0.0
        result: dict[str, Any] = {
            "status": "ok" if described else "failed",
            "describer": self.describer.name,
            "offline": self.describer.offline,
            "model": self.describer.model,
            "descriptions": list(one.said.descriptions) if described and one.said else [],
            "attempts": one.attempts,
            "tokens": list(one.tokens),
            "cost": cost,
        }
        if one.warnings and described:
            result["warnings"] = one.warnings
        if not described:
            result["reason"] = one.reason or "it was not described"
            logger.warning("%s is not described: %s", one.task.item_id, result["reason"])
        return result


def _text_of(error: Exception) -> str:
    text = str(error) if isinstance(error, DetectureError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:_SHOWN_CHARACTERS]

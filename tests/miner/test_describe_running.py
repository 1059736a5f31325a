"""Many images: threads, pace, the limit of cost, batches, and what becomes of each."""

import itertools
import re
import threading
import time

import numpy as np
import pytest
from miner.endpoints import GOOD, Endpoint, answer_of, fails, serving
from miner.scenes import described, described_together, task

from detecture.errors import DetectureError
from detecture.miner.describe import (
    DescribeRunner,
    DescribeSettings,
    DescribeStopped,
    DescribeTask,
    Said,
    build_describer,
    estimate,
)
from detecture.miner.describe.costs import CostLimit
from detecture.miner.describe.interface import CallFailed
from detecture.miner.describe.pace import Pace, backoff

SAID = Said(descriptions=tuple(GOOD[:2]), tokens=(100, 20))


class Fake:
    """A describer that does as it is told; `answers` is called with the image's number."""

    name, offline, model, remote = "fake", False, "none", True

    def __init__(self, answers=lambda number, reason: SAID):
        self.answers = answers
        self.calls = []
        self.lock = threading.Lock()

    def describe(self, image, index_mask, class_names, *, reason=""):
        with self.lock:
            self.calls.append((int(image[0, 0, 0]), reason))
        return self.answers(int(image[0, 0, 0]), reason)


def numbered(count):
    """Tasks whose first pixel says their number."""
    for number in range(count):
        one = task(f"image{number:03d}", seed=number)
        one.image[0, 0, 0] = number
        yield one


def runner_of(describer, **more):
    options = {"backoff": 0.001, "concurrency": 3, **more}
    return DescribeRunner(describer, DescribeSettings(**options))


# ---- threads ---------------------------------------------------------------------------------


def test_so_many_calls_run_at_a_time_and_no_more(monkeypatch):
    pytest.importorskip("openai", reason="needs openai")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    together = threading.Barrier(4)

    def meets(endpoint, request):
        together.wait(10)  # only four at the same time get through
        return answer_of(2)

    endpoint = Endpoint(meets)
    with serving(endpoint) as url:
        settings = DescribeSettings(
            describer="openai",
            send_images=True,
            model="m",
            base_url=f"{url}/v1",
            concurrency=4,
            retries=0,
            timeout=15.0,
        )
        runner = DescribeRunner(build_describer(settings), settings)
        results = dict(described(runner, numbered(12)))
    assert {result["status"] for result in results.values()} == {"ok"} and len(results) == 12
    assert endpoint.most_at_once == 4


def test_images_are_drawn_only_as_they_are_needed():
    drawn, given = [], 0

    def tasks():
        for one in numbered(30):
            drawn.append(one.item_id)
            yield one

    for _ in described(runner_of(Fake()), tasks()):
        given += 1
        assert len(drawn) <= given + 3 * 3  # three for each thread
    assert given == 30


def test_nothing_is_lost_whatever_fails():
    def answers(number, reason):
        if number % 5 == 1:
            raise CallFailed("no answer")
        if number % 5 == 2:
            raise RuntimeError("a client's fault")
        if number % 5 == 3 and not reason:
            return Said(problem="odd", tokens=(100, 20))
        if number % 5 == 4:
            return Said(descriptions=(GOOD[0],), tokens=(100, 20))
        return SAID

    runner = runner_of(Fake(answers), price_in=1.0, price_out=1.0)
    results = dict(described(runner, numbered(40)))
    assert len(results) == 40
    by_kind = [results[f"image{i:03d}"] for i in range(5)]
    assert [result["status"] for result in by_kind] == ["ok", "failed", "failed", "ok", "failed"]
    assert [result["attempts"] for result in by_kind] == [1, 0, 0, 2, 2]
    assert by_kind[2]["reason"] == "RuntimeError: a client's fault"
    assert by_kind[4]["reason"] == "1 texts for 2 regions"
    assert all(result["reason"] for result in results.values() if result["status"] == "failed")
    assert sum(result["status"] == "ok" for result in results.values()) == 16
    assert runner.limit.spent == pytest.approx(sum(r["cost"] for r in results.values()))


def test_the_results_do_not_depend_on_threads():
    def answers(number, reason):
        time.sleep(0.001 * (number * 7 % 5))
        return SAID if number % 3 or reason else Said(problem="odd")

    alone = dict(described(runner_of(Fake(answers), concurrency=1), numbered(15)))
    assert dict(described(runner_of(Fake(answers), concurrency=8), numbered(15))) == alone


@pytest.mark.parametrize("ends", ["close", "interrupt"])
def test_whoever_ends_the_run_does_not_wait_for_pauses(ends):
    failing = Fake(lambda number, reason: (_ for _ in ()).throw(CallFailed("busy", retry=True)))

    def answers(number, reason):
        return SAID if number == 0 else failing.answers(number, reason)

    begun = time.monotonic()
    results = described(runner_of(Fake(answers), backoff=60.0, concurrency=3), numbered(9))
    assert next(results)[0] == "image000"
    if ends == "close":
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            list(itertools.chain([results.throw(KeyboardInterrupt())], results))
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"class_names": ()}, "no regions"),
        ({"class_names": ("a", "b", "c")}, "region 3 has no pixels"),
        ({"class_names": ("a",)}, "holds 2, but there are 1 regions"),
        ({"index_mask": np.ones((3, 3), np.uint8)}, r"the index mask is \(3, 3\)"),
        ({"image": np.zeros((48, 64), np.uint8)}, r"not uint8 \(H,W,3\)"),
    ],
)
def test_what_does_not_fit_together_fails_before_anything_is_asked(wrong, reason):
    good = task()
    parts = {
        "image": good.image,
        "index_mask": good.index_mask,
        "class_names": good.class_names,
        **wrong,
    }
    fake = Fake()
    (result,) = dict(described(runner_of(fake), [DescribeTask("x", **parts)])).values()
    assert result["status"] == "failed" and not fake.calls
    assert re.search(reason, result["reason"])


# ---- pace ------------------------------------------------------------------------------------


def test_calls_keep_to_so_many_a_minute():
    fake, times = Fake(), []
    fake.answers = lambda number, reason: times.append(time.monotonic()) or SAID
    runner = runner_of(fake, requests_per_minute=1200, concurrency=4)
    dict(described(runner, numbered(8)))
    assert times[-1] - times[0] >= 7 * 0.05 - 0.01
    assert all(later - sooner >= 0.03 for sooner, later in itertools.pairwise(times))


def test_turns_are_given_in_order_and_an_endpoint_is_left_alone():
    now = [0.0]
    pace = Pace(60, clock=lambda: now[0])
    waits = []
    pace.rest = lambda seconds: waits.append(round(seconds, 3)) or True
    for _ in range(3):
        pace.turn()
    pace.leave_alone(10)
    pace.turn()
    now[0] = 100.0
    pace.turn()
    assert waits == [0.0, 1.0, 2.0, 10.0, 0.0]


def test_waits_grow_and_are_the_same_for_the_same_seed():
    waits = [backoff(1.0, 60.0, retry, "0 image") for retry in range(10)]
    assert waits == [backoff(1.0, 60.0, retry, "0 image") for retry in range(10)]
    for retry, seconds in enumerate(waits):
        assert 0.5 <= seconds / min(60.0, 2.0**retry) <= 1.0
    assert waits != [backoff(1.0, 60.0, retry, "0 other") for retry in range(10)]
    assert backoff(1.0, 60.0, 10**6, "0") <= 60.0


# ---- cost ------------------------------------------------------------------------------------


def test_the_limit_of_cost_is_never_passed_and_said():
    fake = Fake(lambda number, reason: Said(descriptions=tuple(GOOD[:2]), tokens=(900, 100)))
    runner = runner_of(fake, price_in=1e3, price_out=1e3, max_cost=5.5, concurrency=4)
    results = {}
    with pytest.raises(DescribeStopped) as stopped:
        results.update(described(runner, numbered(40)))
    spent = sum(result["cost"] for result in results.values())
    assert 1.0 <= spent <= 5.5 and runner.limit.spent == pytest.approx(spent)
    assert {result["status"] for result in results.values()} == {"ok"}
    said = str(stopped.value)
    assert "MINER.DESCRIBE.MAX_COST 5.5 USD would be passed" in said
    assert len(results) == len(fake.calls)


def test_what_was_spent_before_counts():
    settings = DescribeSettings(price_in=1.0, price_out=1.0, max_cost=1.0)
    fake = Fake()
    runner = DescribeRunner(fake, settings, spent=1.0)
    with pytest.raises(DescribeStopped, match=r"1\.0000 USD are spent"):
        dict(described(runner, numbered(2)))
    assert not fake.calls


def test_where_no_second_attempt_can_be_paid_what_was_spent_is_kept():
    fake = Fake(lambda number, reason: Said(problem="odd", tokens=(10**6, 0)))
    runner = runner_of(fake, price_in=1.0, price_out=1.0, max_cost=1.5, concurrency=1)
    (result,) = dict(described(runner, numbered(1))).values()
    assert result["status"] == "failed" and result["cost"] == 1.0
    assert "odd; no other attempt: MINER.DESCRIBE.MAX_COST" in result["reason"]


def test_a_limit_without_prices_is_refused():
    with pytest.raises(DetectureError, match=r"MINER\.DESCRIBE\.PRICE_IN"):
        DescribeSettings(max_cost=1.0)


@pytest.mark.parametrize("name", ["attempts", "concurrency", "timeout", "max_tokens"])
def test_values_out_of_range_are_refused(name):
    with pytest.raises(DetectureError, match=rf"MINER\.DESCRIBE\.{name.upper()} is -1"):
        DescribeSettings(**{name: -1})


def test_the_dearest_call_so_far_is_what_the_next_is_likely_to_cost():
    limit = CostLimit(10.0)
    assert limit.hold(1.0) == 1.0
    limit.settle(1.0, 4.0)
    assert limit.hold(1.0) == 4.0
    assert limit.hold(1.0) is None  # 4 spent and 4 set aside
    limit.settle(4.0, 0.5)
    assert limit.hold(1.0) == 4.0
    assert CostLimit(0.0, 99.0).hold(1e9) == 1e9


def test_a_dry_run_says_what_it_will_take():
    extracted = [
        {"size": [768, 1024], "regions": [{"class_name": "wall"}, {"class_name": "grass"}]}
    ] * 10
    settings = DescribeSettings(describer="openai", price_in=1.0, price_out=5.0)
    found = estimate(iter(extracted), settings)
    assert found.images == 10 and found.priced
    read, written = found.tokens
    pixels = 2 * 768 * 1024 / 750
    assert 10 * pixels < read < 10 * (pixels + 1000) and written == 1000
    assert found.cost == pytest.approx((read + 5 * written) / 1e6)
    assert found.cost_most == pytest.approx((2 * read + 5 * 2 * 10 * 1024) / 1e6)
    assert "10 images" in str(found) and "USD" in str(found)
    one_image = estimate(extracted, DescribeSettings(overlay=False))
    assert one_image.tokens[0] < 0.6 * read
    assert "cost unknown" in str(one_image) and one_image.cost == 0
    assert estimate([], settings).tokens == (0, 0)


# ---- batches ---------------------------------------------------------------------------------


class FakeBatches(Fake):
    remote, batch_size = False, 4

    def __init__(self, answers=lambda number, reason: SAID, most=99):
        super().__init__(answers)
        self.sizes, self.most = [], most

    def describe_batch(self, tasks, reasons):
        self.sizes.append(len(tasks))
        if len(tasks) > self.most:
            raise RuntimeError("no memory")
        return [
            self.describe(one.image, one.index_mask, one.class_names, reason=reason)
            for one, reason in zip(tasks, reasons, strict=True)
        ]


def test_several_images_are_described_at_a_time_and_those_refused_again():
    def answers(number, reason):
        return Said(problem="odd") if number in (1, 6) and not reason else SAID

    fake = FakeBatches(answers)
    results = list(described_together(runner_of(fake), numbered(10)))
    assert [item_id for item_id, _ in results] == [f"image{i:03d}" for i in range(10)]
    assert {result["status"] for _, result in results} == {"ok"}
    assert fake.sizes == [4, 1, 4, 1, 2]
    assert [result["attempts"] for _, result in results[:3]] == [1, 2, 1]


def test_where_a_batch_is_too_large_images_go_one_by_one():
    fake = FakeBatches(most=1)
    results = dict(described_together(runner_of(fake), numbered(3)))
    assert {result["status"] for result in results.values()} == {"ok"}
    assert fake.sizes == [3, 1, 1, 1]
    fake = FakeBatches(most=0)
    results = dict(described_together(runner_of(fake, attempts=1), numbered(2)))
    assert {result["reason"] for result in results.values()} == {"RuntimeError: no memory"}


def test_a_server_that_fails_now_and_then_loses_no_image(monkeypatch):
    pytest.importorskip("anthropic", reason="needs anthropic")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    flaky = [fails(529), answer_of(1), answer_of(2), fails(429, retry_after=0.01), "no", fails(500)]
    endpoint = Endpoint(*flaky * 5, answer_of(2))
    with serving(endpoint) as url:
        settings = DescribeSettings(
            describer="anthropic",
            send_images=True,
            base_url=url,
            concurrency=5,
            backoff=0.001,
            requests_per_minute=6000,
        )
        runner = DescribeRunner(build_describer(settings), settings)
        results = dict(described(runner, numbered(20)))
    assert len(results) == 20
    for result in results.values():
        assert (
            bool(result["descriptions"]) == (result["status"] == "ok") != bool(result.get("reason"))
        )

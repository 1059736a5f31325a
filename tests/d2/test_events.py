"""The event storage and the writers."""

import json
import logging

import pytest
import torch

from detecture.d2 import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)


def test_no_storage_is_open():
    with pytest.raises(AssertionError, match="EventStorage"):
        get_event_storage()


def test_the_innermost_storage_counts():
    with EventStorage() as outer:
        assert get_event_storage() is outer
        with EventStorage() as inner:
            assert get_event_storage() is inner
        assert get_event_storage() is outer
    with pytest.raises(AssertionError):
        get_event_storage()


def test_storage_is_closed_after_an_exception():
    with pytest.raises(ZeroDivisionError), EventStorage():
        1 / 0  # noqa: B018
    with pytest.raises(AssertionError):
        get_event_storage()


def test_scalars_and_iterations():
    with EventStorage(start_iter=5) as storage:
        storage.put_scalar("a", torch.tensor(1.5))
        storage.step()
        storage.put_scalars(a=2.5, b=3)
        storage.iter = 9
        storage.put_scalar("b", 4)
        assert storage.iter == 9
        assert storage.latest() == {"a": (2.5, 6), "b": (4.0, 9)}
        assert storage.history("a").values() == [(1.5, 5), (2.5, 6)]
        assert set(storage.histories()) == {"a", "b"}
        with pytest.raises(KeyError, match="nothing"):
            storage.history("nothing")


def test_a_scalar_can_belong_to_another_iteration():
    with EventStorage(start_iter=5) as storage:
        storage.put_scalar("a", 1.0, cur_iter=3)
        storage.put_scalars(b=1.0, cur_iter=4)
        assert storage.latest() == {"a": (1.0, 3), "b": (1.0, 4)}


def test_smoothing_hint_decides_between_median_and_newest():
    with EventStorage() as storage:
        for value in (1, 2, 30, 4):
            storage.step()
            storage.put_scalar("noisy", value)
            storage.put_scalar("exact", value, smoothing_hint=False)
        assert storage.smoothing_hints() == {"noisy": True, "exact": False}
        latest = storage.latest_with_smoothing_hint(window_size=3)
    assert latest["noisy"][0] == 4.0  # median of 2, 30, 4
    assert latest["exact"][0] == 4.0
    assert storage.latest_with_smoothing_hint(window_size=4)["noisy"][0] == 3.0


def test_the_window_is_one_of_iterations():
    with EventStorage() as storage:
        for iteration in range(0, 40, 10):
            storage.iter = iteration
            storage.put_scalar("seldom", iteration)
        assert storage.latest_with_smoothing_hint(window_size=20)["seldom"] == (25.0, 30)
        assert storage.latest_with_smoothing_hint(window_size=10)["seldom"] == (30.0, 30)
        for value in (1, 2, 300):  # all in one iteration
            storage.put_scalar("often", value)
        assert storage.latest_with_smoothing_hint(window_size=1)["often"] == (2.0, 30)


def test_the_printer_has_the_same_window(caplog):
    with EventStorage() as storage:
        for iteration in range(0, 40, 10):
            storage.iter = iteration
            storage.put_scalars(total_loss=iteration, data_time=iteration)
        line = written_line(caplog, CommonMetricPrinter(window_size=10))
        assert "total_loss: 30" in line and "data_time: 30.0000" in line


def test_smoothing_hint_cannot_change():
    with EventStorage() as storage:
        storage.put_scalar("a", 1.0)
        with pytest.raises(AssertionError, match="smoothing_hint"):
            storage.put_scalar("a", 1.0, smoothing_hint=False)


def test_name_scope():
    with EventStorage() as storage:
        with storage.name_scope("head"):
            storage.put_scalar("a", 1.0)
        with pytest.raises(ZeroDivisionError), storage.name_scope("bad"):
            1 / 0  # noqa: B018
        if "lite" in type(storage).__module__:  # detectron2 leaves the scope open here
            storage.put_scalar("a", 2.0)
            assert set(storage.latest()) == {"head/a", "a"}
        assert storage.latest()["head/a"] == (1.0, 0)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_writer_appends_a_line_per_iteration(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": -1}\n')
    writer = JSONWriter(str(path), window_size=2)
    with EventStorage() as storage:
        for value in (1.0, 3.0, 5.0):
            storage.put_scalar("loss", value)
            storage.put_scalar("lr", value, smoothing_hint=False)
            storage.step()
        writer.write()
        writer.write()  # nothing new: no line
        storage.put_scalar("mIoU", 7.0, smoothing_hint=False)
        writer.write()
        writer.close()
    assert read_lines(path) == [
        {"iteration": -1},
        {"iteration": 2, "loss": 4.0, "lr": 5.0},
        {"iteration": 3, "mIoU": 7.0},
    ]


@pytest.mark.lite_only  # detectron2 writes NaN, which is no JSON
def test_json_writer_writes_non_finite_values_as_null(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    writer = JSONWriter(str(path))
    with EventStorage() as storage:
        storage.put_scalars(a=float("nan"), b=float("inf"), smoothing_hint=False)
        writer.write()
    writer.close()
    assert read_lines(path) == [{"a": None, "b": None, "iteration": 0}]


def read_events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_tensorboard_writer(tmp_path):
    writer = TensorboardXWriter(str(tmp_path))
    with EventStorage() as storage:
        for value in (1.0, 2.0):
            storage.put_scalar("loss", value, smoothing_hint=False)
            storage.put_image("image", torch.rand(3, 4, 5))
            writer.write()
            storage.step()
        writer.write()  # nothing new
        writer.close()
    events = read_events(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 1.0), (1, 2.0)]
    images = events.Images("image")
    assert [(e.step, e.height, e.width) for e in images] == [(0, 4, 5), (1, 4, 5)]


def written_line(caplog, writer):
    caplog.clear()
    with caplog.at_level(logging.INFO):
        writer.write()
    return caplog.text


def test_printer(caplog):
    writer = CommonMetricPrinter(max_iter=101)
    with EventStorage(start_iter=20) as storage:
        storage.put_scalars(total_loss=0.25, loss_mask=0.125, time=3.0, data_time=0.5)
        storage.put_scalar("lr", 0.001, smoothing_hint=False)
        line = written_line(caplog, writer)
        for part in (
            "eta: 0:04:00",
            "iter: 20 ",
            "total_loss: 0.25",
            "loss_mask: 0.125",
            "time: 3.0000",
            "data_time: 0.5000",
            "lr: 0.001",
        ):
            assert part in line
        assert storage.latest()["eta_seconds"] == (240.0, 20)
        storage.iter = 101
        assert written_line(caplog, writer) == ""


def test_printer_without_any_scalar(caplog):
    with EventStorage():
        line = written_line(caplog, CommonMetricPrinter())
    assert "iter: 0" in line
    assert "lr: N/A" in line
    assert "eta" not in line


def test_printer_estimates_the_time_to_go_by_itself(caplog):
    writer = CommonMetricPrinter(max_iter=1000)
    with EventStorage() as storage:
        assert "eta" not in written_line(caplog, writer)
        storage.iter = 10
        assert "eta: 0:00:" in written_line(caplog, writer)

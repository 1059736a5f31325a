"""Views of an image: where windows lie, what is made of them, flips and scales."""

import pytest
import torch
from ahs_toy import toy_model, toy_sample
from torch.nn import functional

from detecture.config.sections.semantic import SlidingSettings
from detecture.errors import ConfigError
from detecture.modeling.cost.answer import Seen
from detecture.modeling.cost.canvases import ViewCanvas, Viewing, resized_rows, window_starts

PUBLISHED = ViewCanvas((640, 640), 384, 256, 0.5)


def viewing(sliding=None, flip=False, **options):
    return Viewing(sliding=sliding or SlidingSettings(), flip=flip, **options)


@pytest.mark.parametrize(
    ("length", "window", "step", "starts"),
    [
        (640, 384, 256, [0, 256]),
        (384, 384, 256, [0]),
        (385, 384, 256, [0, 1]),
        (700, 384, 256, [0, 256, 316]),
        (700, 384, 192, [0, 192, 316]),
        (700, 384, 288, [0, 288, 316]),
        (1000, 384, 384, [0, 384, 616]),
    ],
)
def test_window_starts(length, window, step, starts):
    assert window_starts(length, window, step) == starts


@pytest.mark.parametrize("step", [1, 96, 256, 384])
@pytest.mark.parametrize("length", [384, 500, 640, 769, 1203])
def test_every_pixel_is_in_a_window(length, step):
    starts = window_starts(length, 384, step)
    count = torch.zeros(length)
    for start in starts:
        assert 0 <= start <= length - 384
        count[start : start + 384] += 1
    assert count.min() >= 1 and starts == sorted(set(starts)) and starts[-1] == length - 384


def test_the_published_windows():
    seeing = viewing(sliding=SlidingSettings(enabled=True))
    (canvas,) = seeing.canvases(333, 517)
    assert canvas == PUBLISHED
    assert canvas.corners() == [(0, 0), (0, 256), (256, 0), (256, 256)]
    count = torch.zeros(640, 640)
    for top, left in canvas.corners():
        count[top : top + 384, left : left + 384] += 1
    areas = {int(n): int((count == n).sum()) for n in count.unique()}
    assert areas == {1: 262_144, 2: 131_072, 4: 16_384}


class TestIdentity:
    """A predictor that gives back what it sees, as logits."""

    def run(self, canvas, image):
        return canvas.scores(torch.stack(canvas.views(image)))

    @pytest.mark.parametrize("size", [(640, 640), (700, 700), (384, 901)])
    @pytest.mark.parametrize("step", [192, 256, 288])
    def test_windows_alone(self, size, step):
        image = torch.randn(3, *size)
        found = self.run(ViewCanvas(size, 384, step, whole_weight=0.0), image)
        torch.testing.assert_close(found, image.sigmoid())
        assert found.isfinite().all()

    def test_the_published_windows_exactly(self):
        # Powers of two: means of equal figures are exact.
        image = torch.zeros(1, 640, 640)
        found = self.run(ViewCanvas((640, 640), 384, 256, whole_weight=0.0), image)
        assert torch.equal(found, torch.full_like(found, 0.5))

    def test_a_constant_stays_with_the_whole(self):
        image = torch.full((2, 700, 700), 0.3)
        found = self.run(ViewCanvas((700, 700), 384, 256, 0.5), image)
        torch.testing.assert_close(found, image.sigmoid())

    def test_flipped_is_flipped_back(self):
        image = torch.randn(3, 640, 640)
        found = self.run(ViewCanvas((640, 640), 384, 256, 0.0, flipped=True), image)
        torch.testing.assert_close(found, image.sigmoid())


def test_windows_and_the_whole_are_averaged():
    """CAT-Seg's: the mean of the windows over a pixel, averaged with the whole's score."""
    canvas = ViewCanvas((20, 20), 12, 8, 0.25)
    logits = torch.randn(5, 2, 6, 6)
    scores = functional.interpolate(logits, (12, 12), mode="bilinear").sigmoid()
    total, count = torch.zeros(2, 20, 20), torch.zeros(20, 20)
    for (top, left), one in zip([(0, 0), (0, 8), (8, 0), (8, 8)], scores, strict=False):
        total[:, top : top + 12, left : left + 12] += one
        count[top : top + 12, left : left + 12] += 1
    whole = functional.interpolate(scores[4:], (20, 20), mode="bilinear")[0]
    torch.testing.assert_close(canvas.scores(logits), 0.75 * total / count + 0.25 * whole)
    assert len(canvas.views(torch.zeros(3, 50, 30))) == 5


@pytest.mark.parametrize(("weight", "views"), [(0.0, 4), (0.5, 5), (1.0, 1)])
def test_weight_of_the_whole(weight, views):
    canvas = ViewCanvas((20, 20), 12, 8, weight)
    found = canvas.views(torch.rand(3, 31, 17))
    assert [tuple(one.shape) for one in found] == [(3, 12, 12)] * views
    scores = canvas.scores(torch.zeros(views, 2, 6, 6))
    torch.testing.assert_close(scores, torch.full((2, 20, 20), 0.5))


def test_rows_of_a_resized_map_are_those_of_the_whole():
    maps = torch.rand(3, 13, 17)
    for size in [(13, 17), (40, 29), (5, 6), (13, 40), (31, 17)]:
        whole = functional.interpolate(maps[None], size, mode="bilinear")[0]
        rows = range(size[0] // 3, size[0])
        found = resized_rows(maps, size, rows)
        torch.testing.assert_close(found, whole[:, rows.start :], atol=1e-5, rtol=1e-5)


class TestViewing:
    def test_without_windows_the_image_is_seen_once(self):
        assert viewing().canvases(50, 70) == [ViewCanvas()]
        assert [one.flipped for one in viewing(flip=True).canvases(50, 70)] == [False, True]

    def test_the_images_own_size(self):
        seeing = viewing(sliding=SlidingSettings(enabled=True, canvas=(), kernel=32, overlap=0.5))
        (canvas,) = seeing.canvases(40, 90)
        assert (canvas.size, canvas.window, canvas.step) == ((40, 90), 32, 16)
        (canvas,) = seeing.canvases(10, 90)  # no shorter than a window
        assert canvas.size is not None and min(canvas.size) == 32

    def test_scales(self):
        seeing = viewing(sliding=SlidingSettings(enabled=True), short_sides=(480, 640, 2000))
        sizes = [one.size for one in seeing.canvases(50, 70)]
        assert sizes == [(480, 480), (640, 640), (2000, 2000)]
        seeing = viewing(
            sliding=SlidingSettings(enabled=True), short_sides=(640,), longest_side=500
        )
        assert [one.size for one in seeing.canvases(50, 70)] == [(500, 500)]

    def test_a_canvas_below_a_window_is_refused(self):
        with pytest.raises(ConfigError, match=r"TEST\.SLIDING\.CANVAS"):
            SlidingSettings(canvas=(300, 640)).check()


SLIDING = [
    *("TEST.SLIDING.ENABLED", "True", "TEST.SLIDING.CANVAS", "(96,96)"),
    *("TEST.SLIDING.KERNEL", "64", "TEST.SLIDING.OVERLAP", "0.5"),
]
AUGMENTED = ["TEST.AUG.ENABLED", "True"]


def answer(*more):
    model = toy_model("CATSeg", *SLIDING, *more).eval()
    with torch.no_grad():
        return model([toy_sample(3, (48, 80))])[0]["sem_seg"]


class TestOfTheModel:
    def test_flips_and_scales_change_the_answer(self):
        plain = answer()
        aug = [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(96,)"]
        torch.testing.assert_close(answer(*aug, "TEST.AUG.FLIP", "False"), plain)
        flipped = answer(*aug, "TEST.AUG.FLIP", "True")
        scaled = answer(*AUGMENTED, "TEST.AUG.MIN_SIZES", "(96,128)", "TEST.AUG.FLIP", "False")
        for other in (flipped, scaled):
            assert other.shape == plain.shape == (3, 48, 80)
            assert float((other - plain).abs().max()) > 1e-4
        assert float((flipped - scaled).abs().max()) > 1e-4

    def test_flipped_images_have_flipped_answers(self):
        """Where both are seen, the mean is the same, flipped."""
        aug = [*AUGMENTED, "TEST.AUG.MIN_SIZES", "(96,)", "TEST.AUG.FLIP", "True"]
        model = toy_model("CATSeg", *SLIDING, *aug).eval()
        sample = toy_sample(3, (48, 80))
        other = {**sample, "image": sample["image"].flip(-1)}
        with torch.no_grad():
            one, two = (found["sem_seg"] for found in model([sample, other]))
        torch.testing.assert_close(two.flip(-1), one, atol=1e-5, rtol=1e-5)

    def test_windows_at_a_time(self):
        one, many = answer(), answer("TEST.SLIDING.BATCH", "3")
        torch.testing.assert_close(one, many, atol=1e-5, rtol=1e-5)

    def test_windows_matter(self):
        whole = answer("TEST.SLIDING.GLOBAL_WEIGHT", "1.0")
        windows = answer("TEST.SLIDING.GLOBAL_WEIGHT", "0.0")
        mean = answer("TEST.SLIDING.GLOBAL_WEIGHT", "0.5")
        assert not torch.allclose(whole, windows, atol=1e-4)
        torch.testing.assert_close(mean, (whole + windows) / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(20, 20), (33, 47), (7, 90)])
def test_the_label_map_is_that_of_the_scores(monkeypatch, size):
    monkeypatch.setattr("detecture.modeling.cost.answer._ELEMENTS", 1000)
    canvases = [ViewCanvas((20, 20), 12, 8, 0.5), ViewCanvas((24, 20), 12, 8, 0.5, flipped=True)]
    logits = [torch.randn(len(one.corners()) + 1, 9, 6, 6) for one in canvases]
    classes = (0, 0, 1, 2, 3, 3, 3, 4, 5)
    seen = Seen(canvases, logits, classes, size)
    dense, (labels, scores) = seen.dense(), seen.best()
    assert dense.shape == (6, *size) and labels.dtype == torch.int16
    assert torch.equal(dense.argmax(dim=0), labels.long())
    torch.testing.assert_close(dense.amax(dim=0), scores)

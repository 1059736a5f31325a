"""Predictor and result: inputs of every kind, batches, large images, exports."""

import io
import json
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from detecture import TexturePredictor, TextureResult
from detecture.engine.prediction import FailedImage, FailedImages
from detecture.engine.predictor import label_map_at
from detecture.errors import ConfigError, DetectureError, ImageError, PredictionError
from detecture.evaluation import scores_to_label_map
from detecture.evaluation.label_map import InvalidOutput, check_output
from detecture.modeling.grouping.proposals import Alternative
from detecture.modeling.meta_arch import TextureClusters


@pytest.fixture(scope="module")
def predictor():
    return TexturePredictor.from_config()


def make_image(height=90, width=120, seed=0):
    noise = np.random.default_rng(seed).integers(-12, 13, (height, width, 3))
    base = np.where(np.arange(width)[:, None] < width * 0.4, [200, 60, 40], [40, 90, 180])
    return (base[None] + noise).clip(0, 255).astype(np.uint8)


def test_every_kind_of_input_gives_the_same(predictor, tmp_path):
    array = make_image()
    Image.fromarray(array).save(tmp_path / "a.png")
    opaque = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    kinds = [
        array,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(array),
        Image.open(tmp_path / "a.png"),
        opaque,
        array.astype(np.uint16) * 257,
        array.astype(np.float64) / 255,
        torch.from_numpy(array.transpose(2, 0, 1).copy()),
        torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255,
        np.asfortranarray(array),
    ]
    results = [predictor(kind, count=2) for kind in kinds]
    for result in results:
        np.testing.assert_array_equal(result.image, array)
        np.testing.assert_array_equal(result.label_map, results[0].label_map)
    left, right = results[0].label_map[:, :40], results[0].label_map[:, 60:]
    assert len(np.unique(left)) == len(np.unique(right)) == 1
    assert left[0, 0] != right[0, 0]


def test_grey_images(predictor):
    grey = make_image()[..., 0]
    expected = np.repeat(grey[..., None], 3, axis=2)
    for kind in (grey, grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(predictor(kind, count=2).image, expected)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\)"),
        (np.zeros((40, 50, 2), np.uint8), r"shape \(40, 50, 2\)"),
        (torch.zeros(40, 50, 3, dtype=torch.uint8), r"\(3,H,W\)"),
        (np.zeros((0, 50, 3), np.uint8), "shape"),
        (np.full((4, 4, 3), np.nan), "no pixel with a value"),
        (np.zeros((4, 4, 3), np.complex64), "complex64"),
        ("gone.png", "gone.png: does not exist"),
    ],
)
def test_what_is_no_image_is_refused(predictor, bad, message):
    with pytest.raises(ImageError, match=message):
        predictor(bad)


def test_the_same_image_in_every_form(predictor, tmp_path):
    """Files, their content and their values are one image, and one image, not several."""
    image = make_image()
    Image.fromarray(image).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    kinds = [content, bytearray(content), io.BytesIO(content), tensor.to_sparse(), tensor.long()]
    kinds += [image.astype(np.int64), image.astype(np.float64)]
    for kind in kinds:
        np.testing.assert_array_equal(predictor(kind, count=2).image, image)
    with (tmp_path / "x.png").open("rb") as file:
        np.testing.assert_array_equal(predictor(file, count=2).image, image)
    assert len(predictor([content, io.BytesIO(content)], count=2)) == 2


def test_bands_are_chosen_by_the_predictor_or_its_config():
    bands = np.dstack([make_image(), make_image()[..., 0]])[..., [3, 2, 1, 0, 0]]
    predictor = TexturePredictor(TextureClusters(), bands=(4, 3, 2))
    for one in (predictor, predictor.sibling(10**6)):
        np.testing.assert_array_equal(one(bands, count=2).image, make_image())
    overrides = ["INPUT.BANDS", "(4, 3, 2)"]
    assert TexturePredictor.from_config(None, overrides).bands == (4, 3, 2)
    with pytest.raises(ConfigError, match=r"INPUT\.BANDS \(4, 3\): give one band"):
        TexturePredictor(TextureClusters(), bands=(4, 3))


def test_images_beyond_the_limit_are_refused():
    small = TexturePredictor(TextureClusters(), max_pixels=100)
    for kind in (make_image(), Image.fromarray(make_image()), torch.zeros(3, 90, 120)):
        with pytest.raises(ImageError, match="limit of 100"):
            small(kind)


def test_batch_equals_single(predictor):
    images = [make_image(seed=1), make_image(50, 200, seed=2), make_image(130, 64, seed=3)]
    for count in (2, None):
        together = predictor(images, count=count, batch_size=2)
        for one, result in zip(images, together, strict=True):
            np.testing.assert_array_equal(predictor(one, count=count).label_map, result.label_map)
    assert predictor([]) == []
    assert len(predictor(p for p in images)) == 3


def test_an_image_is_encoded_once(monkeypatch):
    method = TextureClusters()
    calls = []
    original = method.features
    monkeypatch.setattr(method, "features", lambda image: calls.append(1) or original(image))
    predictor = TexturePredictor(method)
    predictor.set_image(make_image())
    results = {k: predictor.predict(count=k) for k in (2, 3, 4)}
    unknown = predictor.predict()
    assert calls == [1]
    assert [r.num_regions for r in results.values()] == [2, 3, 4]
    fresh = TexturePredictor(TextureClusters())
    np.testing.assert_array_equal(fresh(make_image(), count=3).label_map, results[3].label_map)
    np.testing.assert_array_equal(fresh(make_image()).label_map, unknown.label_map)


def test_usage_errors(predictor):
    with pytest.raises(DetectureError, match="call set_image"):
        TexturePredictor(TextureClusters()).predict()
    for count in (0, -1, True):
        with pytest.raises(DetectureError, match="count is the number of regions"):
            predictor(make_image(), count=count)
    with pytest.raises(ConfigError, match="no such config file"):
        TexturePredictor.from_config("gone.yaml")


def test_upsampling_in_strips_equals_upsampling_at_once():
    scores = torch.randn(4, 37, 53, generator=torch.Generator().manual_seed(0))
    for size in ((37, 53), (600, 701), (38, 54), (20, 30)):
        whole = torch.nn.functional.interpolate(scores[None], size, mode="bilinear")[0]
        expected = scores_to_label_map(whole)
        found = label_map_at(scores, *size)
        # Sums in another order: a score that is nearly tied may fall to either side.
        assert (found != expected).mean() < 1e-4
        assert found.dtype == np.int32


def test_large_images_take_memory_for_the_label_map_only():
    predictor = TexturePredictor(TextureClusters(), max_score_pixels=200_000)
    large = np.repeat(np.repeat(make_image(), 20, axis=0), 20, axis=1)  # 1800x2400
    predictor(make_image(), count=6)
    tracemalloc.start()
    result = predictor(large, count=6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.label_map.shape == (1800, 2400)
    assert set(np.unique(result.label_map)) == set(range(1, 7))
    # Label map, a copy of the image and the work on 256 pixels; not K floats for each pixel.
    assert peak < 60 * 2**20


def result_with(label_map, descriptions, **more):
    image = np.zeros((*label_map.shape, 3), np.uint8)
    return TextureResult(image, label_map.astype(np.int32), descriptions, name="x/y.jpg", **more)


LABELS = np.array([[0, 1, 1, 0], [0, 1, 1, 3], [0, 0, 3, 3]])


def test_masks_and_areas():
    result = result_with(LABELS, ["a", "b", "c"])
    assert result.masks.dtype == bool
    np.testing.assert_array_equal(result.masks, [LABELS == 1, LABELS == 2, LABELS == 3])
    np.testing.assert_array_equal(result.mask(2), LABELS == 3)
    assert result.areas.tolist() == [4, 0, 3]
    with pytest.raises(DetectureError, match="region 3 of 3"):
        result.mask(3)
    for wrong in (1.5, True, None, "1"):
        with pytest.raises(DetectureError, match="of 3 "):
            result.mask(wrong)
    np.testing.assert_array_equal(result.mask(np.int64(1)), LABELS == 2)


def test_coco_masks_decode_to_the_masks():
    result = result_with(LABELS, ["a", "b", "c"])
    annotations = result.to_coco(image_id=7)
    json.dumps(annotations)
    for region, annotation in enumerate(annotations):
        decoded = coco_mask.decode(annotation["segmentation"]).astype(bool)
        np.testing.assert_array_equal(decoded, result.mask(region))
        assert annotation["area"] == result.areas[region]
        assert annotation["image_id"] == 7
    assert annotations[0]["bbox"] == [1, 0, 2, 2]
    assert annotations[0]["description"] == "a"


def test_annotations_of_several_images_fit_in_one_coco_file():
    annotations = []
    for number, names in enumerate((["a", "b", "c"], ["d", "e", "f"])):
        annotations += result_with(LABELS, names).to_coco(number, len(annotations) + 1)
    assert [each["id"] for each in annotations] == [1, 2, 3, 4, 5, 6]
    assert [each["category_id"] for each in annotations] == [1, 2, 3] * 2
    assert [each["id"] for each in result_with(LABELS, ["a", "b", "c"]).to_coco()] == [1, 2, 3]


def test_two_hundred_masks_as_rle_in_little_memory():
    label_map = (np.arange(1000)[:, None] // 5 + 1) * np.ones((1, 1000), int)
    result = result_with(label_map, [""] * 200)
    tracemalloc.start()
    annotations = result.to_coco()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(annotations) == 200
    assert peak < 20 * 2**20  # all masks at once would be 200 MB


def test_supervision():
    supervision = pytest.importorskip("supervision")
    detections = result_with(LABELS, ["a", "b", "c"]).to_supervision()
    assert isinstance(detections, supervision.Detections)
    np.testing.assert_array_equal(detections.mask, [LABELS == 1, LABELS == 3])
    assert detections.class_id.tolist() == [0, 2]
    assert detections.xyxy.tolist() == [[1, 0, 3, 2], [2, 1, 4, 3]]
    assert detections.data["description"].tolist() == ["a", "c"]
    assert len(result_with(LABELS * 0, []).to_supervision()) == 0


def test_save(tmp_path):
    result = result_with(LABELS, ["a", "b", "c"])
    paths = result.save(tmp_path / "new")
    assert sorted(p.name for p in paths.values()) == ["y.json", "y_labels.png", "y_overlay.jpg"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths["labels"])), LABELS)
    saved = json.loads(paths["json"].read_text())
    assert (saved["height"], saved["width"], saved["num_regions"]) == (3, 4, 3)
    assert Image.open(paths["overlay"]).width == 4


def test_overlay_colours_the_regions_and_leaves_the_rest():
    result = result_with(LABELS, ["a", "b", "c"])
    plain = result.overlay(legend=False)
    assert plain.shape == (3, 4, 3)
    assert plain[2, 0].tolist() == [0, 0, 0]
    assert result.overlay().shape[0] > 3


@pytest.mark.parametrize("count", ["3", [2], 3.0, 2.5, float("nan")])
def test_counts_that_are_no_whole_numbers(predictor, count):
    with pytest.raises(DetectureError, match="count is the number of regions"):
        predictor(make_image(), count=count)


@pytest.mark.slow
def test_more_regions_than_there_can_be_are_empty(predictor):
    result = predictor(make_image(), count=5000)
    assert result.num_regions == 5000
    assert 0 < (result.areas > 0).sum() < 5000


@pytest.mark.parametrize("count", [65_536, 10**40, np.int64(100_000)])
def test_a_count_that_no_label_map_holds(predictor, count):
    with pytest.raises(ConfigError, match=r"count is the number of regions.* 65,535 at most"):
        predictor(make_image(), count=count)
    with pytest.raises(ConfigError, match="65,535 at most"):
        TexturePredictor(predictor.model, count=count)
    with pytest.raises(ConfigError, match=r"TEST\.COUNT .* integer up to 65,535"):
        TexturePredictor.from_config(None, ["TEST.COUNT", str(count)])


def test_more_regions_than_an_image_has_pixels(predictor):
    """Said before the method runs, and of this image alone."""
    small, enough = make_image(5, 6), make_image(6, 6)
    message = r"31 regions are asked for .*6 x 5 pixels: 30 regions are the most"
    with pytest.raises(PredictionError, match=message):
        predictor(small, count=31)
    predictor.set_image(small)
    with pytest.raises(PredictionError, match=message):
        predictor.predict(count=31)
    failed, result = predictor.stream([small, enough], count=31)
    assert isinstance(failed, FailedImage)
    assert result.num_regions == 31


def test_a_single_pixel_is_one_region(predictor):
    result = predictor(np.full((1, 1, 3), 9, np.uint8))
    assert (result.num_regions, result.label_map.tolist()) == (1, [[1]])


def test_the_count_of_a_config_holds_where_a_call_gives_none():
    predictor = TexturePredictor.from_config(None, ["TEST.COUNT", "4"])
    assert predictor(make_image()).num_regions == 4
    assert predictor(make_image(), count=2).num_regions == 2
    with pytest.raises(ConfigError, match=r"TEST\.COUNT 'foo'"):
        TexturePredictor.from_config(None, ["TEST.COUNT", "foo"])


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (Image.new("RGB", (0, 5)), "empty image"),
        (None, "a NoneType is no image"),
        (5, "a int is no image"),
        (b"abc", "image_0: is no image in one of the formats"),
        ("", "path of the image is empty"),
        (torch.zeros(3, 4, 4, device="meta"), "image_0: is a tensor .*on meta"),
    ],
)
def test_odd_objects_are_refused_by_name(predictor, odd, message):
    with pytest.raises(ImageError, match=message):
        TexturePredictor(predictor.model)(odd)


def test_half_precision_tensors(predictor):
    tensor = torch.full((3, 20, 30), 0.5)
    for kind in (tensor.bfloat16(), tensor.half()):
        assert predictor(kind, count=2).image[0, 0].tolist() == [128, 128, 128]


class Picky(torch.nn.Module):
    """Halves, but for images of one row, where it raises, and of two, where it answers nonsense."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, batched_inputs):
        self.asked.append([sample["file_name"] for sample in batched_inputs])
        outputs = []
        for sample in batched_inputs:
            height, width = sample["height"], sample["width"]
            if height == 1:
                raise RuntimeError("no factor of " + "x" * 1000)
            scores = torch.zeros(3, height, width if height != 2 else width + 1)
            scores[0, :, : width // 2] = scores[1, :, width // 2 :] = 1.0
            outputs.append({"sem_seg": scores, "descriptions": ["", ""]})
        return outputs


def plain(height):
    return np.zeros((height, 6, 3), np.uint8)


def test_one_of_several_that_fails_loses_no_other():
    images = [plain(4), "gone.png", plain(1), plain(5), b"no image", plain(2), plain(6)]
    with pytest.raises(FailedImages, match=r"^4 of 7 images failed: gone\.png: does not exist"):
        TexturePredictor(Picky())(images)
    with pytest.raises(ImageError) as caught:
        TexturePredictor(Picky())(images, batch_size=3)
    error = caught.value
    assert [result and len(result.label_map) for result in error.results] == [
        *(4, None, None, 5, None, None, 6)
    ]
    assert [(failure.name, failure.status) for failure in error.failures] == [
        ("gone.png", "image_unreadable"),
        ("image_1", "exception"),
        ("image_3", "image_unreadable"),
        ("image_4", "invalid_output"),
    ]
    assert "and 1 more" in str(error) and len(str(error)) < 1500
    assert isinstance(error.failures[1].error, PredictionError)
    assert isinstance(error.failures[1].error.__cause__, RuntimeError)


def test_a_stream_says_what_becomes_of_each_image_as_it_goes():
    model, read = Picky(), []

    def images():
        for height in (4, 1, 5, 3):
            read.append(height)
            yield plain(height)

    stream = TexturePredictor(model).stream(images(), batch_size=2)
    assert not read and not model.asked
    assert isinstance(next(stream), TextureResult)
    assert read == [4, 1]
    assert isinstance(next(stream), FailedImage)
    assert [len(one.label_map) for one in stream] == [5, 3]
    # The batch together, then, as it fails, one by one; the next together.
    assert [len(names) for names in model.asked] == [2, 1, 1, 2]
    with pytest.raises(DetectureError, match="count is the number"):
        TexturePredictor(model).stream([plain(4)], count=0)
    (alone,) = TexturePredictor(model).stream("gone.png")
    assert isinstance(alone, FailedImage) and alone.name == "gone.png"


def test_a_method_that_fails_on_the_one_image():
    predictor = TexturePredictor(Picky())
    message = r"^image_0: the method failed on this image \(RuntimeError: no factor of x+\); leave"
    with pytest.raises(PredictionError, match=message) as caught:
        predictor(plain(1))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert len(str(caught.value)) < 500
    with pytest.raises(PredictionError, match="sem_seg is"):
        predictor(plain(2))
    predictor.set_image(plain(1))
    with pytest.raises(PredictionError, match="image_2"):
        predictor.predict()


def test_an_image_that_cannot_be_encoded_does_not_leave_the_one_before(monkeypatch):
    predictor = TexturePredictor(TextureClusters())
    predictor.set_image(make_image())

    def fail(_):
        raise ValueError("such a message")

    monkeypatch.setattr(predictor.model, "features", fail)
    with pytest.raises(PredictionError, match=r"image_1: .*such a message"):
        predictor.set_image(make_image())
    with pytest.raises(DetectureError, match="call set_image"):
        predictor.predict()


def test_paths_of_every_kind(tmp_path):
    class PathLike:
        def __fspath__(self):
            return str(tmp_path / "a.png")

    Image.fromarray(make_image()).save(tmp_path / "a.png")
    for path in (PathLike(), tmp_path / "a.png", str(tmp_path / "a.png")):
        result = TexturePredictor(Picky())(path)
        assert result.name == result.source == str(tmp_path / "a.png")


# ---- granularity, alternatives, confidence -------------------------------------------------


@pytest.fixture(scope="module")
def sure():
    """The shipped method at a small size, without words."""
    small = ["MODEL.GROUPING.WORKING_SIZE", "64", "MODEL.GROUPING.DESCRIBE", "False"]
    return TexturePredictor.from_config(None, small)


def test_granularity_of_one_image_of_many_and_of_the_one_that_is_set(sure):
    image = make_image()
    sure.set_image(image)
    counts = []
    for granularity in (-1, -0.5, 0, 0.5, 1):
        again = sure.predict(granularity=granularity)
        plain = sure(image, granularity=granularity)
        (streamed,) = sure.stream([image], granularity=granularity)
        for other in (plain, streamed):
            np.testing.assert_array_equal(other.label_map, again.label_map)
            assert (other.alternatives, other.confidence) == (again.alternatives, again.confidence)
        assert plain.alternatives == sure(image).alternatives
        counts.append(plain.num_regions)
    assert counts == sorted(counts) and counts[0] == 1 < counts[-1]
    np.testing.assert_array_equal(sure(image).label_map, sure(image, granularity=0).label_map)


def test_granularities_that_cannot_be_asked(sure, predictor):
    image = make_image()
    for wrong in (2, -1.5, float("nan"), "0.5"):
        with pytest.raises(ConfigError, match="granularity is a number from -1"):
            sure(image, granularity=wrong)
    with pytest.raises(DetectureError, match=r"count .* tells it that there are 3: give"):
        sure(image, count=3, granularity=0.2)
    assert sure(image, count=3, granularity=0).num_regions == 3
    clusters = TexturePredictor(TextureClusters())
    with pytest.raises(ConfigError, match="granularity: TextureClusters has no choice"):
        clusters(image, granularity=-0.2)
    with pytest.raises(ConfigError, match="granularity: TextureClusters has no choice"):
        TexturePredictor(TextureClusters(), granularity=0.2)
    assert clusters(image, granularity=0).alternatives == ()
    assert clusters(image, count=2).confidence == ()


def test_the_granularity_of_a_config_holds_where_a_call_says_nothing(sure):
    finest = TexturePredictor(sure.model, granularity=1)
    image = make_image()
    assert finest(image).num_regions == sure(image, granularity=1).num_regions
    assert finest(image, granularity=-1).num_regions == 1
    assert finest(image, count=2).num_regions == 2
    with pytest.raises(ConfigError, match=r"TEST\.COUNT '2' tells .* TEST\.GRANULARITY 0\.5"):
        TexturePredictor.from_config(None, ["TEST.COUNT", "2", "TEST.GRANULARITY", "0.5"])
    with pytest.raises(ConfigError, match="TextureClusters has no choice"):
        overrides = ["MODEL.META_ARCHITECTURE", "TextureClusters", "MODEL.WEIGHTS", ""]
        TexturePredictor.from_config(None, [*overrides, "TEST.GRANULARITY", "0.5"])


def test_alternatives_add_up_and_the_chosen_one_is_among_them(sure):
    result = sure(make_image())
    assert sum(one.probability for one in result.alternatives) == pytest.approx(1.0)
    assert [one.probability for one in result.alternatives] == sorted(
        (one.probability for one in result.alternatives), reverse=True
    )
    assert result.alternatives[0].count == result.num_regions
    assert result.count_probability == result.alternatives[0].probability
    assert sure(make_image(), count=2).alternatives == ()
    sure.set_image(make_image())
    assert sure.predict(count=2).alternatives == result.alternatives


def test_confidence_goes_where_scores_are_looked_for():
    probable = (Alternative(3, 0.612345), Alternative(2, 0.387655))
    result = result_with(
        LABELS, ["a", "b", "c"], alternatives=probable, confidence=(0.987654, 0.5, 0.25)
    )
    assert [one["score"] for one in result.to_coco()] == [0.9877, 0.5, 0.25]
    values = result.to_dict()
    assert [one["confidence"] for one in values["regions"]] == [0.9877, 0.5, 0.25]
    assert not any("score" in one for one in values["regions"])
    assert values["alternatives"] == [
        {"count": 3, "probability": 0.6123},
        {"count": 2, "probability": 0.3877},
    ]
    assert result.count_probability == 0.612345
    bare = result_with(LABELS, ["a", "b", "c"])
    assert bare.count_probability is None and bare.to_dict()["alternatives"] == []
    assert not any({"score", "confidence"} & set(one) for one in bare.to_coco())
    assert not any("confidence" in one for one in bare.to_dict()["regions"])
    pytest.importorskip("supervision")
    assert result.to_supervision().confidence.tolist() == [0.987654, 0.25]  # b is empty
    assert bare.to_supervision().confidence is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alternatives", 3),
        ("alternatives", [2, 3]),
        ("alternatives", [(2, 1.5)]),
        ("alternatives", [(2, float("nan"))]),
        ("alternatives", [("two", 0.5)]),
        ("confidence", 0.5),
        ("confidence", [0.5]),
        ("confidence", [0.5, 1.2]),
        ("confidence", [0.5, float("nan")]),
        ("confidence", [None, None]),
    ],
)
def test_optional_parts_of_an_output_are_checked(key, value):
    output = {"sem_seg": torch.zeros(3, 2, 2), "descriptions": ["", ""], "status": "ok"}
    check_output(output, (2, 2))
    check_output(output | {"alternatives": [(2, 1.0)], "confidence": (0.5, 1.0)}, (2, 2))
    with pytest.raises(InvalidOutput, match=f"{key} must be"):
        check_output(output | {key: value}, (2, 2))

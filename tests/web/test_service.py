"""Requests of several users: kept encodings, limits, names in messages, files, turns."""

import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from detecture import TexturePredictor
from detecture.errors import DetectureError, ImageError, PredictionError
from detecture.modeling.meta_arch.output import output_from_labels
from detecture.web.service import Limits, SegmentationService


class Strips(torch.nn.Module):
    """K upright strips of the image's width; notes what it was asked, and overlaps."""

    def __init__(self):
        super().__init__()
        self.encoded = []
        self.inside = 0
        self.most_inside = 0
        self.pause = 0.0

    def encode_image(self, sample):
        self.encoded.append(sample["file_name"])
        return sample["width"]

    def forward(self, batched_inputs):
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        time.sleep(self.pause)
        outputs = []
        for sample in batched_inputs:
            count = sample["k_hint"].k or 2
            column = np.arange(sample["width"]) * count // sample["encoding"]
            labels = np.broadcast_to(column, (sample["height"], sample["width"]))
            outputs.append(output_from_labels(labels, count, 0.0))
        self.inside -= 1
        return outputs


@pytest.fixture
def model():
    return Strips()


@pytest.fixture
def make(model, tmp_path):
    def make(pixels=100_000_000, **limits):
        """`pixels`: what the predictor takes."""
        predictor = TexturePredictor(model, max_pixels=pixels)
        return SegmentationService(predictor, tmp_path / "results", Limits(**limits))

    return make


@pytest.fixture
def image(tmp_path):
    def image(name="a.png", size=(12, 8)):
        path = tmp_path / name
        Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)
        return path

    return image


def folders(service):
    return list(service.folder.iterdir())


def test_the_files_are_those_of_a_result(make, model, image, tmp_path):
    service = make()
    answer = service.answer("one", image(), 3)
    assert answer.files["json"].parent.parent == service.folder
    expected = TexturePredictor(model)
    expected.set_image(image())
    expected.predict(3).save(tmp_path / "expected", "a")
    for path in answer.files.values():
        mine, other = path.read_bytes(), (tmp_path / "expected" / path.name).read_bytes()
        if path.suffix == ".json":
            mine, other = json.loads(mine), json.loads(other)
            assert mine.pop("name") == "a.png", "no folder of the server in what a user gets"
            other.pop("name")
        assert mine == other


def test_another_count_costs_no_encoding(make, model, image):
    service = make()
    first = service.answer("one", str(image()))
    second = service.answer("one", str(image()), 5)
    assert (first.result.num_regions, second.result.num_regions) == (2, 5)
    assert first.encoding is not None and second.encoding is None
    assert len(model.encoded) == 1
    assert len(folders(service)) == 1, "files of the request before are gone"
    service.answer("one", image("b.png"))
    assert len(model.encoded) == 2


def test_the_image_that_is_kept_may_be_gone_from_the_disk(make, image):
    service, path = make(), image()
    service.answer("one", path)
    path.unlink()
    assert service.answer("one", path, 4).result.num_regions == 4


def test_users_do_not_get_each_others_images(make, model, image):
    service = make()
    service.answer("one", image("a.png", (12, 8)))
    service.answer("two", image("b.png", (20, 6)))
    assert service.answer("one", image("a.png"), 3).result.label_map.shape == (8, 12)
    assert service.answer("two", image("b.png", (20, 6)), 3).result.label_map.shape == (6, 20)
    assert len(model.encoded) == 2


def test_a_image_that_fails_does_not_leave_the_one_before_in_its_place(make, image, tmp_path):
    service = make()
    service.answer("one", image())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8 nothing")
    for _ in range(2):
        with pytest.raises(ImageError, match=r"^broken\.jpg: "):
            service.answer("one", broken)
    assert service.answer("one", image()).result.name == "a.png"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "empty.png: is empty"),
        ("notes.png", b"no image", "notes.png: is no image"),
        (None, None, "no image yet"),
    ],
)
def test_what_is_no_image(make, tmp_path, name, content, message):
    path = name and tmp_path / name
    if path:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        make().answer("one", path)
    assert str(tmp_path) not in str(caught.value)


def test_pixels_are_limited_before_decoding(make, model, image):
    path = image("big.png", (40, 30))
    with pytest.raises(ImageError, match=r"big\.png has 40 x 30 = 0\.0 million pixels"):
        make(max_pixels=1000).answer("one", path)
    with pytest.raises(ImageError, match=r"this page takes 0\.001 million"):
        make(pixels=1000).answer("one", path)
    assert not model.encoded


@pytest.mark.parametrize("count", [0, -1, 13])
def test_a_count_out_of_range(make, image, count):
    with pytest.raises(DetectureError, match="1 to 12"):
        make().answer("one", image(), count)


def test_users_are_forgotten(make, model, image):
    service = make(max_users=2)
    for user in ("one", "two", "one", "three"):
        service.answer(user, image())
    assert service.users == ["one", "three"]
    assert len(folders(service)) == 2
    service.forget("one")
    service.forget("nobody")
    assert service.users == ["three"] and len(folders(service)) == 1
    encoded = len(model.encoded)
    assert service.answer("one", image(), 3).encoding is not None
    assert len(model.encoded) == encoded + 1


def test_idle_users_are_forgotten(make, image):
    service = make(idle_seconds=0.05)
    service.answer("one", image())
    time.sleep(0.1)
    service.answer("two", image())
    assert service.users == ["two"]


def test_one_request_at_a_time(make, model, image):
    service, path, answers = make(), image(), {}
    model.pause = 0.05

    def ask(user, count):
        answers[user] = service.answer(user, path, count)

    threads = [threading.Thread(target=ask, args=(f"user {k}", k)) for k in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.most_inside == 1
    assert all(answers[f"user {k}"].result.num_regions == k for k in range(1, 6))
    assert max(answer.waited for answer in answers.values()) > 0.1


def test_a_method_that_fails_on_an_image(make, model, image, monkeypatch):
    service = make()

    def fail(batched_inputs):
        raise RuntimeError("no factor")

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", fail)
        with pytest.raises(PredictionError, match=r"^a\.png: the method failed.*no factor"):
            service.answer("one", image())
    assert service.answer("one", image()).result.num_regions == 2
    assert len(model.encoded) == 1, "the image is kept"

    def encode(sample):
        raise RuntimeError("no features")

    monkeypatch.setattr(model, "encode_image", encode)
    for _ in range(2):
        with pytest.raises(PredictionError, match=r"^b\.png: the method failed.*no features"):
            service.answer("one", image("b.png"))


def test_the_server_has_no_path_in_what_a_user_gets(make, image):
    answer = make().answer("one", image())
    assert (answer.result.name, answer.result.source) == ("a.png", "")
    assert json.loads(answer.files["json"].read_text())["name"] == "a.png"

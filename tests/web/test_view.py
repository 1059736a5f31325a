"""What the browser gets of an answer: exact labels, escaped words, shares."""

import base64
import io
import json
import re
import zlib
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detecture import TextureResult
from detecture.web.service import Answer
from detecture.web.view import error_html, status_html, view_html


def result(label_map, descriptions, **more):
    label_map = np.asarray(label_map, dtype=np.int32)
    image = np.full((*label_map.shape, 3), 90, dtype=np.uint8)
    return TextureResult(image, label_map, list(descriptions), **more)


def attribute(html, name):
    return unescape(re.search(rf'data-{name}="([^"]*)"', html).group(1))


def labels_of(html):
    data = zlib.decompress(base64.b64decode(attribute(html, "labels")))
    shape = (int(attribute(html, "height")), int(attribute(html, "width")))
    return np.frombuffer(data, dtype="<u2").reshape(shape)


def test_labels_are_exact():
    label_map = np.random.default_rng(0).integers(0, 400, (30, 50))
    html = view_html(result(label_map, [""] * 399))
    np.testing.assert_array_equal(labels_of(html), label_map)
    assert len(json.loads(attribute(html, "colors"))) == 400


@pytest.mark.parametrize("shape", [(300, 200), (3, 5000), (128, 128)])
def test_large_images_are_shown_smaller(shape):
    halves = np.ones(shape, dtype=np.int32)
    halves[:, shape[1] // 2 :] = 2
    html = view_html(result(halves, ["left", "right"]), size=128)
    labels = labels_of(html)
    scale = min(1.0, 128 / max(shape))
    assert labels.shape == tuple(max(1, round(side * scale)) for side in shape)
    assert (labels[:, 0] == 1).all() and (labels[:, -1] == 2).all()
    jpeg = base64.b64decode(re.search(r"base64,([^\"]+)\"", html).group(1))
    assert Image.open(io.BytesIO(jpeg)).size == labels.shape[::-1]


def test_words_and_shares():
    html = view_html(result([[1, 1, 2, 0]], ["", "red brick"]))
    lines = re.findall(r'data-region="(\d+)".*?dt-text">(.*?)<.*?dt-share">(.*?)<', html)
    assert lines == [
        ("1", "region 1", "50.0 %"),
        ("2", "red brick", "25.0 %"),
        ("0", "no region", "25.0 %"),
    ]


def test_an_empty_region_is_in_the_legend():
    assert "0.0 %" in view_html(result([[1, 1]], ["sand", "nothing"]))


def test_nothing_of_a_image_becomes_markup():
    hostile = '<script>alert("x")</script>'
    one = result([[1]], [hostile], name=hostile, status=hostile)
    answer = Answer(one, {"json": Path("x")}, 0.0, None, 0.1, 0.1)
    for html in (view_html(one), status_html(answer), error_html(hostile)):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_status_line():
    one = result([[1, 2]], ["", ""], name="a.png", status="count_violated")
    told = status_html(Answer(one, {}, 0.0, None, 0.1, 0.1, ("x.tif: has <several> pages",)))
    assert "<br>x.tif: has &lt;several&gt; pages.</div>" in told
    line = status_html(Answer(one, {}, 3.14, 1.5, 0.25, 0.1))
    for text in ("2 regions", "a.png, 2 x 1", "encoded in 1.50 s", "waited 3.1 s", "count_vio"):
        assert text in line
    kept = status_html(Answer(one, {}, 0.0, None, 0.25, 0.1))
    assert "kept from before" in kept and "waited" not in kept

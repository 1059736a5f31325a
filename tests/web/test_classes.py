"""The page of a model that is asked for classes: over HTTP, and in a headless Chromium."""

import json
from pathlib import Path

import numpy as np
import pytest
from classes_toy import predictor
from PIL import Image
from web.chromium import give, open_page, wait_for_message, wait_for_regions
from web.conftest import PHOTOS, free_port

from detecture.errors import ConfigError
from detecture.web.service import Answer, SegmentationService
from detecture.web.view import status_html, view_html

COFFEE = PHOTOS / "coffee.jpg"


@pytest.fixture(scope="module")
def ask():
    return predictor()


@pytest.fixture(scope="module")
def class_demo(ask):
    pytest.importorskip("gradio", reason='the page needs gradio: pip install "detecture[web]"')
    from detecture.web.server import WebDemo

    with WebDemo(ask, port=free_port(), examples=[COFFEE]) as running:
        yield running


def test_the_service_keeps_the_encoding_for_other_classes(ask, tmp_path):
    service = SegmentationService(ask, tmp_path / "results")
    first = service.answer("one", COFFEE, classes="cup|saucer, table", background=0.2)
    again = service.answer("one", COFFEE, classes="spoon, wood, cup")
    assert first.encoding is not None and again.encoding is None
    assert first.result.classes == ["cup", "table", "background"]
    assert again.result.classes == ["spoon", "wood", "cup"]
    expected = ask(COFFEE, "spoon, wood, cup")
    np.testing.assert_array_equal(again.result.label_map, expected.label_map)
    saved = json.loads(again.files["json"].read_text())
    assert saved["name"] == "coffee.jpg" and len(saved["classes"]) == 3
    for classes, message in (("", "no class is given"), ("a, a", "given twice")):
        with pytest.raises(ConfigError, match=message):
            service.answer("one", COFFEE, classes=classes)


def test_names_in_the_legend_are_text(ask):
    image = np.asarray(Image.open(COFFEE))
    result = ask(image, "<b>cup</b>, table & chair, wood", background=0.3)
    html = view_html(result)
    assert "<b>cup" not in html and "&lt;b&gt;cup" in html + status_html(answer(result))
    assert html.count("<li ") == len(result.found())
    said = status_html(answer(ask(image, [f"<i>{n}" for n in range(40)])))
    assert " of 40 classes</b>" in said and "<i>" not in said
    assert ("Not found: " in said) == (" 40 of 40" not in said)


def answer(result):
    return Answer(result, {}, 0.0, 0.1, 0.1, 0.1)


def test_over_http(class_demo):
    from gradio_client import Client, handle_file

    client = Client(class_demo.url, verbose=False)
    image = handle_file(str(COFFEE))
    view, message, *_ = client.predict(image, "cup, table", 0.0, api_name="/segment")
    assert " of 2 classes</b> in coffee.jpg, 448 x 299 pixels" in message and "dt-view" in view
    view, message, *_ = client.predict(image, "cup, cup", 0.0, api_name="/segment")
    assert view == "" and "is given twice" in message
    _, message, *_ = client.predict(image, " ".join(["cup"] * 500), 0.0, api_name="/segment")
    assert "letters, and 400 is the most" in message
    client.close()


def test_the_field_in_a_browser(class_demo, chromium, tmp_path):
    page = open_page(chromium, class_demo.url)
    field = page.locator("#dt-classes textarea")
    assert "sky|clouds" in field.input_value() and page.locator("#dt-regions").count() == 0
    give(page, COFFEE)
    wait_for_regions(page)
    wait_for_message(page, "of 5 classes")
    field.fill("cup, table")
    page.locator("#dt-segment").click()
    wait_for_message(page, "of 2 classes")
    wait_for_message(page, "kept from before")
    texts = page.locator(".dt-legend .dt-text").all_inner_texts()
    assert texts and set(texts) <= {"cup", "table"}
    page.locator("#dt-class-examples").get_by_text("red bricks").click()
    wait_for_message(page, "of 3 classes")
    assert field.input_value().startswith("red bricks")
    field.fill("cup, cup")
    page.locator("#dt-segment").click()
    wait_for_message(page, "is given twice")
    page.screenshot(path=str(Path(tmp_path) / "classes.png"))
    page.context.close()


def test_a_page_of_regions_has_no_field(demo, chromium):
    page = open_page(chromium, demo.url)
    assert page.locator("#dt-classes").count() == 0 and page.locator("#dt-regions").count() == 1
    page.context.close()

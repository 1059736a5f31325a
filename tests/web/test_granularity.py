"""The slider from coarser to finer: the service, the view, and the page in a headless Chromium."""

from pathlib import Path

import pytest
from web.chromium import choose_count, give, open_page, wait_for_message, wait_for_regions
from web.conftest import PHOTOS, free_port

from detecture import TexturePredictor
from detecture.errors import ConfigError
from detecture.web.service import SegmentationService
from detecture.web.view import view_html

COFFEE = PHOTOS / "coffee.jpg"
SMALL = ["MODEL.GROUPING.WORKING_SIZE", "96", "MODEL.GROUPING.DESCRIBE", "False"]


@pytest.fixture(scope="module")
def predictor():
    return TexturePredictor.from_config(None, SMALL)


@pytest.fixture(scope="module")
def choosing_demo(predictor):
    pytest.importorskip("gradio", reason='the page needs gradio: pip install "detecture[web]"')
    from detecture.web.server import WebDemo

    with WebDemo(predictor, port=free_port(), examples=[COFFEE]) as running:
        yield running


def test_the_service_cuts_anew_without_a_new_encoding(predictor, tmp_path):
    service = SegmentationService(predictor, tmp_path / "results")
    assert service.takes_granularity
    answers = [service.answer("one", COFFEE, granularity=g) for g in (-1.0, 0.0, 1.0)]
    assert [one.encoding is None for one in answers] == [False, True, True]
    counts = [one.result.num_regions for one in answers]
    assert counts[0] == 1 and counts == sorted(counts) and counts[2] > counts[0]
    finest = SegmentationService(TexturePredictor(predictor.model, granularity=1), tmp_path)
    assert finest.answer("one", COFFEE).result.num_regions == counts[2]  # as the config says
    told = service.answer("one", COFFEE, 3, granularity=1.0)  # the page disables the slider
    assert told.result.num_regions == 3
    with pytest.raises(ConfigError, match="granularity is a number"):
        service.answer("one", COFFEE, granularity=1.2)


def test_the_view_shows_alternatives_and_confidence(predictor):
    result = predictor(COFFEE)
    html = view_html(result)
    for one in result.alternatives:
        assert f"{one.count}: {100 * one.probability:.0f} %" in html
    assert html.count('class="dt-chosen"') == 1
    assert html.count("dt-sure") == len(result.confidence) > 0
    bare = view_html(TexturePredictor.from_config(_CLUSTERS)(COFFEE, count=2))
    assert "dt-sure" not in bare and "dt-alternatives" not in bare and "dt-head" not in bare


_CLUSTERS = Path(__file__).parents[2] / "configs/baselines/texture_clusters.yaml"


def test_over_http(choosing_demo, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(choosing_demo.url, verbose=False, download_files=str(tmp_path))
    for more, count in (((-1.0,), 1), ((), None)):
        image = handle_file(str(COFFEE))
        _, message, *_ = client.predict(image, "automatic", *more, api_name="/segment")
        assert count is None or f"<b>{count} region</b>" in message
    client.close()


def move(page, value):
    """Put the slider's number there, as somebody who types it."""
    page.locator("#dt-granularity input[type=number]").fill(str(value))
    page.keyboard.press("Tab")


def test_the_slider_changes_the_number_of_regions(choosing_demo, chromium):
    page = open_page(chromium, choosing_demo.url)
    give(page, COFFEE)
    wait_for_regions(page)
    wait_for_message(page, "coffee.jpg")
    move(page, -1)
    wait_for_message(page, "1 region in coffee.jpg")
    assert "kept from before" in wait_for_message(page, "1 region in")
    assert page.locator(".dt-legend li").count() == 1
    assert page.locator(".dt-sure").count() == 1
    assert page.locator(".dt-alternatives .dt-chosen").inner_text().startswith("1: ")
    slider = page.locator("#dt-granularity input[type=range]")
    slider.focus()
    page.keyboard.press("End")  # as with the mouse
    finest = page.locator("#dt-message .dt-message", has_text="6 regions")
    finest.or_(page.locator("#dt-message .dt-message", has_text="5 regions")).wait_for()
    assert page.locator(".dt-legend li").count() >= 5
    choose_count(page, "3")
    wait_for_message(page, "3 regions in")
    assert slider.is_disabled()
    choose_count(page, "automatic")
    wait_for_regions(page)
    page.wait_for_function("!document.querySelector('#dt-granularity input[type=range]').disabled")
    page.context.close()


def test_a_method_without_the_choice_has_no_slider(demo, chromium):
    page = open_page(chromium, demo.url)
    assert page.locator("#dt-granularity").count() == 0
    page.context.close()

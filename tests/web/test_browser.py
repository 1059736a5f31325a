"""The page in a headless Chromium: drop, point, opacity, count, downloads, examples, two users."""

import json
import time
from pathlib import Path
from urllib.parse import urlparse

import pytest
from web.chromium import (
    choose_count,
    give,
    open_page,
    wait_for_message,
    wait_for_regions,
)

PHOTOS = Path(__file__).parents[2] / "datasets/samples/photos"


@pytest.fixture
def page(demo, chromium):
    page = open_page(chromium, demo.url)
    yield page
    page.context.close()


def pixel(page, x, y):
    """RGBA of the overlay at a fraction of its size."""
    return page.evaluate(
        """([x, y]) => {
            const c = document.querySelector(".dt-stage canvas");
            return [...c.getContext("2d").getImageData(c.width * x, c.height * y, 1, 1).data];
        }""",
        [x, y],
    )


def test_a_image_is_segmented_and_its_regions_can_be_pointed_at(page):
    give(page, PHOTOS / "coffee.jpg")
    wait_for_regions(page)
    assert "regions in coffee.jpg, 448 x 299 pixels" in wait_for_message(page, "coffee.jpg")
    box = page.locator(".dt-stage canvas").bounding_box()
    for step in (0.5, 0.52):
        page.mouse.move(box["x"] + box["width"] * step, box["y"] + box["height"] * 0.3)
    tip = page.locator(".dt-tip")
    assert tip.is_visible()
    active = page.locator(".dt-legend li.dt-active")
    assert active.count() == 1
    text, share = active.locator(".dt-text").inner_text(), active.locator(".dt-share").inner_text()
    assert tip.inner_text() == f"{text} · {share}"
    page.mouse.move(2, 2)
    assert active.count() == 0 and tip.is_hidden()
    page.locator(".dt-legend li").first.hover()
    assert active.get_attribute("data-region") == "1"


def test_opacity_changes_the_overlay_without_a_request(page):
    give(page, PHOTOS / "coffee.jpg")
    wait_for_regions(page)
    page.mouse.move(2, 2)
    before = pixel(page, 0.9, 0.5)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    slider = page.locator("#dt-opacity input[type=number]")
    slider.fill("0.9")
    page.keyboard.press("Tab")
    page.wait_for_timeout(300)
    after = pixel(page, 0.9, 0.5)
    assert after[:3] == pytest.approx(before[:3], abs=3)
    assert before[3] == pytest.approx(0.45 * 255, abs=1)
    assert after[3] == pytest.approx(0.9 * 255, abs=1)
    assert not requests
    choose_count(page, "4")
    wait_for_message(page, "kept from before")
    wait_for_regions(page)
    assert page.locator(".dt-legend li").count() == 4
    assert {pixel(page, x / 20 + 0.02, 0.9)[3] for x in range(20)} <= {229, 230, 255}


def test_downloads(page, tmp_path):
    give(page, PHOTOS / "flower.jpg")
    wait_for_regions(page)
    names = {}
    for button in ("labels", "json", "overlay"):
        with page.expect_download() as download:
            page.locator(f"#dt-{button}").click()
        names[button] = download.value.suggested_filename
        download.value.save_as(tmp_path / button)
    assert names == {
        "labels": "flower_labels.png",
        "json": "flower.json",
        "overlay": "flower_overlay.jpg",
    }
    assert json.loads((tmp_path / "json").read_text())["name"] == "flower.jpg"
    assert (tmp_path / "labels").read_bytes().startswith(b"\x89PNG")


def test_an_example(page):
    page.locator("#dt-examples button", has=page.locator("img")).nth(1).click()
    wait_for_regions(page)
    assert "china.jpg" in wait_for_message(page, "regions in")


def test_wrong_files_are_said_in_the_page(page, tmp_path):
    give(page, PHOTOS / "coffee.jpg")
    wait_for_regions(page)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((PHOTOS / "china.jpg").read_bytes()[:9000])
    give(page, broken)
    wait_for_message(page, "broken.jpg: cannot be decoded")
    assert page.locator(".dt-view").count() == 0
    assert page.locator("#dt-json").is_disabled()
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\xff\xd8" + b"0" * 1_500_000)
    give(page, large)
    page.get_by_text("exceed the maximum allowed size of 1.0 M").first.wait_for(timeout=10_000)
    page.reload()
    page.wait_for_selector("#dt-segment")
    give(page, PHOTOS / "coffee.jpg")
    wait_for_regions(page)


def test_two_browsers_at_once(demo, chromium):
    pages = [open_page(chromium, demo.url) for _ in range(2)]
    for page, name in zip(pages, ("flower.jpg", "china.jpg"), strict=True):
        give(page, PHOTOS / name)
    for page, name in zip(pages, ("flower.jpg", "china.jpg"), strict=True):
        wait_for_regions(page)
        assert f"in {name}," in wait_for_message(page, "regions in")
    for page, count in zip(pages, ("3", "5"), strict=True):
        choose_count(page, count)
    for page, count in zip(pages, ("3", "5"), strict=True):
        wait_for_message(page, f"{count} regions")
        wait_for_regions(page)
        assert page.locator(".dt-legend li").count() == int(count)
        page.context.close()


def test_leaving_forgets_the_image(demo, chromium):
    known = set(demo.service.users)
    page = open_page(chromium, demo.url)
    give(page, PHOTOS / "flower.jpg")
    wait_for_regions(page)
    (mine,) = set(demo.service.users) - known
    page.context.close()
    for _ in range(100):
        if mine not in demo.service.users:
            break
        time.sleep(0.1)
    assert mine not in demo.service.users


def test_nothing_is_asked_of_other_machines(demo, chromium):
    context = chromium.new_context()
    page, asked, problems = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda line: problems.append(line.text) if "Content Security" in line.text else None,
    )
    page.goto(demo.url)
    page.wait_for_selector("#dt-segment")
    give(page, PHOTOS / "coffee.jpg")
    wait_for_regions(page)
    hosts = {urlparse(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert not problems
    context.close()

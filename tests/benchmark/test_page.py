"""The page: one file, nothing from outside, nothing that runs; opened in a browser where one is."""

import re
from html import unescape

import pytest

from detecture.benchmark.gallery import draw_galleries
from detecture.benchmark.layout import arrange
from detecture.benchmark.page import report_page
from detecture.benchmark.read_cells import read_cells
from detecture.benchmark.report import build_report


@pytest.fixture(scope="module")
def html(toy_root):
    cells = read_cells(toy_root / "benchmark.json")
    report = build_report(cells, "<i>toy</i> & co", against="right", bootstrap_samples=200)
    return report_page(report, draw_galleries(arrange(cells), 4, 10_000_000, "failing"))


def test_nothing_comes_from_elsewhere_and_nothing_runs(html):
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', html)
    assert all(address.startswith(("#", "data:image/jpeg;base64,")) for address in addresses)
    assert not re.search(r"<script|<link|<iframe|url\(|@import|\son\w+=", html)
    assert "default-src 'none'" in html


def test_texts_of_files_and_models_are_escaped(html):
    assert "<title>Benchmark: &lt;i&gt;toy&lt;/i&gt; &amp; co</title>" in html
    assert "&lt;script&gt;alert(" in html
    assert "exception &lt;b&gt;out of memory&lt;/b&gt;" in html


def test_it_holds_the_tables_of_the_report(html):
    text = unescape(re.sub(r"<[^>]+>", " ", html))
    for words in ("Against right", "K error", "never run", "Figures of others", "0.8162 / 0.6895"):
        assert words in text


def test_images_are_few_and_it_is_small(html):
    assert html.count('<div class="image">') == 4
    assert len(html) < 300_000


def test_it_is_the_same_every_time(toy_root):
    report = build_report(read_cells(toy_root / "benchmark.json"), "toy")
    assert report_page(report) == report_page(report)


def test_in_a_browser(html, tmp_path, chromium):
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    messages, requests = [], []
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.on("console", lambda message: messages.append(message.text))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    assert messages == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert page.title() == "Benchmark: <i>toy</i> & co"
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) > 10
    assert min(widths) > 0
    chips = page.evaluate(
        "[...document.querySelectorAll('.chip')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert {"rgb(230, 159, 0)", "rgb(86, 180, 233)"} <= set(chips)
    best = page.locator("#table-1 td.best").first
    assert best.evaluate("e => getComputedStyle(e).fontWeight") == "700"
    assert page.locator("figure", has_text='<script>alert("x")</script> & friends').count() > 0
    # Readable without scrolling sideways.
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("nav a", has_text="cells").click()
    assert page.locator("#cells").is_visible()
    page.context.close()

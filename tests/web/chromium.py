"""A headless Chromium for tests of the page: the machine's own, driven by playwright."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "DETECTURE_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


def chromium_path():
    """Path of a Chromium: what the variable names, or what is installed; None without one."""
    named = os.environ.get(VARIABLE)
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def browser():
    """A running browser (playwright's `Browser`)."""
    from playwright.sync_api import sync_playwright

    options = _OPTIONS.split()
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium's sandbox does not start for root
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=chromium_path(), args=options)
        try:
            yield chromium
        finally:
            chromium.close()


def open_page(chromium, url, **options):
    """A page of a new user (cookies and session of its own), ready for an image."""
    page = chromium.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
    page.goto(url)
    page.wait_for_selector("#dt-segment")
    page.wait_for_function("window.detecture !== undefined")
    return page


def give(page, image: str | Path):
    """Put a file into the box; the page then asks for it by itself."""
    if page.locator("#dt-image input[type=file]").count() == 0:
        page.locator("#dt-image button[aria-label='Clear']").click()
    page.set_input_files("#dt-image input[type=file]", str(image))


def choose_count(page, count: str):
    """Choose the number of regions, and ask."""
    page.locator("#dt-regions input").click()
    page.get_by_role("option", name=count, exact=True).click()
    page.locator("#dt-segment").click()


def wait_for_message(page, text: str, seconds: float = 60.0):
    """Until the message line holds a text; returns the whole line."""
    line = page.locator("#dt-message .dt-message", has_text=text)
    line.wait_for(timeout=1000 * seconds)
    return line.inner_text()


def wait_for_regions(page, seconds: float = 60.0):
    """Until the overlay is painted."""
    page.wait_for_selector('.dt-view[data-state="shown"]', timeout=1000 * seconds)

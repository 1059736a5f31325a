"""The review: what is in its data, that texts stay texts, and the list that comes back."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detecture
from detecture.errors import MinerError, OutputError
from detecture.miner.palette import PALETTE
from detecture.miner.review_page import (
    ReviewPick,
    ReviewRow,
    ReviewSettings,
    build_review,
    picked_ids,
    read_picks,
)

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\u2028&\"'`"
REPO = Path(detecture.__file__).parents[1]


def data_of(folder):
    """What data.js holds."""
    text = (folder / "data.js").read_text(encoding="utf-8")
    found = re.fullmatch(r"window\.REVIEW = (.*);\n", text)
    return json.loads(found[1])


def row(tmp_path, name="a", score=70.0, status="selected", regions=2, **more):
    """A row with an image of 40 x 60 and its regions."""
    image, mask = tmp_path / f"{name}.png", tmp_path / f"{name}_index.png"
    if not image.exists():
        level = np.full((40, 60, 3), 100, dtype=np.uint8)
        Image.fromarray(level).save(image)
        index = np.zeros((40, 60), dtype=np.uint8)
        for number in range(regions):
            index[:, 20 * number : 20 * number + 20] = number + 1
        Image.fromarray(index).save(mask)
    return ReviewRow(
        **{
            "dataset": "ade20k",
            "item_id": name,
            "image": image,
            "status": status,
            "score": score,
            "index_mask": mask,
            "class_names": ["wall", "floor"][:regions],
        }
        | more
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "review"


def test_the_files_of_the_page(tmp_path, folder):
    rows = [row(tmp_path, "a", 60.0), row(tmp_path, "b", 90.0), row(tmp_path, "c", None, "none")]
    page = build_review(rows, folder, ReviewSettings(title="My set", selected_min=65.0))
    assert page == folder / "index.html"
    data = data_of(folder)
    assert (data["title"], data["selected_min"]) == ("My set", 65.0)
    assert [r["id"] for r in data["rows"]] == ["b", "a", "c"]
    first = data["rows"][0]
    assert (first["pick"], first["score"], first["k"]) == ("ade20k/b", 90.0, 2)
    assert first["regions"][0] == {
        "color": PALETTE[0].hex,
        "color_name": "red",
        "name": "wall",
        "text": "",
    }
    for found in data["rows"]:
        for kind in ("thumbnails", "images", "overlays"):
            assert (folder / found[kind]).is_file()
    overlay = np.asarray(Image.open(folder / first["overlays"])).astype(int)
    assert overlay.shape == (40, 60, 3)
    expected = 0.4 * 100 + 0.6 * np.array(PALETTE[0].rgb)
    assert np.abs(overlay[20, 10] - expected).max() < 12
    assert np.abs(overlay[20, 50] - 100).max() < 12


def test_large_images_are_shown_small(tmp_path, folder):
    big = row(tmp_path, "big")
    Image.fromarray(np.zeros((300, 900, 3), np.uint8)).save(big.image)
    Image.fromarray(np.ones((300, 900), np.uint8)).save(big.index_mask)
    build_review([big], folder, ReviewSettings(side=450))
    (found,) = data_of(folder)["rows"]
    sizes = [Image.open(folder / found[kind]).size for kind in ("thumbnails", "images", "overlays")]
    assert sizes == [(300, 100), (450, 150), (450, 150)]


def test_texts_of_others_cannot_end_the_script(tmp_path, folder):
    hostile = row(
        tmp_path,
        dataset=HOSTILE,
        status=HOSTILE,
        class_names=[HOSTILE],
        descriptions=[HOSTILE],
        facts={HOSTILE: HOSTILE, "nan": math.nan, "deep": [{"inf": math.inf}], "path": tmp_path},
    )
    build_review([hostile], folder, ReviewSettings(title=HOSTILE))
    text = (folder / "data.js").read_text(encoding="utf-8")
    assert text.isascii()
    assert not re.search("[<>&]", text)
    data = data_of(folder)
    (found,) = data["rows"]
    assert found["dataset"] == found["status"] == data["title"] == HOSTILE
    assert found["regions"][0]["text"] == HOSTILE
    assert found["facts"][HOSTILE] == HOSTILE
    assert found["facts"]["nan"] is None
    assert found["facts"]["deep"] == [{"inf": None}]
    assert "\n" not in found["pick"]
    assert found["pick"].count("/") == 1
    # Nothing of it is in another file, nor in the name of one.
    assert "hacked" not in (folder / "index.html").read_text()
    assert all(re.fullmatch(r"[\w%.-]+", p.name) for p in folder.rglob("*.jpg"))


def test_the_script_makes_no_html_of_texts():
    script = REPO / "detecture/miner/review_page/templates/page.js"
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function",
        script.read_text(),
    )
    page = script.with_name("index.html").read_text()
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    assert not re.search(r"https?://", page)


def test_what_cannot_be_read_is_shown_as_that(tmp_path, folder):
    bad, odd = row(tmp_path, "bad", 2.0), row(tmp_path, "odd", 1.0)
    bad.image.write_bytes(b"no image")
    Image.fromarray(np.ones((9, 9), np.uint8)).save(odd.index_mask)
    build_review([bad, odd], folder)
    first, second = data_of(folder)["rows"]
    assert "thumbnails" not in first
    assert "bad.png" in first["problem"]
    assert "9 x 9" in second["problem"]


def test_made_anew_it_draws_what_is_new_and_removes_what_is_gone(tmp_path, folder):
    a, b = row(tmp_path, "a"), row(tmp_path, "b")
    build_review([a, b], folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.jpg")}
    assert len(before) == 6
    mine = folder / "thumbnails/mine.jpg"
    mine.write_bytes(b"of somebody")
    os.utime(a.image, ns=(1, 1))
    build_review([a, row(tmp_path, "c")], folder)
    after = set(folder.rglob("*.jpg"))
    assert mine in after
    assert len(after - {mine}) == 6
    assert not any("__b-" in p.name for p in after)
    # The same again writes no image.
    times = {p: p.stat().st_mtime_ns for p in after}
    build_review([a, row(tmp_path, "c")], folder)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.jpg")} == times


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, folder):
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(MinerError, match="no review of this tool"):
        build_review([row(tmp_path)], folder)
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    page = build_review([row(tmp_path)], folder)
    page.write_text(page.read_text().replace("Review", "Mine"))
    with pytest.raises((MinerError, OutputError), match="another folder"):
        build_review([row(tmp_path)], folder)


def test_a_killed_build_goes_on(tmp_path, folder, monkeypatch):
    from detecture.miner.review_page import building

    rows = [row(tmp_path, "a", 9.0), row(tmp_path, "b", 8.0)]
    draw, drawn = building.render_overlay, []

    def killed(*arguments):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(1)
        return draw(*arguments)

    monkeypatch.setattr(building, "render_overlay", killed)
    with pytest.raises(KeyboardInterrupt):
        build_review(rows, folder)
    assert not (folder / "data.js").exists()
    monkeypatch.setattr(building, "render_overlay", lambda *a: drawn.append(2) or draw(*a))
    build_review(rows, folder)
    assert drawn == [1, 2]
    assert len(data_of(folder)["rows"]) == 2


def test_two_rows_of_one_id(tmp_path, folder):
    with pytest.raises(MinerError, match="ade20k/a: 2 rows"):
        build_review([row(tmp_path), row(tmp_path)], folder)


# ---- the list ------------------------------------------------------------------------------------


def test_picks_are_read_back(tmp_path):
    path = tmp_path / "picked_image_names.txt"
    path.write_text(
        "\ufeffade20k/ADE_train_1\r\n\n# mine\nADE_train_2\nade20k/ADE_train_1\nx/y%2F\n"
    )
    picks = read_picks(path)
    assert picks == [
        ReviewPick("ade20k", "ADE_train_1"),
        ReviewPick("", "ADE_train_2"),
        ReviewPick("x", "y%2F"),
    ]
    known = ["ADE_train_1", "ADE_train_2", "ADE_train_3"]
    assert picked_ids(picks, "ade20k", known) == known[:2]
    with pytest.raises(MinerError, match="1 picked images are not in ade20k: ADE_train_2"):
        picked_ids(picks, "ade20k", known[:1])


@pytest.mark.parametrize("line", ["ade20k/", "ade20k/..", "a b", "ade20k/<script>", "a/\u00e9"])
def test_lines_that_name_no_image(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"ok\n{line}\n", encoding="utf-8")
    with pytest.raises(MinerError, match="line 2"):
        read_picks(path)


def test_lists_that_cannot_be_read(tmp_path):
    with pytest.raises(MinerError, match="cannot be read"):
        read_picks(tmp_path / "none.txt")
    with pytest.raises(MinerError, match="cannot be read"):
        read_picks(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n")
    with pytest.raises(MinerError, match="UTF-8"):
        read_picks(tmp_path / "latin.txt")


def test_the_templates_ship():
    from setuptools import find_packages

    setup = (REPO / "setup.py").read_text()
    assert '"miner/review_page/templates/*"' in setup
    assert "detecture.miner.review_page" in find_packages(str(REPO), include=["detecture.*"])


# ---- in a browser --------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path, folder, chromium):
    """The page of five images, opened as a file; what it asks of others, and its errors."""
    rows = [
        row(tmp_path, "a", 90.0),
        row(tmp_path, "b", 75.0, regions=1),
        row(tmp_path, "c", 55.0, "borderline", descriptions=["Texture of moss", "Texture of <b>"]),
        row(tmp_path, "d", 10.0, "rejected", dataset="x<y"),
        row(tmp_path, "e", None, HOSTILE, facts={HOSTILE: HOSTILE}),
    ]
    index = build_review(rows, folder, ReviewSettings(title=HOSTILE))
    context = chromium.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.problems = []
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.on("console", lambda m: m.type == "error" and opened.problems.append(m.text))
    opened.goto(index.as_uri())
    opened.wait_for_selector(".card")
    yield opened
    assert opened.problems == []
    assert opened.evaluate("window.hacked") is None
    context.close()


def ids(page):
    return [text.rpartition("\n")[2] for text in page.locator(".card .words").all_inner_texts()]


@pytest.mark.slow
def test_filters_order_and_keys(page):
    assert page.title().startswith("</script>")
    assert ids(page) == ["a", "b", "c", "d", "e"]
    page.select_option("#order", "worst")
    assert ids(page) == ["d", "c", "b", "a", "e"]
    page.select_option("#order", "best")
    page.fill("#least", "50")
    assert ids(page) == ["a", "b", "c"]
    page.fill("#most-k", "1")
    assert ids(page) == ["b"]
    page.fill("#most-k", "")
    page.fill("#words", "MOSS")
    assert ids(page) == ["c"]
    page.fill("#words", "")
    page.fill("#least", "")
    page.select_option("#status", label="rejected")
    assert ids(page) == ["d"]
    page.select_option("#status", "")
    page.select_option("#dataset", label="x<y")
    assert ids(page) == ["d"]
    page.select_option("#dataset", "")
    assert "2 from 60 on" in page.locator("#histogram").text_content()
    assert page.locator("#histogram .limit").count() == 2
    page.locator(".card button").nth(2).click()
    assert "Texture of <b>" in page.locator("#regions").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#drawer-title").inner_text().startswith("e (ade20k)")
    assert "onerror" in page.locator("#facts").inner_text()
    shown = "() => [...document.images].every((i) => i.complete && i.naturalWidth > 0)"
    page.wait_for_function(shown, timeout=10_000)
    page.keyboard.press("Escape")
    assert page.locator("#drawer").is_hidden()
    page.keyboard.press("/")
    page.keyboard.type("moss")
    assert ids(page) == ["c"]


@pytest.mark.slow
def test_picks_are_kept_and_saved(page, tmp_path):
    page.locator(".card input").nth(2).check()
    page.click("#pick-above")
    assert page.locator("#picked").inner_text() == "3 picked"
    page.locator(".card button").nth(0).click()
    page.keyboard.press("p")
    assert not page.locator("#pick-this").is_checked()
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".card")
    assert page.locator("#picked").inner_text() == "2 picked"
    page.check("#only-picked")
    assert ids(page) == ["b", "c"]
    page.uncheck("#only-picked")
    page.select_option("#dataset", label="x<y")
    page.click("#pick-shown")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "picked_image_names.txt"
    download.value.save_as(tmp_path / "list.txt")
    assert read_picks(tmp_path / "list.txt") == [
        ReviewPick("ade20k", "b"),
        ReviewPick("ade20k", "c"),
        ReviewPick("x%3Cy", "d"),
    ]
    assert picked_ids(read_picks(tmp_path / "list.txt"), "x<y", ["d"]) == ["d"]
    page.click("#clear-shown")
    assert page.locator("#picked").inner_text() == "2 picked"

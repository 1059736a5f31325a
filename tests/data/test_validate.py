import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detecture.data.validate import DatasetProblem, check_dataset, format_report
from detecture.errors import DatasetError

LIMIT = 10_000


def check(path: Path, **options: object):
    arguments = {"max_pixels": LIMIT, **options}
    return check_dataset("mine", str(path), str(path.parent), **arguments)


def levels(path: Path, values: np.ndarray | int) -> None:
    array = np.full((24, 32), values, np.uint8) if np.isscalar(values) else values
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def test_a_sound_set(make_dataset):
    report = check(make_dataset(count=3), workers=4)
    assert report.ok and report.findings == []
    assert (report.images, report.textures, report.descriptions) == (3, 6, 6)
    assert report.k_histogram == {2: 3} and report.sizes == {"24 x 32": 3}
    assert report.unlabelled_mean == report.unlabelled_max == 0
    text = format_report(report)
    assert "3 images, 6 textures, 6 descriptions" in text and text.endswith("ok, 0 warnings")


def break_image_missing(root: Path) -> None:
    (root / "images/p1.png").unlink()


def break_image_cut(root: Path) -> None:
    path = root / "images/p1.png"
    path.write_bytes(path.read_bytes()[:500])


def break_mask_missing(root: Path) -> None:
    (root / "textures_mask/p1_mask_0.png").unlink()


def break_mask_text(root: Path) -> None:
    (root / "textures_mask/p1_mask_0.png").write_text("mask")


def break_mask_size(root: Path) -> None:
    levels(root / "textures_mask/p1_mask_0.png", np.full((32, 24), 255))


def break_mask_empty(root: Path) -> None:
    levels(root / "textures_mask/p1_mask_0.png", 0)


def break_mask_zero_one(root: Path) -> None:
    levels(root / "textures_mask/p1_mask_0.png", np.eye(24, 32))


def break_mask_colour(root: Path) -> None:
    Image.new("RGB", (32, 24), (1, 2, 3)).save(root / "textures_mask/p1_mask_0.png")


@pytest.mark.parametrize(
    ("break_it", "kind", "says"),
    [
        (break_image_missing, "missing_image", "images/p1.png: does not exist"),
        (break_image_cut, "unreadable_image", "images/p1.png: cannot be decoded"),
        (break_mask_missing, "missing_mask", "p1_mask_0.png: does not exist"),
        (break_mask_text, "unreadable_mask", "p1_mask_0.png: is no image"),
        (break_mask_size, "mask_size", "p1_mask_0.png: is 32 x 24 pixels"),
        (break_mask_empty, "empty_mask", "p1_mask_0.png: no pixel reaches grey 128"),
        (break_mask_zero_one, "mask_values", "p1_mask_0.png: holds 0 and 1"),
        (break_mask_colour, "unreadable_mask", "p1_mask_0.png: is a colour image"),
    ],
)
def test_each_defect_is_an_error_that_names_the_record(make_dataset, break_it, kind, says):
    path = make_dataset(count=3)
    break_it(path.parent)
    report = check(path)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [(e.kind, e.index, e.image_id) for e in errors] == [(kind, 1, "p1")]
    assert says in errors[0].text and not report.ok
    assert f"error {kind}: record 1 (id p1): " in format_report(report)


def test_it_does_not_stop_at_the_first_defect(make_dataset, tmp_path):
    (tmp_path / "outside.png").touch()

    def change(entries: list) -> list:
        entries[0]["image_path"] = "../outside.png"
        del entries[1]["textures"]
        entries[2]["id"] = "p3"
        entries[4] = "nonsense"
        return entries

    path = make_dataset(count=7, change=change)
    break_mask_empty(path.parent)  # p1 is unusable anyway: its masks are not looked at
    (path.parent / "images/p5.png").unlink()
    (path.parent / "textures_mask/p5_mask_1.png").unlink()
    report = check(path)
    assert [(f.kind, f.index) for f in report.findings] == [
        ("path", 0),
        ("schema", 1),
        ("duplicate_id", 3),
        ("schema", 4),
        ("missing_image", 5),
        ("missing_mask", 5),
    ]
    assert (report.images, report.textures) == (3, 6)


def test_number_of_textures(make_dataset):
    def many(entries: list) -> None:
        entries[0]["textures"] *= 4

    path = make_dataset(count=2, change=many)
    for i in range(2):
        levels(path.parent / f"textures_mask/p1_mask_{i}.png", 0)
    report = check(path)
    assert report.k_histogram == {0: 1, 8: 1}
    texts = {f.index: f.text for f in report.findings if f.kind == "k_range"}
    assert "has 8 textures" in texts[0] and "no usable mask" in texts[1]
    assert not report.ok


def test_warnings_do_not_fail_a_set(make_dataset):
    path = make_dataset(count=2)
    masks = path.parent / "textures_mask"
    soft = np.zeros((24, 32))
    soft[:, :16], soft[:, 16] = 255, 200  # one soft column, which lies in the other mask too
    levels(masks / "p0_mask_0.png", soft)
    levels(masks / "p1_mask_1.png", np.pad(np.full((24, 8), 255), ((0, 0), (24, 0))))
    report = check(path, published=(3, 4))
    assert report.ok
    assert [(f.severity, f.kind, f.index) for f in report.findings] == [
        ("warning", "published_count", None),
        ("warning", "mask_values", 0),
        ("warning", "overlap", 0),
    ]
    published, values, overlap = (f.text for f in report.findings)
    assert published.startswith("2 images where the published set has 3")
    assert "24 pixels are neither 0 nor 255" in values
    assert overlap.startswith("3.12% of the pixels lie in more than one mask")
    assert report.unlabelled_mean == pytest.approx(0.125)
    assert report.unlabelled_max == pytest.approx(0.25)
    assert "unlabelled pixels: mean 12.50%, most 25.00%" in format_report(report)


def test_missing_descriptions_are_only_counted(make_dataset):
    def mute(entries: list) -> None:
        for entry in entries:
            entry["textures"][0]["description"] = " "

    report = check(make_dataset(count=3, change=mute))
    assert report.ok and report.descriptions == 3
    assert [f.severity for f in report.findings] == ["info"] * 3
    assert "info empty_description: 3 more (--json lists all)" in format_report(report)


def test_many_warnings_are_shortened_and_errors_never(make_dataset):
    path = make_dataset(count=15)
    for i in range(15):
        levels(path.parent / f"textures_mask/p{i}_mask_0.png", 250)
        (path.parent / f"images/p{i}.png").unlink()
    text = format_report(check(path), shown=4)
    assert text.count("error missing_image") == 15
    assert text.count("warning mask_values: record") == 4
    assert "warning mask_values: 11 more (--json lists all)" in text
    assert text.endswith("15 errors, 30 warnings")


def test_malformed_json_is_a_finding_and_a_missing_folder_an_error(make_dataset, tmp_path):
    path = make_dataset(change=lambda entries: "[{")
    report = check(path)
    assert [f.kind for f in report.findings] == ["json"] and not report.ok
    assert "cannot be read as JSON" in format_report(report)
    with pytest.raises(DatasetError, match="does not exist"):
        check(tmp_path / "none" / "metadata.json")


def test_limit_on_pixels(make_dataset):
    report = check(make_dataset(count=1), max_pixels=767)
    assert {f.kind for f in report.findings} >= {"unreadable_image", "unreadable_mask"}
    assert "limit of 767" in report.findings[0].text


def test_report_is_plain_json(make_dataset):
    path = make_dataset(count=2)
    break_image_missing(path.parent)
    report = json.loads(json.dumps(check(path).to_dict()))
    assert report["ok"] is False and report["k_histogram"] == {"2": 2}
    assert report["findings"][0]["kind"] == "missing_image"


def test_progress_sees_every_record(make_dataset):
    seen = []

    def watch(records, total):
        for record in records:
            seen.append(total)
            yield record

    check(make_dataset(count=3), progress=watch)
    assert seen == [3, 3, 3]


def test_findings_without_a_record():
    assert str(DatasetProblem("warning", "x", None, "", "text")) == "warning x: text"
    unknown = "error x: record 0 (id unknown): text"
    assert str(DatasetProblem("error", "x", 0, "", "text")) == unknown

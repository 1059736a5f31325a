"""`datasets/prepare_textures.py`, on toy packages, and on the real ones where they are."""

import importlib.util
import io
import json
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detecture.data import texture_packages
from detecture.data.synthetic.own_textures import read_own_textures
from detecture.data.texture_packages import PACKAGES, boxes_of

REPO = Path(__file__).resolve().parents[2]
ROOT = "DETECTURE_TEXTURES_ROOT"
ZERO, UFO = PACKAGES

HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
ZERO_TERMS = f"{HEAD}Files: *\nCopyright: 2010 Wildfire Games\nLicense: CC-BY-SA-3.0\n"
UFO_TERMS = f"""{HEAD}Files: *
Copyright: 2002, The Team
License: GPL-2+

Files:
 base/textures/tex_mattn/wall_bricks00?.jpg
Copyright:
 Ann
 Bob
License: CC-BY-NC-3.0

Files: base/textures/tex_mattn/wall_bricks002.jpg
Copyright: Ann
License: CC-BY-3.0

License: GPL-2+
 A long text.
"""


def script():
    spec = importlib.util.spec_from_file_location(
        "prepare_textures", REPO / "datasets/prepare_textures.py"
    )
    module = sys.modules["prepare_textures"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def encoded(pixels, file_format):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, file_format)
    return stream.getvalue()


def dds(pixels, opacity=0):
    layer = np.full((*pixels.shape[:2], 1), opacity, np.uint8)
    return encoded(np.concatenate([pixels, layer], 2), "DDS")


GRASS, SAND = noise((512, 512), 1), noise((128, 160), 2)


def zero_files():
    folder = ZERO.folder
    return {
        f"{folder}alpine_grass_a.png.cached.dds": dds(GRASS),
        f"{folder}alpine_grass_a_norm.png.cached.dds": dds(noise((256, 256), 3)),
        f"{folder}desert_sahara.dds.cached.dds": dds(SAND),
        f"{folder}dirt_burned.dds.cached.dds": dds(noise((256, 256), 4)),
        f"{folder}gray.png.cached.dds": dds(noise((2, 2), 5)),
        f"{folder}temp_grass_d.png.cached.dds": dds(noise((64, 512), 6)),
        f"{folder}textures.xml": b"<x/>",
        "art/textures/ui/alpine_grass_a.png": b"not read",
    }


def ufo_files():
    folder = UFO.folder
    return {
        f"{folder}tex_mattn/wall_bricks001.jpg": encoded(noise((256, 256), 7), "JPEG"),
        f"{folder}tex_mattn/wall_bricks002.jpg": encoded(noise((256, 1100), 8), "JPEG"),
        f"{folder}tex_mattn/wood001.jpg": encoded(noise((256, 256), 9), "PNG"),
        f"{folder}tex_mattn/wood005.jpg": encoded(noise((256, 256), 9), "PNG"),
        f"{folder}tex_doors/door001.jpg": b"not read",
    }


def install(root, package, files, terms):
    archive, copyright_file = root / package.archive, root / package.copyright
    archive.parent.mkdir(parents=True)
    copyright_file.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    copyright_file.write_text(terms)


def both(root):
    install(root, ZERO, zero_files(), ZERO_TERMS)
    install(root, UFO, ufo_files(), UFO_TERMS)
    return root


def run(root, output, *more):
    return script().main(["--root", str(root), "--output", str(output), "--workers", "2", *more])


def written(output):
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file()
    }


def record_of(output, name):
    records = json.loads((output / "textures.json").read_text())["textures"]
    return next(record for record in records if name in record["path"])


def pixels_of(output, record):
    return [np.array(Image.open(output / window)) for window in record["windows"]]


def test_windows_of_both_packages(tmp_path, capsys):
    output = tmp_path / "out"
    assert run(both(tmp_path / "root"), output) == 0
    printed = capsys.readouterr().out
    assert "0ad-data is not version 0.0.26-1" in printed
    assert printed.splitlines()[-1] == (
        f"{output}: 5 textures in 11 images; named: 1 for training, 3 held out; unnamed: 1, 0; "
        "left out: 1 copies of others, 3 no surface, or not in the table, 1 of no free licence, "
        "1 smaller than 128 pixels"
    )
    grass = record_of(output, "alpine_grass_a.png")
    assert (grass["licence"], grass["authors"]) == ("CC-BY-SA-3.0", ["2010 Wildfire Games"])
    assert (grass["material"], grass["family"]) == ("grass, lawn, turf", "alpine_grass")
    quarters = [GRASS[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
    assert np.array_equal(pixels_of(output, grass), quarters)
    (enlarged,) = pixels_of(output, record_of(output, "desert_sahara"))
    assert enlarged.shape == (256, 256, 3) and abs(enlarged.mean() - SAND.mean()) < 2
    bricks = record_of(output, "wall_bricks002")
    assert (bricks["licence"], bricks["authors"]) == ("CC-BY-3.0", ["Ann"])
    assert len(bricks["windows"]) == 4
    assert record_of(output, "dirt_burned")["windows"][0].startswith("train_unnamed/any/")
    text = (output / "LICENSES.md").read_text()
    assert "## ufoai-textures of unknown version: CC-BY-3.0" in text and "- Ann\n" in text
    named = read_own_textures(str(output / "train"), 10**6)
    assert {kind.nouns for kind in named.kinds} == {("grass", "lawn", "turf")}
    named = read_own_textures(str(output / "held_out"), 10**6)
    assert {kind.name for kind in named.kinds} == {"sand", "brick", "wood"}


def test_the_same_bytes_again_and_nothing_made_twice(tmp_path, capsys):
    root = both(tmp_path / "root")
    assert run(root, tmp_path / "a") == run(root, tmp_path / "b") == 0
    first = written(tmp_path / "a")
    assert first == written(tmp_path / "b")
    capsys.readouterr()
    lost = next((tmp_path / "a/train").rglob("*.png"))
    lost.unlink()
    assert run(root, tmp_path / "a") == 0
    assert capsys.readouterr().out.count(" 1 made") == 1
    assert written(tmp_path / "a") == first


def test_one_package_is_enough(tmp_path, capsys):
    install(tmp_path / "root", UFO, ufo_files(), UFO_TERMS)
    assert run(tmp_path / "root", tmp_path / "out") == 0
    assert "apt-get install 0ad-data" in capsys.readouterr().out
    assert not list((tmp_path / "out").rglob("0ad*"))


def test_no_package_is_an_error(tmp_path, capsys):
    assert run(tmp_path, tmp_path / "out") == 2
    assert "apt-get install 0ad-data ufoai-textures" in capsys.readouterr().err


def test_another_version_replaces_what_changed_and_other_packages_stay(tmp_path):
    root, output = both(tmp_path / "root"), tmp_path / "out"
    assert run(root, output) == 0
    before = written(output)
    (root / UFO.archive).unlink()
    folder = ZERO.folder
    files = zero_files() | {f"{folder}desert_sahara.dds.cached.dds": dds(noise((256, 256), 10))}
    del files[f"{folder}alpine_grass_a.png.cached.dds"]
    (root / ZERO.archive).unlink()
    with zipfile.ZipFile(root / ZERO.archive, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    os.utime(root / ZERO.archive, (0, 0))  # older than what was made of the other one
    assert run(root, output) == 0
    after = written(output)
    gone = {name for name in before if name not in after}
    assert len(gone) == 4 and all("alpine_grass" in name for name in gone)
    assert not (output / "train/grass, lawn, turf").exists()
    changed = {name for name in after if after[name] != before[name] and name.endswith(".png")}
    assert len(changed) == 1 and "desert_sahara" in changed.pop()
    assert record_of(output, "wall_bricks002")["licence"] == "CC-BY-3.0"


def test_version_of_dpkg(tmp_path):
    root = tmp_path / "root"
    install(root, UFO, ufo_files(), UFO_TERMS)
    status = root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    installed = "Status: install ok installed\n"
    status.write_text(
        f"Package: other\n{installed}Version: 1\n\n"
        f"Package: ufoai-textures\n{installed}Description: x\n y\nVersion: 2.6-1\n"
    )
    assert run(root, tmp_path / "out") == 0
    packages = json.loads((tmp_path / "out/textures.json").read_text())["packages"]
    assert packages["ufoai-textures"]["version"] == "2.6-1"


def test_somebody_elses_file_stays(tmp_path, capsys):
    root, output = both(tmp_path / "root"), tmp_path / "out"
    output.mkdir()
    (output / "textures.json").write_text("{}")
    assert run(root, output) == 2
    assert "textures.json" in capsys.readouterr().err and len(written(output)) == 1
    assert run(root, output, "--overwrite") == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / ZERO.archive).write_bytes(b"PK no zip"), "cannot be unpacked"),
        (lambda root: (root / ZERO.copyright).unlink(), "copyright"),
        (lambda root: (root / ZERO.copyright).write_text("All mine."), "machine-readable"),
        (lambda root: (root / ZERO.copyright).write_text(f"{HEAD}Files: {'*a' * 9}\n"), "stars"),
    ],
)
def test_damaged_packages(tmp_path, capsys, damage, said):
    root = both(tmp_path / "root")
    damage(root)
    assert run(root, tmp_path / "out") == 2
    assert said in capsys.readouterr().err


def test_absurd_sizes_are_refused(tmp_path, capsys, monkeypatch):
    name = f"{ZERO.folder}desert_sahara.dds.cached.dds"
    install(tmp_path / "root", ZERO, {name: bytes(2 << 20)}, ZERO_TERMS)
    monkeypatch.setattr(texture_packages, "_MOST_BYTES", 1 << 20)
    assert run(tmp_path / "root", tmp_path / "out") == 2
    assert "more than 1,048,576 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"DDS ", b"GIF89a", dds(SAND)[:90]])
def test_what_is_no_image_is_refused(tmp_path, capsys, content):
    name = f"{ZERO.folder}desert_sahara.dds.cached.dds"
    install(tmp_path / "root", ZERO, {name: content}, ZERO_TERMS)
    assert run(tmp_path / "root", tmp_path / "out") == 2
    assert "desert_sahara" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "count"),
    [
        *(((127, 900), 0), ((128, 900), 1), ((255, 255), 1), ((256, 256), 1), ((300, 511), 1)),
        *(((256, 512), 2), ((2048, 300), 4), ((512, 512), 4), ((4096, 1024), 4)),
    ],
)
def test_boxes_lie_inside_and_apart(size, count):
    boxes = boxes_of(size)
    assert len(boxes) == count
    covered = np.zeros(size, int)
    for top, left, side in boxes:
        assert side == min(256, *size) and min(top, left) >= 0
        covered[top : top + side, left : left + side] += 1
    assert covered.max(initial=0) <= 1 and covered.sum() == sum(side**2 for *_, side in boxes)


def test_variants_of_a_name_are_one_family():
    names = script().Names({"no_surface": [], "materials": {}, "families": [["moss", "a/lawn"]]})
    for name in ("a/grass", "a/grass1", "a/grass_01", "a/grass_b", "a/grass_b_aut", "a/grass 50_"):
        assert names.family_of(name) == "a/grass"
    assert names.family_of("a/lawn_02b") == "moss" and names.family_of("7") == "7"


def test_the_table_is_sound():
    module = script()
    table = json.loads(module.TABLE.read_text())
    assert set(table) == {package.name for package in PACKAGES}
    for package, part in table.items():
        names = module.Names(part)
        families = [name for family in part["families"] for name in family]
        assert len(families) == len(set(families)), package
        for family in part["families"]:  # reachable: no name in it loses anything
            assert {names.family_of(name) for name in family} == {family[0]}
        for material, patterns in part["materials"].items():
            assert not set(material) & set('/\\:*?"<>|') and len(patterns) == len(set(patterns))
    assert module.split_of("0ad-data", "sand") == module.split_of("0ad-data", "sand")
    held = sum(module.split_of("p", str(i)) == "held_out" for i in range(6000))
    assert 850 < held < 1150


@pytest.mark.slow
def test_the_real_packages(tmp_path):
    """Each pattern and family of the table is of files that are there, and fits one material."""
    root = os.environ.get(ROOT)
    if not root:
        pytest.skip(f"{ROOT} names no root where 0ad-data and ufoai-textures are installed")
    module = script()
    table = json.loads(module.TABLE.read_text())
    for package in PACKAGES:
        archive = Path(root) / package.archive
        if not archive.is_file():
            pytest.skip(f"{archive} does not exist")
    assert run(Path(root), tmp_path / "out") == 0
    content = json.loads((tmp_path / "out/textures.json").read_text())
    splits = {}
    for record in content["textures"]:
        key = (record["package"], record["family"])
        assert splits.setdefault(key, record["split"]) == record["split"]
        assert all((tmp_path / "out" / window).is_file() for window in record["windows"])
    assert {record["package"] for record in content["textures"]} == set(table)
    shares = [record["split"] == "held_out" for record in content["textures"]]
    assert 0.1 < np.mean(shares) < 0.25
    if content["packages"]["0ad-data"]["version"] == ZERO.version:
        found = {record["family"] for record in content["textures"]}
        assert {family[0] for part in table.values() for family in part["families"]} <= found

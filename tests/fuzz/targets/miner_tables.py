"""Tables and lists that the miner reads: classes, picks, degrees, kinds."""

import json

from detecture.data.image_io import image_size
from detecture.errors import MinerError
from detecture.miner.items import Item, degree_text, safe_id
from detecture.miner.kinds import KINDS, TABLES, kinds_of
from detecture.miner.review_page.picks import pick_line, picked_ids, read_picks
from detecture.miner.sources.ade20k import OBJECT_INFO, read_object_info
from detecture.miner.sources.folder import Folder
from detecture.miner.sources.textured_ade20k import variant_of
from tests.fuzz.case import target
from tests.fuzz.inputs import write, write_json
from tests.fuzz.mutators import TEXTS, altered, damaged
from tests.fuzz.targets.annotations import image_bytes


@target(weight=8)
def object_info(case):
    """objectInfo150.txt of ADE20K."""
    draw = case.draw
    rows = [["Idx", "Ratio", "Train", "Val", "Name"]]
    names = ["wall", "building, edifice", "sky", "floor, flooring", "tree"]
    rows += [[str(n), "0.1", "11", "1", f"{name}\t"] for n, name in enumerate(names, 1)]
    if not (sound := case.chance(0.12)):
        row = draw.choice(rows)
        place = draw.randrange(len(row))
        if case.chance(0.6):
            row[place] = draw.choice(TEXTS)
        if case.chance(0.2):
            rows.insert(1, draw.choice(rows))
    data = "\n".join("\t".join(row) for row in rows).encode("utf-8", "surrogatepass")
    if not sound and case.chance(0.4):
        data = damaged(draw, data)
    path = case.folder / OBJECT_INFO
    case.sound = write(case, path, data) and sound
    found = read_object_info(case.folder)
    assert found and all(isinstance(name, str) and name.strip() for name in found.values())
    assert all(0 <= number < 65536 for number in found), sorted(found)[-1]
    if case.sound:
        assert found == dict(enumerate(names, 1))
    for table in TABLES:
        kinds = kinds_of(found, table=table)
        assert set(kinds.values()) <= set(KINDS)


@target(weight=8)
def miner_classes(case):
    """classes.json of a folder of one's own, for the miner."""
    draw = case.draw
    root = case.folder / "own"
    for inner in ("images", "labels"):
        (root / inner).mkdir(parents=True)
        for name in ("a", "b"):
            (root / inner / f"{name}.png").write_bytes(image_bytes())
    names = ["gravel", "wet sand", "sky|clouds"]
    as_list = case.chance(0.5)
    tree = names if as_list else {str(n): name for n, name in enumerate(names, 1)}
    if not as_list and case.chance(0.4):
        tree = {draw.choice(TEXTS): draw.choice(names), **tree}
        sound = False
    else:
        sound = True
    case.sound = write_json(case, root / "classes.json", tree) and sound
    source = Folder(str(root), max_pixels=1 << 20)
    found = source.class_names
    assert all(isinstance(name, str) for name in found.values())
    assert all(0 <= number < 65536 for number in found), sorted(found)[-1]
    content = None
    if case.sound:
        assert found == dict(enumerate(names, 1))
    elif (root / "classes.json").is_file():
        try:
            content = json.loads((root / "classes.json").read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError):
            content = None
    if content is not None:
        names = content.values() if isinstance(content, dict) else content
        assert len(found) == sum(bool(name.strip()) for name in names), "classes are lost"
    kinds_of(found)
    assert [one.item_id for one in source.items()] == ["a", "b"]


@target(weight=8)
def picks(case):
    """The list of picked images."""
    draw = case.draw
    ids = [f"image{n}" for n in range(4)]
    lines = ["# picked", "", *(pick_line("ade20k", one) for one in ids), ids[0]]
    if not (sound := case.chance(0.12)):
        for _ in range(draw.randint(0, 3)):
            lines.insert(draw.randrange(len(lines)), draw.choice(TEXTS))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    if not sound and case.chance(0.5):
        data = damaged(draw, data)
    path = case.folder / "picked.txt"
    case.sound = write(case, path, data) and sound
    found = read_picks(path)
    assert len(set(found)) == len(found)
    for one in found:
        assert one.item_id and "/" not in one.item_id and one.item_id.isascii()
    try:
        chosen = picked_ids(found, "ade20k", ids)
    except MinerError as error:
        assert len(str(error).encode()) <= 2000
        if case.sound:
            raise
    else:
        assert set(chosen) <= set(ids) and len(set(chosen)) == len(chosen)
        if case.sound:
            assert chosen == ids


@target(weight=5)
def miner_items(case):
    """Items out of plain values, ids of files, degrees in names."""
    draw = case.draw
    values = Item(item_id="a", image="images/a.png", annotation="b.png", degree=0.3).to_dict()
    given = altered(draw, values)
    text = draw.choice(TEXTS)
    degree = draw.choice(("0.3", "1_0", "9" * 400, "\u0663", "1.", "0_", "00.30"))
    name = f"{draw.choice(('ADE_1', text[:100]))}_textured_degree{degree}.jpg"
    (case.folder / "given.txt").write_text(ascii([given, text, name])[:200_000])
    safe = safe_id(text)
    assert len(safe) < 200 and safe.isascii() and "/" not in safe and not safe.startswith(".")
    if safe:
        (case.folder / f"{safe}.png").write_bytes(image_bytes())
        assert image_size(case.folder / f"{safe}.png")
    if variant := variant_of(name):
        assert 0.0 <= variant[1] < 1e6 and degree_text(variant[1]).isascii()
    if isinstance(given, dict):
        item = Item.from_dict(given)
        assert isinstance(item.item_id, str) and isinstance(item.image, str)
        assert Item.from_dict(item.to_dict()) == item

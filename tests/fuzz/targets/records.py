"""Records of evaluations, journals of the miner, indices of benchmarks."""

import json

from detecture.benchmark.read_cells import (
    find_index,
    read_cell_records,
    read_cells,
    read_protocol_name,
    read_request,
)
from detecture.checkpoint.json_files import seal
from detecture.errors import EvaluationError
from detecture.evaluation.record_check import record_problem
from detecture.evaluation.record_lines import header_line, read_lines, record_line
from detecture.evaluation.records import RecordFolder, read_records
from detecture.miner.journal import Journal, cost_ever, files_ever
from tests.fuzz.case import target
from tests.fuzz.inputs import json_bytes, write, write_json
from tests.fuzz.mutators import altered, damaged

FINGERPRINT = {"config": "a1", "weights": "b2", "data": "c3"}


def _record(n):
    return {
        "image_id": f"image{n}",
        "status": "ok",
        "mIoU": 0.5 + n / 100,
        "pIoU": 0.4,
        "mDice": 0.6,
        "pDice": 0.5,
        "ARI": -0.1,
        "k_pred": 2,
        "k_gt": 2,
        "k_hint": {"kind": "regime", "k": None},
        "oracle": False,
        "descriptions": ["sand", "é \u2028 reed"],
        "assignment": [[0, 1], [1, 0]],
        "matched_ious": [0.5, 0.25],
    }


def altered_lines(case, lines):
    """Lines of JSON, some of them altered, damaged, exchanged; returns them as bytes."""
    draw = case.draw
    lines = list(lines)
    for _ in range(draw.choice((0, 1, 1, 2))):
        at = draw.randrange(len(lines))
        kind = draw.randrange(6)
        if kind == 0:
            lines[at] = json_bytes(case, altered(draw, unsealed(lines[at]))) + b"\n"
        elif kind == 1:
            content = altered(draw, unsealed(lines[at]))
            content = seal(content) if isinstance(content, dict) else content
            lines[at] = json_bytes(case, content) + b"\n"
        elif kind == 2:
            lines[at] = damaged(draw, lines[at])
        elif kind == 3:
            lines.insert(at, draw.choice(lines))
        elif kind == 4 and len(lines) > 1:
            del lines[at]
        else:
            draw.shuffle(lines)
    data = b"".join(lines)
    return damaged(draw, data) if draw.random() < 0.2 else data


def unsealed(line):
    """The content of a line, without its digest; damage may have made it anything."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in content.items() if k != "digest"} if isinstance(content, dict) else {}


@target(weight=12)
def record_lines(case):
    """The records of an evaluation: damaged lines are told, sound ones are kept."""
    originals = [_record(n) for n in range(4)]
    has_digests = case.chance(0.8)
    lines = [header_line(FINGERPRINT), *(record_line(one, FINGERPRINT) for one in originals)]
    if not has_digests:
        lines = [json.dumps({"fingerprint": FINGERPRINT}) + "\n"]
        lines += [json.dumps(one) + "\n" for one in originals]
    lines = [line.encode() for line in lines]
    data = b"".join(lines) if case.chance(0.1) else altered_lines(case, lines)
    folder = case.folder / "inference"
    is_there = write(case, folder / "records.jsonl", data)
    case.sound = is_there and data == b"".join(lines)
    known = {one["image_id"]: one for one in originals}
    kept = RecordFolder(folder, FINGERPRINT, record_problem)
    found = kept.read()
    if has_digests:
        assert all(known.get(name) == one for name, one in found.items())
    for one in found.values():
        assert not record_problem(one)
    if is_there and has_digests and data.count(lines[0]) == 1 == data.count(b"fingerprint"):
        whole = set(data.split(b"\n"))
        intact = [one for one, line in zip(originals, lines[1:], strict=True) if line[:-1] in whole]
        assert all(one["image_id"] in found for one in intact), "a sound record is lost"
    if case.sound:
        assert found == known
    assert {one["image_id"] for one in read_records(folder, record_problem)} <= set(known) | set(
        found
    )
    kept.set_damaged_aside()
    kept.start(found.values())
    kept.append(0, _record(9))
    kept.close()
    again = RecordFolder(folder, FINGERPRINT, record_problem).read()
    assert again == {**found, "image9": _record(9)}
    assert not read_lines(folder / "records.jsonl").damaged


@target(weight=12)
def journal(case):
    """The journal of a stage of the miner."""
    path = case.folder / "journal.jsonl"
    results = {f"item{n}": {"status": "ok", "score": n, "cost": 0.5} for n in range(4)}
    with Journal(path, "settings") as own:
        lines = [own.append(name, result, "f", "g", 3) for name, result in results.items()]
    path.unlink()
    data = b"".join(lines) if case.chance(0.1) else altered_lines(case, lines)
    sound = data == b"".join(lines)
    is_there = write(case, path, data)
    case.sound = sound and is_there
    found = Journal(path, "settings")
    content = dict(found.results())
    assert set(content) == set(found.ids()) and len(found) == len(content)
    resealed = data != b"".join(lines) and b"digest" in data
    if not resealed:
        assert all(results.get(name) == one for name, one in content.items())
    intact = [line for line in lines if is_there and data.split(b"\n").count(line[:-1]) == 1]
    if data.count(b'"id"') == len(intact) == len(lines):
        assert content == results
    assert not list(files_ever(path)) or resealed
    assert cost_ever(path) >= 0.0 or resealed
    assert sum(found.counts().values()) == len(found)
    with found:
        found.append("new", {"status": "failed"})
    again = Journal(path, "settings")
    assert not again.damaged
    assert dict(again.results()) == {**content, "new": {"status": "failed"}}


def _cell(n):
    return {
        "method": f"method{n}",
        "label": f"Method {n}",
        "dataset": "rwtd",
        "variant": "default",
        "k_access": "regime",
        "random_weights": False,
        "folder": f"cells/method{n}/default/rwtd-regime",
        "state": "done",
        "note": "",
    }


@target(weight=8)
def benchmark_index(case):
    """The index of a benchmark, the summaries and records that it names."""
    draw = case.draw
    root = case.folder / "benchmark"
    cells = [_cell(n) for n in range(2)]
    tree = {"protocol": "main", "request": {"limit": 0}, "cells": cells}
    outside = case.folder / "outside"
    outside.mkdir()
    sound = True
    for cell in cells:
        folder = root / cell["folder"]
        folder.mkdir(parents=True)
        summary = seal({"n_total": 2, "dataset": "rwtd", "fingerprint": FINGERPRINT, "mIoU": 0.5})
        sound &= write_json(case, folder / "summary.json", summary)
        lines = [
            header_line(FINGERPRINT),
            *(record_line(_record(n), FINGERPRINT) for n in range(2)),
        ]
        lines = [line.encode() for line in lines]
        data = altered_lines(case, lines) if case.chance(0.7) else b"".join(lines)
        sound &= write(case, folder / "records.jsonl", data) and data == b"".join(lines)
    if case.chance(0.2):
        cells[0]["folder"] = draw.choice(["../outside", "/", "", ".", "a/../..", "cells/link"])
        (root / "cells" / "link").symlink_to(outside)
        sound = False
    sound &= write_json(case, root / "benchmark-main.json", tree)
    case.sound = sound
    path = find_index(root)
    read_protocol_name(path)
    read_request(path)
    found = read_cells(path)
    if case.sound:
        assert [cell.method for cell in found] == ["method0", "method1"]
    for cell in found:
        if cell.folder is not None:
            assert cell.folder.resolve().is_relative_to(root.resolve())
        if cell.state == "done":
            assert cell.summary is not None
        try:
            records = read_cell_records(cell)
        except EvaluationError as error:
            assert len(str(error)) < 2000
            if case.sound:
                raise
        else:
            known = {one["image_id"]: one for one in map(_record, range(2))}
            assert all(known.get(name) == one for name, one in records.items()) or not sound

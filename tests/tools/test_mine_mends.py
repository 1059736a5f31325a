"""What `tools/mine.py` does about damage in its own folder, and about corrections that are odd."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from miner_toy import write_ade_toy

REPO = Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "tools"))
import mine  # noqa: E402


@pytest.fixture(scope="module")
def ade(tmp_path_factory):
    return write_ade_toy(tmp_path_factory.mktemp("ade"), count=6, val=2)


def run(ade, output, *more, command="run"):
    options = [word for word in more if word.startswith("--")]
    config = str(REPO / "configs/miner/ade20k.yaml")
    keys = ["MINER.SOURCE.ROOT", str(ade), "OUTPUT_DIR", str(output)]
    keys += ["MINER.DESCRIBE.OFFLINE_MODEL", "False", "MINER.SELECT.BY", "all"]
    keys += [] if options else list(more)
    arguments = [command, "--config-file", config, *(more if options else ()), *keys]
    return mine.main(arguments)


@pytest.fixture(scope="module")
def mined(ade, tmp_path_factory):
    output = tmp_path_factory.mktemp("mined") / "out"
    assert run(ade, output, "MINER.EXPORT.FORMATS", "('label_studio','cvat')") == 0
    return output


@pytest.fixture
def own(mined, tmp_path):
    return Path(shutil.copytree(mined, tmp_path / "out"))


def dataset(output):
    return output / "export/ADE20K_textured_images"


def content_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def descriptions_of(output):
    entries = json.loads((dataset(output) / "metadata.json").read_text())
    return {entry["id"]: [t["description"] for t in entry["textures"]] for entry in entries}


def corrected_tasks(output, path, change):
    """The first task of the export, annotated with what `change` makes of its prediction."""
    task = json.loads((output / "export/label_studio/tasks-00000.json").read_text())[0]
    result = json.loads(json.dumps(task["predictions"][0]["result"]))
    task["annotations"] = [{"result": change(result)}]
    path.write_text(json.dumps([task]))
    return task["data"]["item_id"]


def bring_in(ade, output, path, tool="label_studio"):
    return run(ade, output, "--tool", tool, "--export", str(path), command="import")


# ---- corrections ---------------------------------------------------------------------------------


def test_sentences_of_a_person_stay_where_another_is_missing(ade, own, tmp_path, capsys):
    def change(result):
        texts = [part for part in result if part["type"] == "textarea"]
        for number, part in enumerate(texts):
            part["value"]["text"] = [f"Texture of what somebody wrote by hand, {'xyz'[number]}"]
        texts[0]["value"]["text"] = [""]
        return result

    item_id = corrected_tasks(own, tmp_path / "ls.json", change)
    before = descriptions_of(own)[item_id]
    assert bring_in(ade, own, tmp_path / "ls.json") == 0
    assert "1 regions have no description; the next run describes these" in capsys.readouterr().out
    assert run(ade, own) == 0
    first, *others = descriptions_of(own)[item_id]
    assert others and all("somebody wrote by hand" in text for text in others)
    assert first == before[0]


def test_an_import_is_whole_or_none(ade, own, tmp_path, capsys):
    tasks = json.loads((own / "export/label_studio/tasks-00000.json").read_text())[:3]
    for task in tasks:
        result = json.loads(json.dumps(task["predictions"][0]["result"]))
        task["annotations"] = [{"result": result[:2]}]
    for part in tasks[1]["annotations"][0]["result"]:
        part["original_width"] = 0
    (tmp_path / "ls.json").write_text(json.dumps(tasks))
    assert bring_in(ade, own, tmp_path / "ls.json") == 2
    assert "export it anew" in capsys.readouterr().err
    assert not (own / "corrections").exists()


@pytest.mark.parametrize("damage", ["gone", "bytes"])
def test_a_damaged_correction_is_told_and_brought_in_again(ade, own, tmp_path, capsys, damage):
    def change(result):
        return result[:-2]

    corrected_tasks(own, tmp_path / "ls.json", change)
    assert bring_in(ade, own, tmp_path / "ls.json") == 0
    assert run(ade, own) == 0
    wanted = content_of(dataset(own))
    (mask,) = (own / "corrections").iterdir()
    content = bytearray(mask.read_bytes())
    content[len(content) // 2] ^= 255
    mask.write_bytes(content) if damage == "bytes" else mask.unlink()
    shutil.rmtree(dataset(own) / "textures_mask")
    assert run(ade, own) in (1, 2)
    assert "import it again" in "".join(capsys.readouterr())
    assert bring_in(ade, own, tmp_path / "ls.json") == 0
    assert run(ade, own, "--retry-failed") == 0
    assert content_of(dataset(own)) == wanted


def test_an_image_without_regions_is_told(ade, own, tmp_path, capsys):
    name = next((dataset(own) / "images").iterdir())
    (tmp_path / "cvat.xml").write_text(
        f'<annotations><image id="0" name="{name.name}" width="96" height="64"/></annotations>'
    )
    bring_in(ade, own, tmp_path / "cvat.xml", tool="cvat")
    assert f"{name.stem}: no region is left: it drops out" in capsys.readouterr().out


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["score", "extract", "describe", "validate", "look", "split"])
def test_a_damaged_line_of_any_journal_is_done_again(ade, own, stage):
    wanted = content_of(own / "export")
    journal = own / f"journals/{stage}.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"status"', b'"stat!s"')
    journal.write_bytes(b"".join(lines))
    assert run(ade, own, "MINER.EXPORT.FORMATS", "('label_studio','cvat')") == 0
    assert content_of(own / "export") == wanted


@pytest.mark.parametrize("keys", [[], ["MINER.SPLIT.SEED", "5"]])
def test_a_summary_that_is_gone_is_written_again(ade, own, keys):
    (dataset(own) / "summary.json").unlink()
    assert run(ade, own, *keys) == 0
    assert (dataset(own) / "summary.json").is_file()
    assert run(ade, own) == 0


def test_a_damaged_index_mask_fails_its_image_and_is_not_a_rejection(ade, own, capsys):
    mask = sorted((own / "extract").iterdir())[0]
    content = bytearray(mask.read_bytes())
    content[len(content) // 2] ^= 255
    mask.write_bytes(content)
    assert run(ade, own, "MINER.VALIDATE.PREFIX", "Texture") == 1
    said = "".join(capsys.readouterr())
    assert f"{mask}: is not as it was written (" in said and "remove it (a correction" in said
    mask.unlink()
    assert run(ade, own, "--retry-failed", "MINER.VALIDATE.PREFIX", "Texture") == 0
    assert len(descriptions_of(own)) == 8


def test_what_left_the_set_leaves_no_example_and_no_empty_list(ade, own, capsys):
    (dataset(own) / "images/notes.tmp-12").write_text("the user's own")
    (dataset(own) / "metadata.json.tmp-99").write_text("left by a kill")
    assert run(ade, own, "MINER.SOURCE.PARTS", "('val',)") == 0
    kept = descriptions_of(own)
    assert kept and all("val" in name for name in kept)
    assert {path.stem for path in (dataset(own) / "examples").iterdir()} <= set(kept)
    assert not (dataset(own) / "train_metadata.json").exists()
    assert (dataset(own) / "images/notes.tmp-12").is_file()
    assert not (dataset(own) / "metadata.json.tmp-99").exists()
    said = capsys.readouterr().out
    assert "export/cvat: is of an earlier run" in said
    assert f"the data set is in {dataset(own)} ({len(kept)} test)" in said


def test_a_run_that_leaves_no_image_says_why(ade, own, capsys):
    assert run(ade, own, "MINER.VALIDATE.PREFIX", "A picture of") == 1
    said = capsys.readouterr().out
    assert "8 images are rejected, such as ADE_" in said and "no image is left" in said


def test_a_store_is_not_the_output_folder(ade, own, capsys):
    for store in (own, own / "inner", f"file://{own.parent}"):
        assert run(ade, own, "MINER.RUNNING.STORE", str(store)) == 2
        assert "lie in each other" in capsys.readouterr().err

"""tools/aggregate_results.py: files and standard output from what cells have left."""

import importlib.util
import json
from pathlib import Path

import pytest
from benchmark.toy_cells import summary, write_index
from toy import write_toy_dataset

TOOL = Path(__file__).resolve().parents[2] / "tools" / "aggregate_results.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("aggregate_results_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path):
    """Two methods on RWTD, one of them not run; no records."""
    folder = tmp_path / "benchmark/a/rwtd"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary("rwtd", 0.75)))
    cells = [
        {"method": "a", "dataset": "rwtd", "folder": "a/rwtd"},
        {"method": "b", "dataset": "rwtd", "folder": "b/rwtd", "state": "missing"},
    ]
    return write_index(tmp_path / "benchmark", cells, "small")


def test_markdown_goes_to_the_standard_output(tool, root, capsys):
    assert tool.main(["--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# Benchmark: small\n")
    assert "| a        | 0.7500 [0.7400, 0.7600] | 0.7500 |" in out


def test_all_files(tool, root, tmp_path, capsys):
    options = ("csv", "csv-full", "latex", "markdown", "html")
    paths = {name: tmp_path / "new/folder" / f"report.{name}" for name in options}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    assert tool.main(["--root", str(root), *words, "--metric", "ARI"]) == 0
    assert capsys.readouterr().out == ""
    texts = {name: path.read_text() for name, path in paths.items()}
    assert texts["csv"] == (
        "model,dataset,mIoU,pIoU,Dice,ARI,Coverage,n_ok,n_total\n"
        "a,rwtd,0.7500,0.7500,0.5000,0.5000,0.0000,4,4\n"
    )
    assert len(texts["csv-full"].splitlines()) == 3
    assert texts["latex"].count(r"\begin{tabular}") == 1
    assert texts["markdown"].startswith("# Benchmark: small\n\n")
    assert texts["html"].startswith("<!DOCTYPE html>")
    again = {name: path.read_bytes() for name, path in paths.items()}
    assert tool.main(["--root", str(root), *words, "--metric", "ARI"]) == 0
    assert {name: path.read_bytes() for name, path in paths.items()} == again
    # Written whole or not at all: nothing else is left there.
    assert sorted(p.name for p in (tmp_path / "new/folder").iterdir()) == sorted(
        path.name for path in paths.values()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--root", "nowhere"], "no such file; give the folder of a benchmark"),
        (["--root", "ROOT", "--against", "c"], "method 'c' is not in this benchmark"),
        (["--root", "ROOT", "--html", "TMP/x.html", "--images-by", "c"], "'c' is not in this"),
        (["--root", "ROOT", "--csv", "ROOT/a"], "cannot be written"),
        (["--root", "ROOT", "--dataset-json", "no.json"], "no.json does not exist"),
    ],
)
def test_wrong_input_is_exit_status_2(tool, root, tmp_path, capsys, words, message):
    given = [word.replace("ROOT", str(root)).replace("TMP", str(tmp_path)) for word in words]
    assert tool.main(given) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--metric", "PQ"], ["--images", "-1"]])
def test_wrong_options_are_exit_status_2(tool, root, words):
    with pytest.raises(SystemExit) as caught:
        tool.main(["--root", str(root), *words])
    assert caught.value.code == 2


def test_images_of_ones_own_data_set(tool, tmp_path, toy_evaluated):
    path = tmp_path / "report.html"
    words = ["--dataset-json", str(toy_evaluated.json_file), "--html", str(path)]
    assert tool.main(["--root", str(toy_evaluated.root), *words, "--images", "2"]) == 0
    assert path.read_text().count('<div class="image">') == 2


@pytest.fixture
def toy_evaluated(tmp_path):
    """One method on a data set that only its metadata file is known of."""
    from types import SimpleNamespace

    from benchmark.toy_cells import evaluate

    from detecture.d2 import DatasetCatalog, MetadataCatalog
    from detecture.data import register_dataset_json

    name = f"toy_{tmp_path.name}"
    json_file = write_toy_dataset(tmp_path / name, count=3)
    assert register_dataset_json(json_file) == name
    evaluate(tmp_path / "benchmark/m/own", name)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    root = tmp_path / "benchmark"
    write_index(root, [{"method": "m", "dataset": name, "folder": "m/own"}])
    return SimpleNamespace(root=root, json_file=json_file)


def test_files_of_others_are_kept(tool, root, tmp_path, capsys):
    """All are looked at before the first is written; its own are replaced, changed or not."""
    options = ("csv", "csv-full", "latex", "markdown", "html")
    paths = {name: tmp_path / f"report.{name}" for name in options}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    for name, path in paths.items():
        path.write_text("mine")
        assert tool.main(["--root", str(root), *words]) == 2
        assert f"{path}: is there already" in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir() if p.suffix == f".{name}"] == [path.name]
        assert path.read_text() == "mine"
        path.unlink()
    assert tool.main(["--root", str(root), *words]) == 0
    for path in root.rglob("summary.json"):  # more has been evaluated meanwhile
        path.write_text(path.read_text().replace("0.75", "0.25"))
    assert tool.main(["--root", str(root), *words]) == 0
    assert "0.2500" in paths["csv"].read_text()
    paths["csv"].write_text(paths["csv"].read_text() + "published,rwtd,,,,,,,\n")  # by hand
    assert tool.main(["--root", str(root), *words]) == 2
    assert tool.main(["--root", str(root), *words, "--overwrite"]) == 0
    assert "published" not in paths["csv"].read_text()

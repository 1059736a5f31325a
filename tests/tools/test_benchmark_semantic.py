"""tools/benchmark.py with open-vocabulary models, and the report of what they left."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark.toy_semantic import write_published_layout

REPO = Path(__file__).resolve().parents[2]
SETS = {"ade20k_150_test_sem_seg": "ADE-150", "context_459_test_sem_seg": "PC-459"}
METHODS = {"cat_seg": "CAT-Seg B", "ahs_seg": "AHS-Seg B"}
PROTOCOL = ["--protocol-file", "configs/benchmark_semantic.yaml", "--protocol"]


@pytest.fixture
def environment(tmp_path):
    for name in SETS:
        write_published_layout(tmp_path / "data", name)
    found = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return {**found, "DETECTRON2_DATASETS": str(tmp_path / "data")}


def run(environment, tool, *words):
    return subprocess.run(
        [sys.executable, f"tools/{tool}.py", *map(str, words)],
        **{"capture_output": True, "text": True, "env": environment, "cwd": REPO},
    )


@pytest.mark.slow
def test_both_methods_on_two_sets_and_their_report(tmp_path, environment):
    words = ["--root", tmp_path / "out", *PROTOCOL, "open_vocabulary", "--datasets", *SETS]
    words += ["--methods", *METHODS, "--set", "all", "MODEL.DEVICE", "cpu"]
    done = run(environment, "benchmark", *words, "--random-weights")
    assert done.returncode == 0, done.stderr
    assert "4 done" in done.stdout
    assert "no K" in done.stdout
    again = run(environment, "benchmark", *words, "--random-weights", "--dry-run")
    assert "4 done" in again.stdout
    assert "train_net.py" not in again.stdout

    files = {name: tmp_path / f"report.{name}" for name in ("csv", "latex", "markdown", "html")}
    options = [word for name, path in files.items() for word in (f"--{name}", path)]
    told = run(environment, "aggregate_results", "--root", tmp_path / "out", *options)
    assert told.returncode == 0, told.stderr
    summaries = {}
    for path in (tmp_path / "out/cells").glob("*-random/published/*/inference/*/summary.json"):
        summaries[path.parts[-6].removesuffix("-random"), path.parts[-2]] = json.loads(
            path.read_text()
        )
    assert len(summaries) == 4

    lines = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert [(line["model"], line["dataset"]) for line in lines] == [
        (f"{method} (random weights)", dataset) for method in METHODS for dataset in SETS
    ]
    for line in lines:
        summary = summaries[line["model"].split()[0], line["dataset"]]
        for name in ("mIoU", "bIoU", "fwIoU", "mACC", "pACC"):
            assert line[name] == f"{summary[name]:.4f}"
        assert line["mIoU_legacy"] == f"{summary['mIoU_present_or_predicted']:.4f}"
        for name in ("miou_rule", "vocabulary", "synonyms", "templates", "background"):
            assert line[name] == summary[name]
        assert (line["miou_rule"], line["vocabulary"]) == ("present", "full")
        assert (line["n_ok"], line["n_total"]) == ("2", "2")

    markdown, latex = files["markdown"].read_text(), files["latex"].read_text()
    of_rule = markdown.split("## mIoU")[1].split("##")[0]
    of_rule_tex = latex.split("\\end{tabular}")[0]
    assert re.search(r"\| method +\| ADE-150 +\| PC-459 +\| mean", of_rule)
    assert "Method & ADE-150 & PC-459 & Mean" in of_rule_tex
    for method, label in METHODS.items():
        values = [f"{summaries[method, dataset]['mIoU']:.4f}" for dataset in SETS]
        (row,) = (line for line in of_rule.splitlines() if line.startswith(f"| {label}"))
        assert re.findall(r"(\d\.\d{4}) \[", row)[:2] == values
        assert f"{label} (random weights) & {values[0]} & {values[1]} & " in of_rule_tex
    own, others = markdown.split("## Figures of others")
    assert "CorrCLIP" in others and "CorrCLIP" not in own
    html = files["html"].read_text()
    assert html.count('<div class="image">') == 4
    assert "told of K" not in html


@pytest.mark.slow
def test_methods_without_weights_and_sets_without_data_get_a_row_that_says_so(
    tmp_path, environment
):
    words = ["--root", tmp_path / "out", *PROTOCOL, "open_vocabulary", "--methods", "cat_seg"]
    words += ["--datasets", "ade20k_150_test_sem_seg", "voc_2012_test_sem_seg", "--limit", "1"]
    # As where CLIP itself is at hand, but not what CAT-Seg has made of it.
    for key, value in (("BASE", ""), ("CONFIG", "tiny"), ("GRID", "12")):
        words += ["--set", "cat_seg", f"MODEL.CLIP.{key}", value]
    words += ["--set", "all", "MODEL.DEVICE", "cpu"]
    failed = run(environment, "benchmark", *words)
    assert failed.returncode == 1, failed.stderr
    assert "1 failed, 1 missing" in failed.stdout
    assert "model_base.pth" in failed.stdout
    assert "data: voc_2012_test_sem_seg: the folder of the images" in failed.stdout
    told = run(environment, "aggregate_results", "--root", tmp_path / "out", "--metric", "mIoU")
    rows = [line for line in told.stdout.splitlines() if line.startswith("| CAT-Seg B ")]
    assert re.search(r"\| failed +\| — +\| — +\|", rows[0])
    assert "model_base.pth" in rows[1]
    assert "data: voc_2012_test_sem_seg" in rows[2]


@pytest.mark.slow
def test_cells_without_a_meaning_are_refused(tmp_path, environment):
    config = (REPO / "configs/baselines/floor_half_split.yaml").as_posix()
    protocol = tmp_path / "mixed.yaml"
    protocol.write_text(
        f"methods:\n  half: {{label: Half, config: {config}}}\n"
        "protocols:\n  p:\n    note: a test\n    datasets: [ade20k_150_test_sem_seg]\n"
        "    leaks: false\n    methods: {half: {semantic: {variants: [default]}}}\n"
    )
    for words, message in (
        (["--datasets", "ade20k_150_test_sem_seg"], "give the method an entry `semantic`"),
        (["--datasets", "rwtd", "ade20k_150_test_sem_seg"], "give --datasets of one kind"),
        ([*PROTOCOL, "open_vocabulary", "--datasets", "rwtd"], "asked for classes by name"),
        (["--protocol-file", protocol, "--protocol", "p"], "its figures would mean nothing"),
    ):
        refused = run(environment, "benchmark", "--root", tmp_path / "out", *words)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()

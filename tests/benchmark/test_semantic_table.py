"""Reports of open-vocabulary segmentation: figures with what they depend on; others' apart."""

import csv
import io
import re

import pytest
from benchmark.toy_cells import cell
from benchmark.toy_semantic import PUBLISHED, SEVEN, semantic_cell

from detecture.benchmark.latex import report_latex
from detecture.benchmark.layout import arrange
from detecture.benchmark.markdown import report_markdown
from detecture.benchmark.page import report_page
from detecture.benchmark.published import SEMANTIC_PUBLISHED, load_published
from detecture.benchmark.report import build_report
from detecture.benchmark.table import (
    SEMANTIC_CSV_HEADER,
    SEMANTIC_METRICS,
    csv_full_text,
    csv_text,
    metric_table,
)
from detecture.errors import ConfigError

ADE, VOC = "ade20k_150_test_sem_seg", "voc_2012_test_sem_seg"
SEEN = f'"{PUBLISHED[6]}",one,off'
ORACLE = ("present", "oracle, the classes of each image", *PUBLISHED[2:])


def cells():
    return [
        *(semantic_cell("cat", ADE, 0.3), semantic_cell("cat", VOC, 0.9)),
        semantic_cell("ahs", ADE, 0.4),
        semantic_cell("ahs", VOC, state="failed", note="weights.pth does not exist"),
    ]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_columns_are_called_as_in_papers_and_are_of_no_k():
    layout = arrange([semantic_cell("cat", name, 0.5) for name in SEVEN])
    assert layout.is_semantic
    assert [column.title for column in layout.columns] == list(SEVEN.values())
    assert {column.headline for column in layout.columns} == {"mIoU"}
    assert arrange([semantic_cell("cat", "mine", 0.5)]).columns[0].title == "mine"
    assert not arrange([cell("a", "rwtd", 0.5)]).is_semantic


def test_one_table_for_each_rule_and_figure():
    report = build_report(cells(), "p")
    assert [table.metric.name for table in report.tables] == list(SEMANTIC_METRICS)
    for step, table in enumerate(report.tables):
        entry = table.rows[0].entries[0]
        assert entry.value == pytest.approx(0.3 - 0.01 * step)
        assert entry.interval == pytest.approx((0.295 - 0.01 * step, 0.305 - 0.01 * step))
    first = report.tables[0].rows
    assert first[1].entries[1].word == "failed"
    assert [row.entries[0].best for row in first] == [False, True]
    with pytest.raises(ConfigError, match="metric of this benchmark is 'pIoU'; use one of mIoU, m"):
        build_report(cells(), "p", metrics=["pIoU"])
    with pytest.raises(ConfigError, match="metric of this benchmark is 'bIoU'; use one of mIoU, p"):
        build_report([cell("a", "rwtd", 0.5)], "p", metrics=["bIoU"])


def test_an_oracle_is_marked_and_never_the_best():
    found = [
        *(semantic_cell("cat", ADE, 0.3), semantic_cell("ahs", ADE, 0.2)),
        semantic_cell("told", ADE, 0.9, figures={"conditions": ORACLE}),
    ]
    table = metric_table(arrange(found), SEMANTIC_METRICS["mIoU"])
    assert [row.entries[0].marks for row in table.rows] == ["", "", "◊"]
    assert [row.entries[0].best for row in table.rows] == [True, False, False]
    assert table.footnotes == [
        "◊ was asked only for the classes that are in each image, an oracle."
    ]
    assert r"0.9000$^{\diamond}$" in report_latex(build_report(found, "p"))


def test_what_figures_depend_on_stands_beside_them():
    other = {"conditions": (*PUBLISHED[:4], "plain", *PUBLISHED[5:])}
    found = [*cells(), semantic_cell("own", ADE, 0.1, figures=other)]
    text = report_markdown(build_report(found, "p", metrics=["mIoU"]))
    assert (
        "The same for all cells: miou rule: present; vocabulary: full; vocabulary list: the data "
        f"set's own; synonyms: first; background: none; sliding: {PUBLISHED[6]}; scales: one; "
        "flips: off. What differs stands under Cells."
    ) in text
    assert "told of K" not in text
    of_cells = text.split("## Cells")[1].split("## Figures")[0]
    assert of_cells.count("templates: single") == 3
    assert of_cells.count("templates: plain") == 1
    assert "weights.pth does not exist" in of_cells


def test_csv_has_figures_and_what_they_depend_on():
    text = csv_text(arrange(cells()))
    assert tuple(text.splitlines()[0].split(",")) == SEMANTIC_CSV_HEADER
    assert text.splitlines()[1:] == [
        f"cat,{ADE},0.3000,0.2900,0.2800,0.2700,0.2600,0.2500,4,4,present,full,the data set's "
        f"own,first,single,none,{SEEN}",
        f"cat,{VOC},0.9000,0.8900,0.8800,0.8700,0.8600,0.8500,4,4,present,full,the data set's "
        f"own,first,single,none,{SEEN}",
        f"ahs,{ADE},0.4000,0.3900,0.3800,0.3700,0.3600,0.3500,4,4,present,full,the data set's "
        f"own,first,single,none,{SEEN}",
    ]
    rows = rows_of(csv_full_text(arrange(cells())))
    assert len(rows) == 4
    assert (rows[0]["mIoU_legacy_low"], rows[0]["mIoU_legacy_high"]) == ("0.2850", "0.2950")
    assert (rows[0]["state"], rows[0]["classes"], rows[0]["n_by_status"]) == ("done", "4", "ok:4")
    assert (rows[3]["state"], rows[3]["mIoU"]) == ("failed", "")
    assert rows[3]["note"] == "weights.pth does not exist"


def test_a_set_without_any_label_has_no_figure():
    names = ("mIoU_present", "mIoU")
    found = semantic_cell("cat", ADE, 0.3, figures=dict.fromkeys(names))
    found.summary["ci95"]["mIoU_present"] = None
    table = metric_table(arrange([found]), SEMANTIC_METRICS["mIoU"])
    assert table.rows[0].entries[0].word == "—"


# ---- the figures of others ---------------------------------------------------------------------


def test_published_figures_are_those_of_the_sources():
    tables = load_published(SEMANTIC_PUBLISHED)
    rows = {
        (row.method, row.note): dict(zip(table.datasets, (v[0] for v in row.values), strict=True))
        for table in tables
        for row in table.rows
    }
    five = ("ADE-847", "PC-459", "ADE-150", "PC-59", "VOC-20")
    due = {
        ("CAT-Seg B", "model_base.pth"): (0.12, 0.19, 0.318, 0.575, 0.946),
        ("CAT-Seg L", "model_large.pth"): (0.16, 0.238, 0.379, 0.633, 0.97),
        ("ERR-Seg B", "ConvNeXt-B"): (0.139, 0.205, 0.358, 0.569, 0.954),
        ("ERR-Seg L", "ConvNeXt-L"): (0.169, 0.239, 0.383, 0.607, 0.966),
        ("MAFT+ B with Mask-Adapter", ""): (0.142, 0.179, 0.356, 0.584, 0.951),
        ("MAFT+ L with Mask-Adapter", ""): (0.162, 0.227, 0.382, 0.604, 0.958),
        ("SED B", "ConvNeXt-B"): (0.112, 0.186, 0.318, 0.577, 0.944),
        ("SED L", "ConvNeXt-L"): (0.137, 0.221, 0.353, 0.609, 0.961),
        ("CorrCLIP v2 B", ""): (0.117, 0.168, 0.332, 0.563, 0.936),
        ("CorrCLIP v2 L", ""): (0.149, 0.186, 0.365, 0.568, 0.932),
    }
    for name, values in due.items():
        assert tuple(rows[name][dataset] for dataset in five) == values
    assert rows["CAT-Seg B", "model_base.pth"]["VOC-20b"] == 0.773
    assert rows["CAT-Seg L", "model_large.pth"]["VOC-20b"] == 0.825
    measured = rows["H-CLIP as AHS-Seg B", "80,000 iterations"]
    assert measured == {"ADE-847": 0.1165, "ADE-150": 0.3101}
    assert rows["AHS-Seg B", "claimed"]["ADE-150"] == 0.449
    assert rows["AHS-Seg L", "claimed"]["ADE-847"] is None
    # Each with its source and its conditions; sets are called as our columns are.
    for table in tables:
        assert table.source and len(table.differs) >= 2
        assert set(table.datasets) <= set(SEVEN.values())
        # Of each it is said what is known of the rule of the mean.
        told = ("rule of mIoU", "Rule of mIoU", "Conditions", "whose mean takes")
        assert any(words in text for words in told for text in table.differs)


def test_they_stand_in_a_block_of_their_own():
    report = build_report(cells(), "p")
    for text in (report_markdown(report), report_page(report)):
        own, others = re.split(r"<h2>Figures of others|## Figures of others", text)
        assert "CorrCLIP" not in own and "0.3180" not in own
        assert others.count("Not measured here. Source:") == 7
        assert "SAM3" not in others
    assert "CAT-Seg" not in report_markdown(build_report([cell("a", "rwtd", 0.5)], "p"))

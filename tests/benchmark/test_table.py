"""Figures of cells: order, means, marks, and what may be called the best."""

import pytest
from benchmark.toy_cells import PUBLISHED, cell, published_cells, summary

from detecture.benchmark.layout import Column, arrange, told
from detecture.benchmark.markdown import escape_markdown, report_markdown
from detecture.benchmark.report import build_report
from detecture.benchmark.table import METRICS, csv_full_text, csv_text, metric_table
from detecture.errors import ConfigError

PUBLISHED_CSV = """\
model,dataset,mIoU,pIoU,Dice,ARI,Coverage,n_ok,n_total
sam3_vanilla,caid,0.9006,0.9006,0.9340,0.8169,0.5075,3091,3091
sam3_vanilla,rwtd,0.7363,0.7363,0.7849,0.7481,0.1335,253,253
sam3_vanilla,stld,0.7919,0.7919,0.8385,0.7875,0.0314,200,200
sam3_vanilla,ade20k_detecture,0.3186,0.3186,0.3932,0.3218,0.2936,212,212
grounded_sam3,caid,0.6217,0.6217,0.6752,0.4043,0.1954,3091,3091
grounded_sam3,rwtd,0.8178,0.8178,0.8674,0.7151,0.0177,253,253
grounded_sam3,stld,0.7631,0.7631,0.8075,0.6305,0.0026,200,200
grounded_sam3,ade20k_detecture,0.3433,0.3433,0.4077,0.4820,0.3263,212,212
sa2va,caid,0.7986,0.7986,0.8353,0.7151,0.5379,3091,3091
sa2va,rwtd,0.6966,0.6966,0.7414,0.6861,0.1575,253,253
sa2va,stld,0.7377,0.7377,0.7688,0.7267,0.0778,200,200
sa2va,ade20k_detecture,0.6308,0.6308,0.6889,0.6982,0.1757,212,212
qwen2sam_zs,caid,0.8661,0.8661,0.9023,0.7730,0.4844,3091,3091
qwen2sam_zs,rwtd,0.8977,0.8977,0.9325,0.8462,0.0549,253,253
qwen2sam_zs,stld,0.8781,0.8781,0.9050,0.8511,0.0590,200,200
qwen2sam_zs,ade20k_detecture,0.6946,0.6946,0.7648,0.7202,0.0958,212,212
"""


def table(cells, metric="mIoU"):
    return metric_table(arrange(cells), METRICS[metric])


def entries(cells, metric="mIoU"):
    """label -> entries of the row, the mean last."""
    return {row.label: [*row.entries, row.mean] for row in table(cells, metric).rows}


def markdown_lines(cells, **more):
    return report_markdown(build_report(cells, "toy", **more)).splitlines()


def test_published_suite_as_csv_is_byte_equal():
    assert csv_text(arrange(published_cells())) == PUBLISHED_CSV


@pytest.mark.parametrize(
    ("metric", "means"),
    [("mIoU", (0.6868, 0.6365, 0.7159, 0.8341)), ("ARI", (0.6686, 0.5580, 0.7065, 0.7976))],
)
def test_published_suite_has_the_published_means(metric, means):
    rows = table(published_cells(), metric).rows
    assert [row.label for row in rows] == list(PUBLISHED)
    for row, mean in zip(rows, means, strict=True):
        assert row.mean.value == pytest.approx(mean, abs=1e-4)
        assert row.mean.marks == ""


def test_cells_in_any_order_keep_the_order_of_methods_and_data_sets():
    cells = [cell("b", "stld", 0.5), cell("a", "stld", 0.5), cell("b", "rwtd", 0.5)]
    layout = arrange(cells)
    assert [row.name for row in layout.rows] == ["b", "a"]
    assert [column.dataset for column in layout.columns] == ["stld", "rwtd"]
    assert [line.split(",")[:2] for line in csv_text(layout).splitlines()[1:]] == [
        ["b", "stld"],
        ["a", "stld"],
        ["b", "rwtd"],
    ]


def test_a_missing_cell_is_a_dash_and_flags_the_mean():
    cells = [c for c in published_cells() if (c.method, c.dataset) != ("sa2va", "stld")]
    row = entries(cells)["sa2va"]
    assert row[2].word == "—"
    assert row[2].value is None
    assert row[-1].marks == "†"
    assert row[-1].value == pytest.approx((0.7986 + 0.6966 + 0.6308) / 3)
    lines = markdown_lines(cells)
    assert any(line.startswith("| sa2va ") and "| — " in line for line in lines)
    assert "- † mean over the finished columns only: sa2va 3 of 4." in lines


@pytest.mark.parametrize(
    ("state", "word"), [("missing", "—"), ("partial", "partial"), ("failed", "failed")]
)
def test_figures_of_unfinished_cells_are_not_shown(state, word):
    cells = [cell("a", "rwtd", 0.75, state=state), cell("b", "rwtd", 0.5)]
    entry, mean = entries(cells)["a"]
    assert (entry.value, entry.word, mean.word) == (None, word, "—")
    assert "a,rwtd" not in csv_text(arrange(cells))


def test_an_unchecked_figure_counts_and_is_marked_and_never_best():
    cells = [
        cell("a", "rwtd", 0.9, state="unchecked"),
        cell("b", "rwtd", 0.8),
        cell("c", "rwtd", 0.7),
    ]
    rows = entries(cells)
    assert (rows["a"][0].value, rows["a"][0].marks, rows["a"][0].best) == (0.9, "°", False)
    assert rows["a"][1].value == 0.9
    assert rows["b"][0].best
    assert any("° could not be held against today's" in line for line in markdown_lines(cells))
    assert "a,rwtd,0.9000" in csv_text(arrange(cells))


def test_a_stale_figure_is_shown_as_such_and_counts_for_nothing():
    cells = [
        *(cell("a", "rwtd", 0.9, state="stale"), cell("a", "stld", 0.5)),
        *(cell("b", "rwtd", 0.8), cell("b", "stld", 0.4)),
        cell("c", "rwtd", 0.7),
    ]
    rows = entries(cells)
    assert (rows["a"][0].value, rows["a"][0].word, rows["a"][0].best) == (0.9, "stale", False)
    assert rows["b"][0].best
    assert rows["a"][-1].value == 0.5
    assert (rows["a"][-1].marks, rows["a"][-1].best) == ("†", False)
    assert any("0.9000 (stale)" in line for line in markdown_lines(cells))
    assert "a,rwtd" not in csv_text(arrange(cells))
    assert "\na,rwtd,0.9000," in csv_full_text(arrange(cells))


def test_the_mean_of_an_easy_data_set_alone_is_not_the_best():
    cells = [cell("easy", "rwtd", 0.9)]
    for name, miou in (("a", 0.6), ("b", 0.5)):
        cells += [cell(name, "rwtd", miou), cell(name, "stld", miou)]
    rows = entries(cells)
    assert rows["easy"][0].best
    assert [rows[name][-1].best for name in ("easy", "a", "b")] == [False, True, False]


def test_random_weights_are_never_the_best_and_always_marked():
    cells = [cell("a", "rwtd", 0.99, random_weights=True), cell("b", "rwtd", 0.5)]
    cells.append(cell("c", "rwtd", 0.4))
    rows = entries(cells)
    assert [rows[name][0].best for name in "abc"] == [False, True, False]
    assert [rows[name][1].best for name in "abc"] == [False, True, False]
    lines = markdown_lines(cells)
    assert any(line.startswith("| a (random weights) ") for line in lines)
    assert any("Random weights: a. These figures mean nothing" in line for line in lines)
    # The published header has no room for it, so the name says it there.
    assert "\na (random weights),rwtd,0.9900," in csv_text(arrange(cells))


@pytest.mark.parametrize(
    ("more", "mark", "words"),
    [
        ({"k_access": "per_image"}, "‡", "true number of regions of each image"),
        ({"k_access": "ground_truth_top_k"}, "§", "as many of its regions"),
        ({"k_access": "none", "figures": {"k_knowledge": "per_image"}}, "‡", "true number"),
        ({"k_access": "none", "figures": {"k_knowledge": ["none", "per_image"]}}, "‡", "true"),
        ({"k_access": "none", "figures": {"oracle": True}}, "¶", "true descriptions"),
    ],
)
def test_cells_that_were_told_more_are_marked_and_not_the_best(more, mark, words):
    cells = [cell("a", "ade20k_detecture", 0.99, **more)]
    cells += [cell("b", "ade20k_detecture", 0.5, k_access="none")]
    cells += [cell("c", "ade20k_detecture", 0.4, k_access="none")]
    found = table(cells)
    rows = {row.label: row for row in found.rows}
    assert found.columns == [Column("ade20k_detecture", k_given=False)]
    assert rows["a"].entries[0].marks == mark
    assert [rows[name].entries[0].best for name in "abc"] == [False, True, False]
    assert [rows[name].mean.best for name in "abc"] == [False, True, False]
    assert any(words in note for note in found.footnotes)


def test_nothing_is_best_where_all_look_equal_or_nobody_competes():
    equal = entries([cell("a", "rwtd", 0.50001), cell("b", "rwtd", 0.5)])
    assert not any(entry.best for row in equal.values() for entry in row)
    alone = entries([cell("a", "rwtd", 0.5), cell("b", "rwtd", 0.6, random_weights=True)])
    assert not any(entry.best for row in alone.values() for entry in row)
    shared = entries([cell(n, "rwtd", x) for n, x in zip("abc", (0.6, 0.6, 0.5), strict=True)])
    assert [shared[name][0].best for name in "abc"] == [True, True, False]


def test_of_the_k_error_the_lower_is_better_and_of_coverage_none():
    cells = [
        cell("a", "stld", 0.5, figures={"K_MAE": 0.5, "coverage": 0.5}),
        cell("b", "stld", 0.5, figures={"K_MAE": 1.5, "coverage": 0.1}),
    ]
    assert [row[0].best for row in entries(cells, "K_error").values()] == [True, False]
    assert [row[0].best for row in entries(cells, "coverage").values()] == [False, False]


def test_columns_and_headline_follow_what_is_known_of_k():
    cells = [
        cell("a", "rwtd", 0.5),
        cell("a", "rwtd", 0.4, k_access="none"),
        cell("a", "caid", 0.5),
        cell("a", "ade20k_detecture", 0.5, k_access="regime"),
        cell("a", "mine", 0.5, k_access="none", figures={"k_regime": "pair"}),
        cell("a", "yours", 0.5),
    ]
    columns = arrange(cells).columns
    assert [(column.title, column.headline) for column in columns] == [
        ("rwtd (K given)", "mIoU"),
        ("rwtd (K unknown)", "pIoU"),
        ("caid (K given)", "mIoU"),
        ("ade20k_detecture (K unknown)", "pIoU"),
        ("mine (K unknown)", "pIoU"),
        ("yours (K given)", "mIoU"),
    ]
    text = "\n".join(markdown_lines(cells))
    assert "mIoU where K is given (rwtd, caid, yours)" in text
    assert "pIoU where K is unknown (rwtd, ade20k_detecture, mine)" in text


def test_variants_of_a_method_on_one_data_set_get_rows_of_their_own():
    cells = [
        cell("sam3", "rwtd", 0.5, label="SAM 3", variant="plain"),
        cell("sam3", "rwtd", 0.6, label="SAM 3", variant="inverse"),
        cell("sam3", "caid", 0.7, label="SAM 3", variant="plain"),
        cell("other", "rwtd", 0.5, variant="plain"),
    ]
    layout = arrange(cells)
    assert [row.label for row in layout.rows] == ["SAM 3 (plain)", "SAM 3 (inverse)", "other"]
    assert layout.find_row("sam3 (inverse)").cells[Column("rwtd", True)].summary["mIoU"] == 0.6
    assert layout.find_row("other").name == "other"
    with pytest.raises(ConfigError, match=r"'sam3' has several rows; use one of 'sam3 \(plain\)'"):
        layout.find_row("sam3")
    with pytest.raises(ConfigError, match="'sam4' is not in this benchmark"):
        layout.find_row("sam4")


def test_one_variant_told_more_on_the_same_data_set_is_a_row_of_its_own():
    cells = [
        cell("a", "stld", 0.5, variant="v"),
        cell("a", "stld", 0.6, variant="v", k_access="per_image"),
    ]
    assert [row.name for row in arrange(cells).rows] == ["a (v, regime)", "a (v, per_image)"]
    with pytest.raises(ConfigError, match="two cells are 'a' on 'stld', variant 'v'"):
        arrange([cells[0], cells[0]])


def test_two_methods_with_one_label_can_be_told_apart():
    cells = [cell("a", "stld", 0.5, label="SAM"), cell("b", "stld", 0.6, label="SAM")]
    assert [row.label for row in arrange(cells).rows] == ["SAM: a", "SAM: b"]


def test_full_csv_has_every_cell_and_figures_only_where_there_are_some():
    cells = [
        cell("a", "rwtd", 0.75, variant="v", label="A, the first"),
        cell("b", "ade20k_detecture", state="failed", k_access="none", note='exit\n"3"'),
    ]
    header, first, *second = csv_full_text(arrange(cells)).split("\n", 2)
    assert header == (
        "model,dataset,mIoU,pIoU,Dice,ARI,Coverage,n_ok,n_total,label,variant,k_access,regime,"
        "state,random_weights,headline,K_error,K_accuracy,mIoU_low,mIoU_high,pIoU_low,pIoU_high,"
        "ARI_low,ARI_high,n_by_status,note"
    )
    assert first == (
        'a,rwtd,0.7500,0.7500,0.5000,0.5000,0.0000,4,4,"A, the first",v,regime,pair,done,false,'
        "mIoU,0.2500,0.7500,0.7400,0.7600,0.7400,0.7600,0.7400,0.7600,ok:4,"
    )
    assert second == [
        'b,ade20k_detecture,,,,,,,,b,,none,autonomous,failed,false,pIoU,,,,,,,,,,"exit\n""3"""\n'
    ]


@pytest.mark.parametrize("value", [None, "0.5", True, float("nan"), float("inf"), 10**400, [0.5]])
def test_what_is_no_finite_number_is_no_figure(value):
    found = summary("rwtd", 0.5) | {"mIoU": value, "ci95": {"mIoU": [value, 1.0]}, "n_ok": value}
    cells = [cell("a", "rwtd", 0.5), cell("b", "rwtd", 0.5)]
    cells[0].summary.update(found)
    assert entries(cells)["a"][0].word == "—"
    assert csv_text(arrange(cells)).splitlines()[1].startswith("a,rwtd,,0.5000,")


def test_there_is_no_negative_zero():
    assert "-0.0000" not in csv_text(arrange([cell("a", "rwtd", -0.00001)]))


def test_told_is_what_the_protocol_or_the_records_say_whichever_is_more():
    for access, recorded, expected in (
        ("regime", "none", "regime"),
        ("none", "regime", "regime"),
        ("ground_truth_top_k", "per_image", "ground_truth_top_k"),
        ("none", 7, "none"),
    ):
        found = cell("a", "rwtd", 0.5, k_access=access, figures={"k_knowledge": recorded})
        assert told(found) == expected


def test_markdown_shows_any_text_as_it_is():
    assert escape_markdown("a|b <i> *c* `d`\ne f\\g") == r"a\|b \<i\> \*c\* \`d\` e f\\g"
    assert escape_markdown("[0.1, 0.2] [a](b) [c][d]") == r"[0.1, 0.2] [a\](b) [c\][d]"
    assert escape_markdown("ade20k_detecture _x_") == r"ade20k_detecture \_x\_"
    lines = markdown_lines([cell("a", "x|y", 0.5, label="l|1\n2")], metrics=["mIoU"])
    row = next(line for line in lines if line.startswith("| l"))
    assert row.replace(r"\|", "").count("|") == 4


def test_markdown_has_one_table_per_metric_asked_for_and_values_with_intervals():
    cells = [cell("a", "rwtd", 0.75), cell("b", "rwtd", 0.5)]
    lines = markdown_lines(cells, metrics=["ARI", "mIoU"])
    heads = [line for line in lines if line.startswith("## ")]
    assert [head.split(":")[0] for head in heads[:2]] == ["## ARI", "## mIoU"]
    assert heads[2:] == ["## Cells", "## Figures of others"]
    assert any("| **0.7500** [0.7400, 0.7600] |" in line for line in lines)


def test_a_benchmark_without_cells_is_reported_too():
    lines = markdown_lines([])
    assert "# Benchmark: toy" in lines

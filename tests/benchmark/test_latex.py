"""LaTeX: every text escaped, every row complete, every brace closed."""

import re
import shutil
import subprocess

import pytest
from benchmark.toy_cells import cell, published_cells

from detecture.benchmark.latex import escape_latex, report_latex
from detecture.benchmark.report import build_report

# A character that LaTeX acts on, and no backslash before it.
_BARE = re.compile(r"(?<!\\)[&%$#_{}~^]")


def nasty_cells():
    return [
        cell("m", "ADE20k_Detecture", 0.5, label=r"50% & {x}_y #1 ~a^b \input{z} $"),
        cell("n", "ADE20k_Detecture", 0.4, label="[bracket]", state="stale"),
        cell("o", "ADE20k_Detecture", state="failed", label="o", random_weights=True),
        cell("p", "ADE20k_Detecture", 0.3, k_access="per_image"),
    ]


def latex(cells, protocol="published", **more):
    return report_latex(build_report(cells, protocol, **more))


def test_a_table_of_the_published_suite():
    lines = latex(published_cells(), metrics=["mIoU"]).splitlines()
    assert lines[0] == "% mIoU: mean IoU of the matched regions; protocol published"
    assert lines[1] == r"\begin{tabular}{lccccc}"
    assert lines[2] == r"\toprule"
    assert r"ade20k\_detecture (K unknown) & Mean \\" in lines[3]
    assert lines[5] == (
        r"sam3\_vanilla & \textbf{0.9006} & 0.7363 & 0.7919 & 0.3186$^{\ddagger}$ & 0.6868 \\"
    )
    assert lines[9:11] == [r"\bottomrule", r"\end{tabular}"]


def test_special_characters_become_commands():
    assert escape_latex("ADE20k_Detecture") == r"ADE20k\_Detecture"
    assert escape_latex("a & b % c") == r"a \& b \% c"
    assert escape_latex("\\{}$#~^") == (
        r"\textbackslash{}\{\}\$\#\textasciitilde{}\textasciicircum{}"
    )
    assert escape_latex("a\n\nb\tc") == "a b c"


def test_no_text_breaks_out_of_its_place():
    text = latex(nasty_cells(), protocol="p\n\\end{document} 100%")
    for line in text.splitlines():
        if line.startswith("%"):
            continue
        assert line.count("{") - line.count(r"\{") == line.count("}") - line.count(r"\}")
        if line.endswith(r"\\"):
            assert len(re.findall(r"(?<!\\)&", line)) == 2
        without = re.sub(r"\\[a-z]+\{\}|\$\^\{\\[a-zA-Z]+\}\$|\\textbf\{[\d.]+\}", "", line)
        if not line.startswith((r"\begin", r"\end", r"\par")):
            assert {m.group() for m in _BARE.finditer(without)} <= {"&", "{", "}"}
            assert without.count("{") <= 2  # {} before a bracket, \{x\} of the label
    assert "input{z}" not in text
    assert "\n[bracket]" not in text
    assert r"\end{document}" not in "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith("%")
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_it_compiles(tmp_path):
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{latex(nasty_cells())}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]

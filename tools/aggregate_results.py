#!/usr/bin/env python
"""Tables, comparisons and a page of images of a benchmark's results.

  python tools/aggregate_results.py --root output/benchmark
  python tools/aggregate_results.py --root output/benchmark --metric mIoU ARI --latex tables.tex
  python tools/aggregate_results.py --root output/benchmark --csv summary.csv --csv-full all.csv \\
      --html report.html --against texture_clusters

Runs nothing: it reads what the cells have left in --root. Of several variants of a method the best
is shown, by name; --csv-full has them all. Cells whose config, weights, data or code have changed
are shown as stale; where that cannot be checked, on another machine, their note says so. Markdown
goes to the standard output unless --markdown names a file. Exit status: 0 done, 2 wrong input (no
benchmark there, a method that is not in it, a file that cannot be written ..).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from detecture.benchmark.cells import best_variants
from detecture.benchmark.gallery import draw_galleries
from detecture.benchmark.latex import report_latex
from detecture.benchmark.layout import arrange
from detecture.benchmark.manifest import as_of_today
from detecture.benchmark.markdown import report_markdown
from detecture.benchmark.page import report_page
from detecture.benchmark.read_cells import (
    find_index,
    read_cells,
    read_protocol_name,
    read_request,
)
from detecture.benchmark.report import build_report
from detecture.benchmark.table import METRICS, SEMANTIC_METRICS, csv_full_text, csv_text
from detecture.checkpoint.atomic import utf8
from detecture.checkpoint.ownership import HTML_COMMENT, LATEX_COMMENT, require_own, write_own
from detecture.config import make_config
from detecture.data import register_dataset_json
from detecture.jobs.command_line import (
    add_overwrite_option,
    add_renamed_option,
    command_line,
)

REMEDY = "name another file, or give --overwrite"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("output/benchmark"),
        metavar="DIR",
        help="folder of the benchmark (output/benchmark)",
    )
    parser.add_argument("--protocol", help="where the folder has several")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="finished cells, published header")
    parser.add_argument("--csv-full", type=Path, metavar="FILE", help="all cells, all columns")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="booktabs, a table per metric")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="(standard output)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="one page, with images")
    add_overwrite_option(parser)
    parser.add_argument(
        "--against", metavar="METHOD", help="compare all methods with this one, image by image"
    )
    parser.add_argument(
        "--metric", nargs="+", choices=tuple({**METRICS, **SEMANTIC_METRICS}), help="(all)"
    )
    add_renamed_option(
        parser,
        "--images",
        before="--pictures",
        type=_count,
        default=12,
        metavar="N",
        help="of each data set in --html (12)",
    )
    add_renamed_option(
        parser,
        "--images-by",
        before="--pictures-by",
        metavar="METHOD",
        help="whose best, median and worst images --html shows (those of all methods in turn)",
    )
    parser.add_argument(
        "--dataset-json",
        action="append",
        default=[],
        metavar="PATH",
        help="metadata file of your own data set among the results; may be repeated",
    )
    return parser


@command_line("aggregate_results")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    named = (args.csv, args.csv_full, args.latex, args.markdown, args.html)
    require_own([path for path in named if path], args.overwrite, REMEDY, args.root)
    cfg = make_config(None, [])
    for path in args.dataset_json:
        register_dataset_json(path)
    index = find_index(args.root, args.protocol)
    cells = as_of_today(args.root, read_request(index), read_cells(index))
    report = build_report(
        best_variants(cells),
        read_protocol_name(index),
        metrics=args.metric,
        against=args.against,
        bootstrap_samples=cfg.TEST.BOOTSTRAP_SAMPLES,
    )
    layout = report.layout
    texts = [(args.csv, csv_text(layout), "")]
    texts += [(args.csv_full, csv_full_text(arrange(cells)), "")]
    texts += [(args.latex, report_latex(report), LATEX_COMMENT)]
    texts += [(args.markdown, report_markdown(report), HTML_COMMENT)]
    if args.html:
        galleries = draw_galleries(layout, args.images, cfg.INPUT.MAX_PIXELS, args.images_by)
        texts.append((args.html, report_page(report, galleries), HTML_COMMENT))
    for path, text, comment in texts:
        if path:
            write_own(
                path,
                utf8(text),
                overwrite=args.overwrite,
                remedy=REMEDY,
                comment=comment,
                notes=args.root,  # a CSV file cannot hold a mark
            )
    if not args.markdown:
        print(report_markdown(report), end="")
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


if __name__ == "__main__":
    sys.exit(main())

"""Check data sets: every file is read, every bad record is named.

    python tools/check_dataset.py rwtd stld
    python tools/check_dataset.py --semantic-root mine
    python tools/check_dataset.py --dataset-json mine/metadata.json --json > report.json

Exit status: 0 fine (warnings allowed), 1 at least one error in the data, 2 unusable arguments, such
as an unknown name or a missing folder.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detecture.config import add_detecture_config
from detecture.config.sections.images import require_bands
from detecture.d2 import MetadataCatalog, get_cfg
from detecture.data import register_semantic_folder, require_registered
from detecture.data.datasets.bsds500 import has_segmentations
from detecture.data.datasets.semantic import is_semantic
from detecture.data.validate import DatasetReport, Progress, check_dataset, format_report
from detecture.data.validate_segmentations import SegmentationsReport, check_segmentations
from detecture.data.validate_semantic import SemanticReport, check_semantic
from detecture.errors import EXIT_FAILED, DatasetError
from detecture.jobs.command_line import command_line

AnyReport = DatasetReport | SemanticReport | SegmentationsReport


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="registered data sets")
    parser.add_argument("--dataset-json", metavar="PATH", help="metadata file of your own data set")
    parser.add_argument(
        "--semantic-root",
        metavar="FOLDER",
        help="your own set of semantic segmentation (images/, labels/, classes.json)",
    )
    parser.add_argument(
        "--root", metavar="DIR", help="its folder (default: the one that holds the metadata)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the whole report as JSON, every finding in it"
    )
    parser.add_argument(
        "--workers", type=int, default=min(8, os.cpu_count() or 1), help="threads that read files"
    )
    parser.add_argument(
        "--max-pixels", type=int, metavar="N", help="larger files are errors (INPUT.MAX_PIXELS)"
    )
    parser.add_argument(
        "--bands",
        type=int,
        nargs="+",
        default=(),
        metavar="N",
        help="which bands of an image are red, green and blue, from 1 on (INPUT.BANDS)",
    )
    return parser


@command_line("check_dataset")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.names and not args.dataset_json and not args.semantic_root:
        parser.error("name a data set, or give --dataset-json or --semantic-root")
    if args.root and not args.dataset_json:
        parser.error("--root goes with --dataset-json")
    require_bands(args.bands)
    for name in args.names:
        require_registered(name)
    semantic = [name for name in args.names if is_semantic(name)]
    if args.semantic_root:
        semantic += register_semantic_folder(args.semantic_root).values()
    segmentations = filter(has_segmentations, args.names)
    reports: list[AnyReport] = [
        *(check_dataset(**source, **_reading(args, source["name"])) for source in _sources(args)),
        *(check_semantic(name, **_reading(args, name)) for name in semantic),
        *(check_segmentations(name, **_reading(args, name)) for name in segmentations),
    ]
    if args.json:
        print(json.dumps({"datasets": [report.to_dict() for report in reports]}, indent=2))
    else:
        print("\n\n".join(map(_as_text, reports)))
    return 0 if all(report.ok for report in reports) else EXIT_FAILED


def _sources(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Arguments of `check_dataset` that say what to check."""
    sources = []
    for name in args.names:
        if is_semantic(name) or has_segmentations(name):
            continue
        metadata = MetadataCatalog.get(name)
        if metadata.get("json_file") is None:
            raise DatasetError(f"data set {name!r} is made on the fly: it has no files to check")
        published = (metadata.get("published_images"), metadata.get("published_textures"))
        sources.append(
            {
                "name": name,
                "json_file": metadata.json_file,
                "root": metadata.root,
                "published": published,
            }
        )
    if args.dataset_json:
        root = args.root or Path(args.dataset_json).parent
        sources.append(
            {"name": args.dataset_json, "json_file": args.dataset_json, "root": str(root)}
        )
    return sources


def _reading(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """What every kind of check is told about how to read the files."""
    return {
        "max_pixels": _max_pixels(args),
        "bands": args.bands,
        "workers": args.workers,
        "progress": _bar(name),
    }


def _bar(name: str) -> Progress:
    def bar(records: Iterable[Any], total: int) -> Iterable[Any]:
        return tqdm(records, total=total, desc=name, unit="image", file=sys.stderr)

    return bar


def _max_pixels(args: argparse.Namespace) -> int:
    if args.max_pixels is not None:
        return int(args.max_pixels)
    cfg = get_cfg()
    add_detecture_config(cfg)
    return int(cfg.INPUT.MAX_PIXELS)


def _as_text(report: AnyReport) -> str:
    return format_report(report) if isinstance(report, DatasetReport) else report.format()


if __name__ == "__main__":
    sys.exit(main())

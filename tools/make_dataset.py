"""Write procedural texture images with masks and sentences, in the published layout.

    python tools/make_dataset.py --output made --count 1000 --seed 7 --workers 4
    python tools/make_dataset.py --output made_test --split synthetic_test
    python tools/make_dataset.py --contact-sheet families.png --by family

The output is images/, textures_mask/, metadata.json (paths relative to the folder) and the
settings. A run that was killed goes on where it was when the same command is given again, and ends
with the same files. `tools/check_dataset.py --dataset-json DIR/metadata.json` checks them.

Exit status: 0 fine, 1 the files could not be written, 2 unusable arguments, such as a folder that
was made with other settings.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from detecture.checkpoint.ownership import require_folder, require_own, write_own
from detecture.data.datasets.synthetic import SPLITS
from detecture.data.formats.published_layout import IMAGE_FORMATS
from detecture.data.synthetic import DEFAULT_SIZE, FIRST_EDITION, LATEST_EDITION
from detecture.data.synthetic.contact_sheet import SHEETS, contact_sheet
from detecture.data.synthetic.export import ExportSettings, export_dataset
from detecture.errors import EXIT_FAILED, ConfigError
from detecture.jobs.command_line import add_overwrite_option, command_line


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", metavar="DIR", help="folder to write to")
    parser.add_argument("--count", type=int, metavar="N", help="number of images")
    parser.add_argument(
        "--split", choices=list(SPLITS), help="a registered split: its seed, and at most its count"
    )
    parser.add_argument(
        "--seed", type=int, help="seed of the images (default: 1000; the splits have 1, 2, 3)"
    )
    parser.add_argument(
        "--edition",
        type=int,
        choices=range(FIRST_EDITION, LATEST_EDITION + 1),
        help=f"of the generator, see docs/data.md; splits have theirs (default: {LATEST_EDITION})",
    )
    parser.add_argument(
        "--size", type=int, default=DEFAULT_SIZE, help="side in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--format",
        choices=IMAGE_FORMATS,
        default="png",
        help="of the images; masks are png (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)"
    )
    parser.add_argument(
        "--contact-sheet", metavar="FILE", help="write an overview image instead of a data set"
    )
    add_overwrite_option(parser)
    parser.add_argument(
        "--by", choices=SHEETS, default="family", help="what the overview shows (%(default)s)"
    )
    return parser


@command_line("make_dataset")
def main(argv: Sequence[str] | None = None) -> int:
    """Write the data set or the overview; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if bool(args.output) == bool(args.contact_sheet):
        parser.error("give --output, or --contact-sheet")
    if args.output and args.split and args.seed is not None:
        parser.error("--split has a seed of its own; leave --seed out")
    if args.output and args.split and args.edition is not None:
        parser.error("--split has an edition of its own; leave --edition out")
    args.edition = args.edition or LATEST_EDITION
    if args.output and not args.split and args.count is None:
        parser.error("--output needs --count or --split")
    if args.output:
        require_folder(Path(args.output).parent, "choose another --output")
    try:
        if args.contact_sheet:
            _write_sheet(args)
            return 0
        print(export_dataset(Path(args.output), _settings(args), args.workers, _bar))
    except (OSError, ValueError) as error:  # ValueError: Pillow does not know the extension
        print(f"error: {args.output or args.contact_sheet}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _write_sheet(args: argparse.Namespace) -> None:
    path, remedy = Path(args.contact_sheet), "choose another --contact-sheet, or give --overwrite"
    require_own([path], args.overwrite, remedy)
    seed, content = 0 if args.seed is None else args.seed, io.BytesIO()
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format is None:
        raise ConfigError(
            f"--contact-sheet {path}: unknown file extension {path.suffix or '(none)'}; use .png"
        )
    contact_sheet(args.by, seed, edition=args.edition).save(content, file_format)
    write_own(path, content.getvalue(), overwrite=args.overwrite, remedy=remedy)
    print(path)


def _settings(args: argparse.Namespace) -> ExportSettings:
    if args.split:
        records = SPLITS[args.split]
        count = len(records) if args.count is None else min(args.count, len(records))
        return ExportSettings(count, records.seed, args.size, args.format, records.edition)
    seed = 1000 if args.seed is None else args.seed
    return ExportSettings(args.count, seed, args.size, args.format, args.edition)


def _bar(items: Iterable[Any], total: int, done: int) -> Iterable[Any]:
    return tqdm(items, total=total, initial=done, unit="image", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

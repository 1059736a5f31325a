#!/usr/bin/env python
"""Look at data and predictions: one drawing for each image, and a contact sheet of all.

  python tools/visualize_data.py --source annotation --dataset samples --output output/drawn
  python tools/visualize_data.py --source annotation --dataset-json mine/metadata.json --sheet a.png
  python tools/visualize_data.py --source loader --split train --dataset rwtd --output output/drawn
  python tools/visualize_data.py --predictions output/inference/rwtd --output output/drawn --worst 9

annotation: image | masks, with their descriptions. Where masks overlap the later one is seen.
loader: what a model gets, after stretch and crop (train), or as it is (test, without the truth).
predictions: image | ground truth | prediction of a finished evaluation; predicted regions have
the colours of the true ones that they were matched with, IoU and words stand below.
Keys and values at the end override the config, such as INPUT.TRAIN_SIZE 512.
Exit status: 0 done, 1 some images could not be drawn, 2 wrong input.
"""

import argparse
import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from detecture.checkpoint.ownership import require_folder, require_own, write_own
from detecture.config import make_config
from detecture.d2 import CfgNode, TrainingSampler
from detecture.data import (
    build_test_loader,
    build_train_loader,
    load_registered,
    register_dataset_json,
)
from detecture.data.ground_truth import load_image_and_truth
from detecture.data.image_io import read_label_map
from detecture.errors import (
    EXIT_FAILED,
    DatasetError,
    ImageError,
    OutputError,
    counted,
    one_line,
)
from detecture.evaluation.record_check import record_problem
from detecture.evaluation.recorded import label_map_path
from detecture.evaluation.records import read_records
from detecture.jobs.command_line import OverridesParser, add_overwrite_option, command_line
from detecture.untrusted import read_own_json
from detecture.visualize import (
    Drawing,
    annotation_drawing,
    contact_sheet,
    prediction_drawing,
    sample_drawing,
)

REMEDY = "choose another --output or --sheet, or give --overwrite"
SHEET_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


@dataclass(frozen=True)
class DrawingJob:
    """A drawing that is still to be made.

    Attributes:
        image_id: of the image.
        path: of the drawing, in the output folder.
        draw: makes it.
    """

    image_id: str
    path: Path
    draw: Callable[[], Drawing]


@command_line("visualize_data")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = _parse(argv)
    if args.sheet:
        require_own([args.sheet], args.overwrite, REMEDY)
    for folder in (args.output, args.sheet and args.sheet.parent):
        if folder:
            require_folder(folder, REMEDY)
    cfg = make_config(args.config_file, args.overrides)
    names = list(args.dataset)
    if args.dataset_json:
        names.append(register_dataset_json(args.dataset_json))
    if args.predictions:
        jobs, total = prediction_jobs(args, cfg)
    elif args.source == "annotation":
        jobs, total = annotation_jobs(names, cfg)
    else:
        jobs, total = loader_jobs(names, args.split, cfg)
    return _draw_all(args, jobs, total)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--source", choices=("annotation", "loader"), help="look at data")
    what.add_argument(
        "--predictions", type=Path, metavar="DIR", help="look at OUTPUT_DIR/inference/<data set>"
    )
    parser.add_argument(
        "--dataset", action="append", default=[], metavar="NAME", help="registered; may be repeated"
    )
    parser.add_argument("--dataset-json", metavar="PATH", help="metadata file of your own data set")
    parser.add_argument("--split", choices=("train", "test"), help="which loader (train)")
    parser.add_argument("--sort", choices=("pIoU", "mIoU", "ARI"), default="pIoU", help="(pIoU)")
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument("--worst", type=_positive, metavar="N", help="only so many predictions")
    ends.add_argument("--best", type=_positive, metavar="N", help="the same, best first")
    parser.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most so many (100; 0: all)"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="a PNG for each image")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="one image with all of them")
    add_overwrite_option(parser)
    parser.add_argument("--columns", type=_positive, metavar="C", help="of the sheet")
    parser.add_argument("--config-file", metavar="YAML", help="for the keys INPUT.* and TEST.*")
    parser.add_argument("overrides", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args(argv)
    if args.source and not (args.dataset or args.dataset_json):
        parser.error("--source needs --dataset or --dataset-json")
    if args.predictions and args.dataset:
        parser.error("--predictions knows its data set; leave out --dataset")
    if args.split and args.source != "loader":
        parser.error("--split goes with --source loader")
    if (args.worst or args.best) and not args.predictions:
        parser.error("--worst and --best go with --predictions")
    if not (args.output or args.sheet):
        parser.error("give --output DIR, --sheet FILE or both")
    if args.sheet and args.sheet.suffix.lower() not in SHEET_FORMATS:
        parser.error(f"--sheet {args.sheet}: its name must end in {', '.join(SHEET_FORMATS)}")
    if args.limit < 0:
        parser.error("--limit must not be negative")
    return args


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def annotation_jobs(names: list[str], cfg: CfgNode) -> tuple[Iterator[DrawingJob], int]:
    """Every image of data sets with its true regions, in file order; and how many."""
    parts = [(name, load_registered(name)) for name in names]
    jobs = (
        DrawingJob(
            record["image_id"],
            _path(record["image_id"], name if len(names) > 1 else ""),
            partial(draw_annotation, record, cfg.INPUT.MAX_PIXELS, cfg.INPUT.BANDS),
        )
        for name, records in parts
        for record in records
    )
    return jobs, sum(len(records) for _, records in parts)


def draw_annotation(record: dict[str, Any], max_pixels: int, bands: Sequence[int] = ()) -> Drawing:
    """Image and true regions of a dataset dict.

    Raises:
        ImageError, DatasetError: a file is missing or unreadable.
    """
    image, truth = load_image_and_truth(record, max_pixels, bands)
    return annotation_drawing(
        record["image_id"], image, truth.masks, truth.index_map, truth.descriptions
    )


def loader_jobs(
    names: list[str], split: str | None, cfg: CfgNode
) -> tuple[Iterator[DrawingJob], int]:
    """Everything that the test loaders yield, or one pass of the training loader; and how many."""
    total = sum(len(load_registered(name)) for name in names)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 0  # warnings from a worker process would not be counted here
    if split == "test":
        loaders = [(name, build_test_loader(cfg, name)) for name in names]
        jobs = (
            DrawingJob(
                mapped["image_id"],
                _path(mapped["image_id"], name if len(names) > 1 else ""),
                partial(draw_mapped, mapped),
            )
            for name, loader in loaders
            for (mapped,) in loader
        )
        return jobs, total
    cfg.DATASETS.TRAIN = tuple(names)
    seed = None
    if cfg.SEED >= 0:
        seed = cfg.SEED
        torch.manual_seed(seed)  # for the crops
    sampler = TrainingSampler(total, seed=seed)
    loader = build_train_loader(cfg, sampler=sampler, total_batch_size=1)
    jobs = (
        # Numbered, since the same image can come again with another crop.
        DrawingJob(
            mapped["image_id"], _path(mapped["image_id"], number=i), partial(draw_mapped, mapped)
        )
        for i, mapped in enumerate(islice(chain.from_iterable(loader), total))
    )
    return jobs, total


def draw_mapped(mapped: dict[str, Any]) -> Drawing:
    """What a model gets.

    Raises:
        ImageError: the mapper could not read it.
    """
    if "image" not in mapped:
        raise ImageError(f"{mapped['status']}: {mapped['error']}")
    return sample_drawing(mapped)


def prediction_jobs(args: argparse.Namespace, cfg: CfgNode) -> tuple[Iterator[DrawingJob], int]:
    """The records of an evaluation, in the order asked for; and how many.

    Raises:
        DatasetError: the folder is not one of an evaluation, or its data set is unknown.
    """
    folder: Path = args.predictions
    if not (folder / "records.jsonl").is_file():
        inside = [str(path.parent) for path in sorted(folder.glob("**/records.jsonl"))]
        meant = f"; did you mean {' or '.join(inside[:3])}?" if inside else ""
        raise DatasetError(
            f"{folder / 'records.jsonl'}: no such file; give the folder of an evaluation, "
            f"OUTPUT_DIR/inference/<data set>{meant}"
        )
    records = read_records(folder, partial(record_problem, required=(args.sort, "k_pred")))
    records.sort(key=lambda record: record[args.sort], reverse=args.best is not None)
    records = records[: args.worst or args.best]
    wanted = {record["image_id"] for record in records}
    dataset = load_registered(_dataset_of(folder))
    sources = {source["image_id"]: source for source in dataset if source["image_id"] in wanted}
    jobs = (
        DrawingJob(
            record["image_id"],
            _path(record["image_id"]),
            partial(
                draw_prediction,
                record,
                sources.get(record["image_id"]),
                folder,
                cfg.INPUT.MAX_PIXELS,
                cfg.INPUT.BANDS,
            ),
        )
        for record in records
    )
    return jobs, len(records)


def _dataset_of(folder: Path) -> str:
    try:
        summary = read_own_json(folder / "summary.json")
        name = summary["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        # The summary is written last: the evaluation is unfinished, or the file is damaged.
        return folder.resolve().name
    return name if isinstance(name, str) else folder.resolve().name


def draw_prediction(
    record: dict[str, Any],
    source: dict[str, Any] | None,
    folder: Path,
    max_pixels: int,
    bands: Sequence[int] = (),
) -> Drawing:
    """Image, ground truth and prediction of one record of an evaluation.

    Args:
        record: of `records.jsonl`.
        source: the image's dataset dict; None: the data set no longer has it.
        folder: of the evaluation.
        max_pixels: larger files are refused.
        bands: of the image, see `detecture.data.image_io.read_image`.

    Raises:
        ImageError, DatasetError: a file is missing or does not go with the others.
    """
    if source is None:
        raise DatasetError("the data set has no such image; evaluate anew")
    image, truth = load_image_and_truth(source, max_pixels, bands)
    path = label_map_path(folder, record["image_id"])
    prediction: np.ndarray | str
    if "assignment" not in record:  # the method failed; the map is from an earlier run
        prediction = f"{record['status']}: {record.get('error', '')}"
    elif not path.is_file():
        prediction = "no label map is there (TEST.SAVE_LABEL_MAPS)"
    else:
        prediction = read_label_map(path, max_pixels)
        if prediction.shape != image.shape[:2] or prediction.max(initial=0) > record["k_pred"]:
            raise ImageError(f"{path}: does not go with its record; evaluate anew")
    return prediction_drawing(record, image, truth.index_map, truth.descriptions, prediction)


def _path(image_id: str, dataset: str = "", number: int | None = None) -> Path:
    """Where a drawing goes in the output folder; ids are made safe as for label maps."""
    name = label_map_path(Path(), image_id).name
    return Path(quote(dataset, safe=" "), name if number is None else f"{number:05d}_{name}")


class _LeftOut(logging.Handler):
    """Shows and collects what the training mapper says about records that it leaves out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one message."""
        text = record.getMessage()
        if text not in self.messages:
            self.messages.add(text)
            tqdm.write(text, file=sys.stderr)


def _draw_all(args: argparse.Namespace, jobs: Iterator[DrawingJob], total: int) -> int:
    count = min(total, args.limit or total)
    left_out = _LeftOut()
    mapper_logger = logging.getLogger("detecture.data.mapper")
    mapper_logger.addHandler(left_out)
    tiles: list[Image.Image] = []
    drawn = failed = 0
    try:
        for job in tqdm(
            islice(jobs, count), total=count, desc="drawing", unit="image", disable=None
        ):
            try:
                if args.output:  # checked before drawing: a refusal later would waste the work
                    require_own([args.output / job.path], args.overwrite, REMEDY)
                drawing = job.draw()
                if args.output:
                    _save(drawing.render(), args.output / job.path, "PNG", args.overwrite)
                if args.sheet:
                    tiles.append(drawing.render_tile())
                drawn += 1
            except (DatasetError, ImageError, OutputError) as error:
                failed += 1
                tqdm.write(one_line(f"{job.image_id}: not drawn: {error}"), file=sys.stderr)
    except DatasetError as error:  # the training loader finds no usable record at all
        failed += 1
        print(f"visualize_data: {error}", file=sys.stderr)
    finally:
        mapper_logger.removeHandler(left_out)
    failed += len(left_out.messages)
    if tiles:
        sheet = contact_sheet(tiles, args.columns)
        _save(sheet, args.sheet, SHEET_FORMATS[args.sheet.suffix.lower()], args.overwrite)
    places = " and ".join(str(place) for place in (args.output, args.sheet) if place)
    rest = f" of {total:,} (--limit 0: all)" if count < total else ""
    print(one_line(f"{counted(drawn, 'drawing')}{rest} in {places}, {failed} failed"))
    return EXIT_FAILED if failed else 0


def _save(image: Image.Image, path: Path, file_format: str, overwrite: bool) -> None:
    """Write an image, whatever its name says: an id may end in anything.

    Raises:
        OutputError: it cannot be written there.
    """
    content = io.BytesIO()
    try:
        image.save(content, file_format, quality=92)  # PNG knows no quality and takes no notice
    except (OSError, ValueError) as error:  # such as more pixels than a JPEG may have
        raise OutputError(
            f"{path}: cannot be written ({error}); draw fewer images, or {REMEDY}"
        ) from error
    write_own(path, content.getvalue(), overwrite=overwrite, remedy=REMEDY)


if __name__ == "__main__":
    sys.exit(main())

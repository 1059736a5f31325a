#!/usr/bin/env python
"""Draw what an evaluation predicted: picture, ground truth and prediction side by side.

  python tools/draw_predictions.py output/inference/rwtd --output output/drawn
  python tools/draw_predictions.py output/inference/rwtd --output output/drawn --worst 10

The folder is one that `tools/train_net.py --eval-only` has written (TEST.SAVE_LABEL_MAPS True).
Exit status: 0 done, 1 some pictures could not be drawn, 2 wrong input.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from detecture.data import load_ground_truth, load_registered, read_image, register_dataset_json
from detecture.errors import EXIT_FAILED, EXIT_USAGE, DatasetError, DetectureError
from detecture.evaluation.evaluator import label_map_path
from detecture.evaluation.records import read_records
from detecture.visualize import draw_overlay, side_by_side

_MAX_PIXELS = 100_000_000


def draw(record: dict[str, Any], source: dict[str, Any], folder: Path) -> Image.Image:
    """One sample: (picture | ground truth | prediction), with captions."""
    image = read_image(source["file_name"], _MAX_PIXELS)
    truth = load_ground_truth(source, _MAX_PIXELS)
    panels = [image, draw_overlay(image, truth.index_map)]
    path = label_map_path(folder, record["image_id"])
    if path.is_file():
        label_map = np.asarray(Image.open(path)).astype(np.int32)
        panels.append(draw_overlay(image, _in_colors_of_truth(label_map, record)))
    caption = (
        f"{record['image_id']}: {record['status']}, K {record['k_pred']} of {record['k_gt']}, "
        f"mIoU {record['mIoU']:.3f}, panoptic {record['pIoU']:.3f}, ARI {record['ARI']:.3f}"
    )
    return side_by_side(panels, caption)


def _in_colors_of_truth(label_map: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """Renumber predicted textures as the true ones that they were matched with."""
    number = {predicted + 1: true + 1 for predicted, true in record["assignment"]}
    spare = record["k_gt"]
    for label in range(1, record["k_pred"] + 1):
        if label not in number:
            spare += 1
            number[label] = spare
    table = np.zeros(record["k_pred"] + 1, dtype=np.int32)
    for label, new in number.items():
        table[label] = new
    return table[label_map]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="OUTPUT_DIR/inference/<data set>")
    parser.add_argument("--output", type=Path, required=True, help="folder for the drawings")
    parser.add_argument("--worst", type=int, help="only so many, those of lowest panoptic IoU")
    parser.add_argument("--dataset-json", help="as it was given to the evaluation")
    args = parser.parse_args(argv)
    try:
        return _draw_all(args)
    except DetectureError as error:
        print(f"draw_predictions: {error}", file=sys.stderr)
        return EXIT_USAGE


def _draw_all(args: argparse.Namespace) -> int:
    summary_file = args.folder / "summary.json"
    if not summary_file.is_file():
        raise DatasetError(
            f"{summary_file}: no such file; give the folder of a finished evaluation, "
            "OUTPUT_DIR/inference/<data set>"
        )
    name = json.loads(summary_file.read_text(encoding="utf-8"))["dataset"]
    if args.dataset_json:
        register_dataset_json(args.dataset_json)
    dataset = {source["image_id"]: source for source in load_registered(name)}
    records = [r for r in read_records(args.folder) if r["image_id"] in dataset]
    if args.worst is not None:
        records = sorted(records, key=lambda r: r["pIoU"])[: args.worst]
    args.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for record in tqdm(records, desc="drawing", unit="picture", disable=None):
        target = label_map_path(args.output, record["image_id"]).name
        try:
            drawing = draw(record, dataset[record["image_id"]], args.folder)
            drawing.save(args.output / target)
        except (DetectureError, OSError) as error:
            failed += 1
            print(f"{record['image_id']}: not drawn: {error}", file=sys.stderr)
    print(f"{len(records) - failed} drawings in {args.output}, {failed} failed")
    return EXIT_FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())

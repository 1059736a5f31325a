#!/usr/bin/env python
"""Segment your own images: an overlay with a legend, a label map and JSON for each.

  python tools/demo.py --input datasets/samples/photos --output output/demo
  python tools/demo.py --input a.jpg 'holiday/*.png' --count 2 --output output/demo
  python tools/demo.py --config-file my.yaml --input a.jpg --output output/demo

For `a.jpg`: `a_overlay.jpg`, `a_labels.png` (palette PNG, the values are the labels) and `a.json`
(a description, area, box and COCO RLE mask for each region).
(Beyond 255 regions the label map is a 16-bit grey PNG.)
Exit status: 0 done, 1 some images could not be read or written, 2 wrong input.
"""

import argparse
import glob
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from detecture import TexturePredictor
from detecture.errors import EXIT_FAILED, ConfigError, DetectureError
from detecture.jobs.command_line import command_line

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


def find_images(inputs: list[str]) -> list[Path]:
    """Files of a list of files, folders and glob patterns, each once, in the order given.

    Raises:
        ConfigError: one of them names nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            here = [p for p in sorted(path.iterdir()) if p.suffix.lower() in EXTENSIONS]
        elif path.exists():
            here = [path]
        else:
            here = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
            here = [p for p in here if p.is_file()]
        if not here:
            endings = ", ".join(sorted(EXTENSIONS))
            raise ConfigError(f"--input {text}: no such file, or no image in it ({endings})")
        found.update(dict.fromkeys(here))
    return list(found)


def stems(images: list[Path]) -> Iterator[str]:
    """A beginning of file names for each image; equal names get a number, so none is lost.

    Names that differ in case alone count as equal: some disks do not tell them apart.
    """
    taken: set[str] = set()
    for path in images:
        candidates = (f"{path.stem}__{number}" for number in itertools.count(2))
        stem = next(s for s in itertools.chain([path.stem], candidates) if s.lower() not in taken)
        taken.add(stem.lower())
        yield stem


@command_line("demo")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", help="yaml file; without one, the default method")
    parser.add_argument("--input", nargs="+", required=True, help="files, folders, glob patterns")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument("--count", type=int, help="number of regions, if you know it")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="at the end: config overrides, KEY VALUE ..."
    )
    args = parser.parse_args(argv)
    overrides = [word for word in args.opts if word != "--"]
    try:
        if args.output.exists() and not args.output.is_dir():
            raise ConfigError(f"--output {args.output}: is a file; give the name of a folder")
        images = find_images(args.input)
        predictor = TexturePredictor.from_config(args.config_file, overrides)
        failed = segment(predictor, images, args.output, args.count)
    except OSError as error:
        print(f"demo: {args.output} cannot be written: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"{len(images) - failed} of {len(images)} images segmented, in {args.output}")
    return EXIT_FAILED if failed else 0


def segment(
    predictor: TexturePredictor, images: list[Path], output: Path, count: int | None
) -> int:
    """Segment and save each image; returns how many could not be."""
    if count is not None and count < 1:
        raise ConfigError(f"--count is the number of regions, 1 or more, got {count}")
    failed = 0
    bar = tqdm(images, desc="segmenting", unit="image", disable=None)
    for path, stem in zip(bar, list(stems(images)), strict=True):
        try:
            result = predictor(path, count=count)
        except DetectureError as error:
            failed += 1
            tqdm.write(f"not segmented: {error}", file=sys.stderr)
            continue
        result.save(output, stem)
        lines = [f"{path}: {result.num_regions} regions"]
        lines += [f"  {number}. {text}" for number, text in enumerate(result.captions(), 1)]
        tqdm.write("\n".join(lines))
    return failed


if __name__ == "__main__":
    sys.exit(main())

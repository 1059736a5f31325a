#!/usr/bin/env python
"""Segment your own images: an overlay with a legend, a label map and JSON for each.

  python tools/demo.py --input datasets/samples/photos --output output/demo
  python tools/demo.py --input a.jpg 'holiday/*.png' --count 2 --output output/demo
  python tools/demo.py --config-file my.yaml --input a.jpg --output output/demo
  python tools/demo.py --config-file configs/ahs_seg/cat_seg_vitb.yaml --input a.jpg \\
      --classes "sky|clouds, wet sand" --background 0.3 --output output/demo

Models of configs/ahs_seg are asked for classes: commas stand between them, bars between names of
one class. Others find the regions by themselves.

For `a.jpg`: `a_overlay.jpg`, `a_labels.png` (palette PNG, the values are the labels) and `a.json`
(a description or class name, area, box and COCO RLE mask for each region). Another `a` gets a
number, `a__2`. `index.csv` has a line for each image of the run, in order: sort it by
`count_probability` or `least_confidence` to see first what needs a look.
(Beyond 255 regions the label map is a 16-bit grey PNG.)
The output may be the folder of the images: results among them are left out. What this tool wrote
is replaced when it runs again, and nothing else, unless --overwrite is given.
Exit status: 0 done, 1 some images could not be read, segmented or written, 2 wrong input.
"""

import argparse
import difflib
import glob
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detecture import SemanticPredictor, SemanticResult, TexturePredictor, TextureResult
from detecture.checkpoint.ownership import carries_mark, require_folder
from detecture.data.image_files import IMAGE_ENDINGS, only_images
from detecture.data.k_hint import require_count
from detecture.data.vocabulary import Vocabulary, shipped_lists
from detecture.engine import predictor_of
from detecture.engine.evaluate import require_choice
from detecture.engine.result_files import ImageIdentity, find_place
from detecture.engine.result_index import ResultIndex
from detecture.errors import (
    EXIT_FAILED,
    ConfigError,
    DetectureError,
    OutputError,
    counted,
    one_line,
)
from detecture.jobs.command_line import OverridesParser, add_overwrite_option, command_line
from detecture.modeling.grouping.proposals import require_granularity
from detecture.untrusted import named_path

MOST_OTHERS = 2  # numbers of regions that are named beside the chosen one


def find_images(inputs: list[str]) -> list[Path]:
    """Files of a list of files, folders and glob patterns, each once, in the order given.

    Raises:
        ConfigError: one of them names nothing.
    """
    found: dict[Path, None] = {}
    for text in inputs:
        try:
            here = _matching(named_path(text, "--input", ConfigError))
        except OSError as error:  # no permission, or a name that no disk accepts
            raise ConfigError(f"--input {text}: cannot be read ({error.strerror})") from error
        if not here:
            raise ConfigError(f"--input {text}: {_why_nothing(text)}")
        found.update(dict.fromkeys(here))
    return list(found)


def _why_nothing(text: str) -> str:
    path = Path(text).expanduser()
    if path.is_dir():
        endings = ", ".join(sorted(IMAGE_ENDINGS))
        return f"no image in it ({endings}); give a folder that has some"
    if glob.has_magic(text):
        return "no such file matches it; correct the pattern, in quotes for the shell"
    near = difflib.get_close_matches(path.name, _names_in(path.parent), n=1)
    meant = f"; did you mean {path.parent / near[0]}?" if near else "; correct the path"
    return f"no such file or folder{meant}"


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def _matching(path: Path) -> list[Path]:
    if path.is_dir():
        return list(only_images(sorted(path.iterdir()), path))
    if path.exists():
        return [path]
    # Brackets in the name of an existing folder are not a pattern.
    base = next((folder for folder in path.parents if folder.is_dir()), Path())
    pattern = str(Path(glob.escape(str(base)), path.relative_to(base)))
    matches = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    # What is named like an image and is none, such as a dead link, is told when it is read.
    return [p for p in matches if p.is_file() or p.suffix.lower() in IMAGE_ENDINGS]


def without_results(images: list[Path]) -> list[Path]:
    """Images without the overlays and label maps that this tool wrote; says how many those are.

    Raises:
        ConfigError: nothing is left.
    """
    left = [path for path in images if not carries_mark(path)]
    if not left:
        raise ConfigError(f"--input: all {len(images)} images are results of this program")
    if len(left) < len(images):
        out = len(images) - len(left)
        are = "it is a result" if out == 1 else "they are results"
        print(f"{counted(out, 'image')} left out: {are} of this program")
    return left


@command_line("demo")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", help="yaml file; without one, the default method")
    parser.add_argument("--input", nargs="+", required=True, help="files, folders, glob patterns")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument("--count", type=int, help="number of regions, if you know it")
    parser.add_argument(
        "--granularity",
        type=float,
        metavar="G",
        help="if you do not know it: -1 (coarsest) over 0 (the model's choice) to 1 (finest)",
    )
    parser.add_argument(
        "--classes",
        help='what to look for, as in "sky|clouds, wet sand, reed", or a .json class list, or the '
        "name of one that ships, as ade_150; by default the classes of the config",
    )
    parser.add_argument(
        "--background",
        type=float,
        metavar="SCORE",
        help="pixels whose best class has a lower score are background (0..1; 0: none)",
    )
    add_overwrite_option(parser)
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="at the end: config overrides, KEY VALUE ..."
    )
    args = parser.parse_args(argv)
    overrides = [word for word in args.opts if word != "--"]
    with suppress(OSError):  # a name that is too long: reported below
        if args.output.is_file():
            raise ConfigError(f"--output {args.output}: is a file; give the name of a folder")
    if args.count is not None:
        require_count("--count", args.count)
    if args.granularity is not None:
        require_granularity(args.granularity, "--granularity")
        if args.count is not None:
            raise ConfigError(
                "--granularity is for an unknown number of regions, and --count tells it: leave "
                "one of them out"
            )
    images = without_results(find_images(args.input))
    asked = read_classes(args.classes)
    predictor = predictor_of(args.config_file, overrides)
    question = question_of(predictor, args.count, asked, args.background, args.granularity)
    require_folder(args.output, "choose another --output")
    index = ResultIndex(args.output, overwrite=args.overwrite)
    try:
        failed = segment(predictor, images, index, question)
    finally:  # a run that is interrupted has a table too
        written = write_index(index)
    print(f"{len(images) - failed} of {len(images)} images segmented, in {one_line(args.output)}")
    return 0 if written and not failed else EXIT_FAILED


def write_index(index: ResultIndex) -> bool:
    """Write the table of the run; says where it cannot be written, and returns False."""
    try:
        index.write()
    except OutputError as error:
        print(f"demo: {error}", file=sys.stderr)
        return False
    return True


def read_classes(text: str | None) -> Vocabulary | None:
    """The classes of --classes, before the model is built.

    Raises:
        ConfigError: there is none, a name is repeated or not valid, or there is no such file.
    """
    if text is None:
        return None
    if text.endswith(".json"):
        return Vocabulary.load(text)
    asked = Vocabulary.asked(text)
    if text.strip() in shipped_lists():
        print(f"--classes {text.strip()}: the {len(asked)} classes of the list that ships")
    return asked


def question_of(
    predictor: TexturePredictor | SemanticPredictor,
    count: int | None,
    asked: Vocabulary | None,
    background: float | None,
    granularity: float | None = None,
) -> dict[str, Any]:
    """What to ask about each image, as arguments of the predictor.

    Raises:
        ConfigError: this kind of model cannot be asked that.
    """
    name = type(predictor.model).__name__
    if isinstance(predictor, SemanticPredictor):
        if count is not None:
            raise ConfigError(
                f"--count is for models that find regions, and {name} is asked for classes: leave "
                "it out, and name them with --classes"
            )
        if granularity is not None:
            raise ConfigError(
                f"--granularity is for models that find regions, and {name} is asked for classes: "
                "leave it out"
            )
        question = {"classes": asked, "background": background}
        predictor.check(**question)
        return question
    for option, value in (("--classes", asked), ("--background", background)):
        if value is not None:
            raise ConfigError(
                f"{option} is for models that are asked for classes, as those of configs/ahs_seg "
                f"(--config-file), and {name} finds regions by itself: leave it out"
            )
    if granularity:
        require_choice(predictor.model, "--granularity")
        if predictor.count is not None:
            raise ConfigError(
                "--granularity is for an unknown number of regions, and TEST.COUNT tells it: leave "
                "one of them out"
            )
    return {"count": count, "granularity": granularity}


def segment(
    predictor: TexturePredictor | SemanticPredictor,
    images: list[Path],
    index: ResultIndex,
    question: dict[str, Any],
) -> int:
    """Segment each image, save it beside the index and add its line; returns how many failed."""
    output, overwrite = index.path.parent, index.overwrite
    failed = 0
    for path in tqdm(images, desc="segmenting", unit="image", disable=None):
        try:
            # Checked before segmenting: a refusal afterwards would waste the work.
            image = ImageIdentity.of_file(path)
            find_place(output, path.stem, image, numbered=True, overwrite=overwrite)
            result = predictor(path, **question)
            files = result.save(output, overwrite=overwrite)
        except DetectureError as error:
            failed += 1
            index.add_failed(path)
            tqdm.write(f"not segmented: {one_line(error)}", file=sys.stderr)
            continue
        index.add(path, result, files)
        saved = files["json"].stem
        renamed = "" if saved == path.stem else f", saved as {one_line(saved)}"
        tqdm.write(f"{one_line(path)}: {report(result, renamed)}")
    return failed


def report(result: TextureResult | SemanticResult, renamed: str) -> str:
    """What was found, as lines of text."""
    if isinstance(result, SemanticResult):
        present = [label for label in result.found() if label != result.background]
        lines = [f"{len(present)} of {len(result.vocabulary)} classes{renamed}"]
        return "\n".join([*lines, *(f"  {text}" for text in result.captions())])
    known = result.count_probability
    surely = "" if known is None else f" ({known:.0%}{others(result)})"
    lines = [f"{counted(result.num_regions, 'region')}{surely}{renamed}"]
    for number, text in enumerate(result.captions(), 1):
        sure = f", confidence {result.confidence[number - 1]:.2f}" if result.confidence else ""
        lines.append(f"  {number}. {text}{sure}")
    return "\n".join(lines)


def others(result: TextureResult) -> str:
    """The likeliest other numbers of regions, as in `; or 2: 21%, 4: 9%`."""
    rest = [one for one in result.alternatives if one.count != result.num_regions]
    shown = [f"{one.count}: {one.probability:.0%}" for one in rest[:MOST_OTHERS]]
    return f"; or {', '.join(shown)}" if shown else ""


if __name__ == "__main__":
    sys.exit(main())

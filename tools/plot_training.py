#!/usr/bin/env python
"""Draw the losses of one or more training runs, one panel each, from their metrics.json.

  python tools/plot_training.py output/recipes/grouping_net output/recipes/describer \\
      --output docs/images/training.png

A run that was resumed has some iterations twice: the later ones count. Needs the extra `plot`.
Exit status: 0 done, 2 wrong input.
"""

import argparse
import io
import sys
from pathlib import Path

from detecture.checkpoint.atomic import utf8
from detecture.checkpoint.json_files import finite_number
from detecture.checkpoint.ownership import HTML_COMMENT, LATEX_COMMENT, require_own, write_own
from detecture.errors import ConfigError, DatasetError
from detecture.jobs.command_line import add_overwrite_option, command_line
from detecture.untrusted import open_file, parse_own_json

COMMENTS = {".svg": HTML_COMMENT} | dict.fromkeys((".pdf", ".ps", ".eps"), LATEX_COMMENT)
REMEDY = "choose another --output, or give --overwrite"

_SMOOTHED = 10  # lines of metrics.json


def read_losses(folder: Path, key: str) -> dict[int, float]:
    """Value of a key at each iteration that has it.

    Raises:
        DatasetError: the file is missing, or none of its readable lines has the key.
    """
    path = folder / "metrics.json"
    found: dict[int, float] = {}
    known: set[str] = set()
    try:
        with open_file(path) as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise DatasetError(f"{path}: {error}; name the OUTPUT_DIR of a training") from error
    damaged = 0
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            content = parse_own_json(line)
            iteration = content["iteration"]
        except (ValueError, LookupError, TypeError):
            damaged += number < len(lines)  # a killed run may have cut the last one
            continue
        known |= {name for name in content if "loss" in name}
        value = finite_number(content.get(key))
        if value is not None and type(iteration) is int:
            found[iteration] = value
    if damaged:
        print(f"plot_training: {path}: {damaged} lines cannot be read", file=sys.stderr)
    if not found:
        names = ", ".join(sorted(known)) or "no loss at all"
        raise DatasetError(f"{path}: has no {key!r}, but {names}")
    return dict(sorted(found.items()))


def smoothed(values: list[float]) -> list[float]:
    """Mean of each value and up to `_SMOOTHED` - 1 before it."""
    starts = [max(0, end - _SMOOTHED) for end in range(1, len(values) + 1)]
    return [sum(values[a:b]) / (b - a) for b, a in enumerate(starts, 1)]


@command_line("plot_training")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="OUTPUT_DIR of each run")
    parser.add_argument("--key", default="total_loss", help="of metrics.json")
    parser.add_argument("--output", required=True, type=Path, help="image to write")
    add_overwrite_option(parser)
    args = parser.parse_args(argv)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("needs matplotlib: pip install -e '.[plot]'") from error
    require_own([args.output], args.overwrite, REMEDY)
    figure = Figure(figsize=(4.2 * len(args.runs), 3.2), layout="constrained")
    panels = figure.subplots(1, len(args.runs), squeeze=False)[0]
    for axes, run in zip(panels, args.runs, strict=True):
        losses = read_losses(run, args.key)
        iterations, values = list(losses), list(losses.values())
        axes.plot(iterations, values, color="0.8", linewidth=0.8)
        axes.plot(iterations, smoothed(values), color="tab:blue")
        name = utf8(run.resolve().name).decode("utf-8")
        axes.set(title=name, xlabel="iteration", ylabel=args.key)
    image, ending = io.BytesIO(), args.output.suffix.lower()
    try:
        figure.savefig(image, dpi=110, format=ending[1:] or None)
    except ValueError as error:  # matplotlib does not know the extension
        raise ConfigError(f"--output {args.output}: cannot be written ({error})") from error
    content, comment = image.getvalue(), COMMENTS.get(ending, "")
    write_own(args.output, content, overwrite=args.overwrite, remedy=REMEDY, comment=comment)
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

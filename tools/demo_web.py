#!/usr/bin/env python
"""Segment images in a browser: drop one, see its regions, download label map and JSON.

  python tools/demo_web.py
  python tools/demo_web.py --port 8000 --max-megapixels 20
  python tools/demo_web.py --config-file my.yaml MODEL.WEIGHTS my.safetensors

With a config of configs/ahs_seg the page has a field for the classes to look for.
Listens on this machine alone unless --host says otherwise (0.0.0.0: every machine that reaches
this one may then use it; there is no password). Needs gradio: pip install -e ".[web]".
Ends with Ctrl-C. Exit status: 0 ended, 2 wrong input.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

from detecture.data.image_files import leads_to_file, only_images
from detecture.engine import predictor_of
from detecture.errors import ConfigError
from detecture.jobs.command_line import OverridesParser, command_line
from detecture.web.server import WebDemo, require_gradio
from detecture.web.service import Limits

EXAMPLES = Path(__file__).resolve().parents[1] / "datasets/samples/photos"

MOST = 1_000_000  # in millions, of bytes and of pixels


def example_images(folder: Path | None) -> list[Path]:
    """Images of a folder or, if none is named, those of the checkout, if there are any.

    Raises:
        ConfigError: what was named is not a folder.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--examples {folder}: no such folder")
    folder = folder or EXAMPLES
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path.resolve() for path in only_images(found, folder) if leads_to_file(path)]


@command_line("demo_web")
def main(argv: list[str] | None = None, stop: threading.Event | None = None) -> int:
    """Run the command line until it is interrupted; returns the exit status.

    Args:
        argv: arguments; by default those of the process.
        stop: ends the server when it is set; by default only a signal does.
    """
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", help="yaml file; without one, the default method")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="(%(default)s)")
    parser.add_argument(
        "--max-megabytes", type=float, default=50.0, help="of an upload (%(default)s)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=50.0, help="of an image (%(default)s)"
    )
    parser.add_argument("--examples", type=Path, help="folder of example images")
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="at the end: config overrides, KEY VALUE ..."
    )
    args = parser.parse_args(argv)
    stop = stop or threading.Event()
    require_gradio()
    for name in ("max_megabytes", "max_megapixels"):
        if not 0 < getattr(args, name) <= MOST:
            option = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{option} is a positive number, {MOST:,} at most, got {getattr(args, name):g}"
            )
    if not 1 <= args.port <= 65535:
        raise ConfigError(f"--port is a number from 1 to 65535, got {args.port}")
    examples = example_images(args.examples)
    overrides = [word for word in args.opts if word != "--"]
    predictor = predictor_of(args.config_file, overrides)
    demo = WebDemo(
        predictor,
        host=args.host,
        port=args.port,
        examples=examples,
        max_megabytes=args.max_megabytes,
        limits=Limits(max_pixels=round(args.max_megapixels * 1e6)),
    )
    with demo:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
        print(f"open {demo.url} in a browser; Ctrl-C ends", flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

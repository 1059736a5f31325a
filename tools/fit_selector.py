#!/usr/bin/env python
"""Fit the selector of TextureGrouping, which chooses the number of regions, to a trained net.

  python tools/fit_selector.py --config-file configs/recipes/selector.yaml --images 2000
  python tools/fit_selector.py --config-file configs/texture_grouping.yaml --confidence-alone \\
      --images 800 OUTPUT_DIR output/confidence

MODEL.WEIGHTS names the checkpoint with the net; OUTPUT_DIR gets selector.safetensors, net, selector
and confidence of regions, and keeps what is computed on the way, so that a killed run goes on. The
confidence is fitted to further images, half as many, that the selector has not seen; with
--confidence-alone the selector stays as it is, and all images are for the confidence.
Exit status: 0 done, 2 wrong input.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.shipped import locate
from detecture.checkpoint.weights_file import (
    make_header,
    pack_weights,
    read_header,
    require_remade,
)
from detecture.config import make_config
from detecture.data.synthetic.bank_source import BankSource
from detecture.engine import log_to_terminal
from detecture.engine.evaluate import load_model
from detecture.engine.run_folder import reserved
from detecture.errors import ConfigError
from detecture.jobs.command_line import OverridesParser, add_renamed_option, command_line
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping
from detecture.recipes.confidence_fit import (
    LEAST_IMAGES,
    collect_regions,
    fit_confidence,
    model_fingerprint,
)
from detecture.recipes.selector_fit import COMPOSITE, PRIOR, collect, fit, nets_fingerprint


@command_line("fit_selector")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="of the model, with MODEL.WEIGHTS")
    told = "drawn for it (default: 2000)"
    add_renamed_option(parser, "--images", before="--pictures", type=int, default=2000, help=told)
    parser.add_argument(
        "--confidence-alone",
        action="store_true",
        help="keep the selector of MODEL.WEIGHTS, and fit the confidence of regions alone",
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, help="at the end: config overrides, KEY VALUE ..."
    )
    args = parser.parse_args(argv)
    log_to_terminal()
    cfg = make_config(args.config_file, [word for word in args.opts if word != "--"])
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError("MODEL.WEIGHTS is empty; name the checkpoint of a trained net")
    model = load_model(cfg)
    if not isinstance(model, TextureGrouping):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} has no selector; use "
            "TextureGrouping"
        )
    folder = Path(cfg.OUTPUT_DIR)
    output = folder / "selector.safetensors"
    require_remade(output, "selector", "choose another OUTPUT_DIR")
    bank = cfg.INPUT.TEXTURE_BANK
    images = f"{bank.COUNT} {bank.FIRST} {cfg.INPUT.UNRULY} {PRIOR} {COMPOSITE}"
    name = nets_fingerprint(model, f"{cfg.MODEL.GROUPING} {images}")
    values: dict[str, Any] = {}
    with reserved(folder):
        source, workers = BankSource(cfg), cfg.DATALOADER.NUM_WORKERS
        if args.confidence_alone:
            # What the file was made of is still true of the rest.
            parts = read_header(locate(cfg.MODEL.WEIGHTS)).get("parts", [])
            values = {"parts": parts, "selector": {}}
            further = args.images
        else:
            data = collect(model, args.images, source, folder / f"evidence_{name}.npz", workers)
            values["selector"] = fit(model.selector, data, seed=max(cfg.SEED, 0))
            further = max(args.images // 2, LEAST_IMAGES)
        name = model_fingerprint(model, name)
        regions = collect_regions(model, further, source, folder / f"regions_{name}.npz", workers)
        values["confidence"] = fit_confidence(model.confidence, regions)
    header = make_header(cfg.dump(), model.checkpoint_header(), **values)
    content = pack_weights(model.checkpoint_state(), header)
    write_atomic(output, lambda file: file.write(content))
    for part in ("selector", "confidence"):
        figures = ", ".join(f"{key} {value:.3f}" for key, value in values[part].items())
        print(f"{output}: {part}: {figures or 'as before'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

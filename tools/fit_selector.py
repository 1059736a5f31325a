#!/usr/bin/env python
"""Fit the selector of TextureGrouping, which chooses the number of regions, to a trained net.

  python tools/fit_selector.py --config-file configs/recipes/selector.yaml --images 2000

MODEL.WEIGHTS names the checkpoint with the net; OUTPUT_DIR gets selector.safetensors, net and
selector, and keeps what is computed on the way, so that a killed run goes on.
Exit status: 0 done, 2 wrong input.
"""

import argparse
import sys
from pathlib import Path

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.weights_file import make_header, pack_weights, require_remade
from detecture.config import make_config
from detecture.data.synthetic.bank_source import BankSource
from detecture.engine import log_to_terminal
from detecture.engine.evaluate import load_model
from detecture.engine.run_folder import reserved
from detecture.errors import ConfigError
from detecture.jobs.command_line import OverridesParser, add_renamed_option, command_line
from detecture.modeling.meta_arch.texture_grouping import TextureGrouping
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
    with reserved(folder):
        data = collect(
            model,
            args.images,
            BankSource(cfg),
            folder / f"evidence_{name}.npz",
            cfg.DATALOADER.NUM_WORKERS,
        )
        figures = fit(model.selector, data, seed=max(cfg.SEED, 0))
    header = make_header(cfg.dump(), model.checkpoint_header(), selector=figures)
    content = pack_weights(model.checkpoint_state(), header)
    write_atomic(output, lambda file: file.write(content))
    print(f"{output}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Make one small weights file of the checkpoints of a recipe's stages.

  python tools/package_model.py --config-file configs/texture_grouping.yaml \\
      --parts output/recipes/selector/selector.safetensors \\
              output/recipes/describer/model_final.safetensors \\
      --output texture_grouping.safetensors

The parts' tensors are joined, stored as float16, and must fit the config's model exactly. The
header says which files they came from, by SHA-256. `--more-nets` adds the nets of further
checkpoints of a grouping net, where MODEL.GROUPING.NETS is more than 1. Overrides (KEY VALUE ..)
stand at the end.
Exit status: 0 done, 2 wrong input.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.weights_file import require_remade
from detecture.errors import ConfigError
from detecture.jobs.command_line import add_overwrite_option, command_line
from detecture.recipes.packaging import package


@command_line("package_model")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="of the model")
    parser.add_argument("--parts", nargs="+", required=True, type=Path, help="checkpoints to join")
    parser.add_argument("--more-nets", nargs="*", default=[], type=Path, help="with further nets")
    parser.add_argument("--output", required=True, type=Path, help="file to write")
    add_overwrite_option(parser)
    parser.add_argument("--opts", nargs="*", default=[], help="config overrides, KEY VALUE ...")
    args = parser.parse_args(argv)
    if not args.overwrite:
        remedy = "choose another --output, or give --overwrite"
        require_remade(args.output, "parts", remedy)
    content = package(args.config_file, args.parts, args.opts, args.more_nets)
    try:
        write_atomic(args.output, lambda file: file.write(content))
    except OSError as error:
        raise ConfigError(f"--output {args.output}: cannot be written ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    print(f"{args.output}: {len(content) / 1e6:.2f} MB, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

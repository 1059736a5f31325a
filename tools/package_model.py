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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from detecture.checkpoint.atomic import sha256_file, write_atomic
from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.config import make_config
from detecture.errors import EXIT_USAGE, CheckpointError, DetectureError
from detecture.modeling import build_model


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="of the model")
    parser.add_argument("--parts", nargs="+", required=True, type=Path, help="checkpoints to join")
    parser.add_argument("--more-nets", nargs="*", default=[], type=Path, help="with further nets")
    parser.add_argument("--output", required=True, type=Path, help="file to write")
    parser.add_argument("--opts", nargs="*", default=[], help="config overrides, KEY VALUE ...")
    args = parser.parse_args(argv)
    try:
        content = package(args.config_file, args.parts, args.opts, args.more_nets)
        write_atomic(args.output, lambda file: file.write(content))
    except DetectureError as error:
        print(f"package_model: {error}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"package_model: {args.output} cannot be written: {error}", file=sys.stderr)
        return EXIT_USAGE
    digest = hashlib.sha256(content).hexdigest()
    print(f"{args.output}: {len(content) / 1e6:.2f} MB, SHA-256 {digest}")
    return 0


def package(
    config_file: str, parts: list[Path], overrides: list[str], more_nets: Sequence[Path] = ()
) -> bytes:
    """The content of the joined file.

    Args:
        config_file: of the model.
        parts: checkpoints whose tensors are joined.
        overrides: of the config.
        more_nets: checkpoints of which the net alone is taken, as a further one.

    Raises:
        CheckpointError: two parts hold one tensor, or together they do not fit the model.
    """
    cfg = make_config(config_file, overrides)
    tensors: dict[str, torch.Tensor] = {}
    sources: list[dict[str, Any]] = []
    taken = [(part, *read_weights(part)) for part in parts]
    for number, part in enumerate(more_nets):
        found, header = read_weights(part)
        net = {name.removeprefix("net."): t for name, t in found.items() if name.startswith("net.")}
        taken.append((part, {f"more_nets.{number}.{name}": t for name, t in net.items()}, header))
    for part, found, header in taken:
        if twice := sorted(set(found) & set(tensors)):
            raise CheckpointError(f"{part}: holds tensors of an earlier part: {', '.join(twice)}")
        tensors |= found
        sources.append({"sha256": sha256_file(part), "iteration": header.get("iteration")})
        sources[-1]["config"] = header.get("config", "")
    halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    model: Any = build_model(cfg)
    for name, tensor in halves.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name} has values that float16 cannot hold")
    model.load_checkpoint_state(halves)
    return pack_weights(halves, make_header("", model.checkpoint_header(), parts=sources))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""The mean of the weights of checkpoints of one model, as one weights file.

  python tools/average_checkpoints.py --output output/mean.safetensors \\
      --checkpoints output/a/model_final.safetensors output/b/model_final.safetensors

Meant for stages of one training, where a later one went on from an earlier: their mean often does
better than either. All must hold the same tensors in the same shapes. The header says which files
they came from, by SHA-256. Exit status: 0 done, 2 wrong input.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from detecture.checkpoint.atomic import sha256_file, write_atomic
from detecture.checkpoint.misfits import misfits
from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.errors import EXIT_USAGE, CheckpointError, DetectureError


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoints", nargs="+", required=True, type=Path, help="two or more")
    parser.add_argument("--output", required=True, type=Path, help="file to write")
    args = parser.parse_args(argv)
    try:
        content = average(args.checkpoints)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(args.output, lambda file: file.write(content))
    except DetectureError as error:
        print(f"average_checkpoints: {error}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"average_checkpoints: {args.output} cannot be written: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"{args.output}: mean of {len(args.checkpoints)} checkpoints")
    return 0


def average(checkpoints: list[Path]) -> bytes:
    """The content of the file.

    Numbers that are no fractions (counters) are those of the last checkpoint.

    Raises:
        CheckpointError: fewer than two are named, or one cannot be read or is of another model.
    """
    if len(checkpoints) < 2:
        raise CheckpointError(f"{checkpoints[0]} is alone; name two checkpoints or more")
    total: dict[str, torch.Tensor] = {}
    last: dict[str, torch.Tensor] = {}
    header: dict[str, Any] = {}
    for path in checkpoints:
        found, header = read_weights(path)
        if last and (problems := misfits(last, found)):
            raise CheckpointError(
                f"{path}: no checkpoint of the same model as {checkpoints[0]}: "
                f"{'; '.join(problems[:5])}"
            )
        for name, tensor in found.items():
            total[name] = total.get(name, torch.zeros(())) + tensor.double()
        last = found
    mean = {
        name: (total[name] / len(checkpoints)).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.items()
    }
    parts = [{"sha256": sha256_file(path)} for path in checkpoints]
    model = header.get("model", {})
    return pack_weights(mean, make_header(header.get("config", ""), model, parts=parts))


if __name__ == "__main__":
    sys.exit(main())

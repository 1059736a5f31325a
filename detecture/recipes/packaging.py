"""Joins the checkpoints of a recipe's stages into one small weights file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from detecture.checkpoint.atomic import sha256_file
from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.config import make_config
from detecture.errors import CheckpointError
from detecture.modeling import build_model


def package(
    config_file: str, parts: list[Path], overrides: list[str], more_nets: Sequence[Path] = ()
) -> bytes:
    """The content of the joined file.

    Args:
        config_file: of the model.
        parts: checkpoints whose tensors are joined.
        overrides: of the config.
        more_nets: checkpoints of which only the net is taken, as an additional one.

    Raises:
        CheckpointError: two parts hold the same tensor, or together they do not fit the model.
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
        # A part that was packaged before, and gained something since, still says of what.
        sources += header.get("parts", [])
        sources.append({"sha256": sha256_file(part), "iteration": header.get("iteration")})
        sources[-1]["config"] = header.get("config", "")
        fits = ("selector", "confidence")  # how well they did on what was held out
        sources[-1] |= {name: header[name] for name in fits if header.get(name)}
    halves = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    model: Any = build_model(cfg)
    for name, tensor in halves.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name} has values that float16 cannot hold")
    model.load_checkpoint_state(halves)
    return pack_weights(halves, make_header("", model.checkpoint_header(), parts=sources))

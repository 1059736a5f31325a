"""The optimiser of a config, over the parts that a model names."""

from typing import Any

import torch
from torch import nn

from detecture.d2 import CfgNode, build_optimizer
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import GroupsParameters


def build_training_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parts of a model, including those that are still frozen.

    A model with `parameter_groups()` gets one group for each of its parts, with the learning rate
    `SOLVER.BASE_LR * SOLVER.LR_FACTOR.<NAME>` and `SOLVER.WEIGHT_DECAY`. For other models, SGD is
    built as in Detectron2, and AdamW over all trainable parameters. Both skip a parameter without a
    gradient, so frozen ones get no state. A part whose factor is 0 is frozen. Gradients are clipped
    by the training step, not here.

    Every group has `peak_lr`, its learning rate before any schedule.

    Args:
        cfg: the whole config.
        model: not wrapped; everything that will ever train requires a gradient.

    Raises:
        ConfigError: the learning rates of all parts are 0.
        ValueError: the model names a part that SOLVER.LR_FACTOR does not have.
    """
    solver = cfg.SOLVER
    groups = _groups(cfg, model)
    optimizer: torch.optim.Optimizer
    if cfg.SOLVER.OPTIMIZER == "AdamW":
        # On the CPU torch takes the plain loop (no foreach, no fused kernel) by itself: bitwise
        # repeatable.
        optimizer = torch.optim.AdamW(groups, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY)
    elif isinstance(model, GroupsParameters):
        optimizer = torch.optim.SGD(
            groups,
            lr=solver.BASE_LR,
            momentum=solver.MOMENTUM,
            nesterov=solver.NESTEROV,
            weight_decay=solver.WEIGHT_DECAY,
        )
    else:
        optimizer = build_optimizer(without_clipping(cfg), model)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    if not any(group["peak_lr"] for group in optimizer.param_groups):
        parts = [f"LR_FACTOR.{g['name'].upper()}" for g in optimizer.param_groups if "name" in g]
        or_all = f", or all of {', '.join(parts)} are" if parts else ""
        raise ConfigError(
            f"{type(model).__name__} would learn nothing: SOLVER.BASE_LR is 0{or_all}"
        )
    freeze_idle_parts(optimizer)
    return optimizer


def freeze_idle_parts(optimizer: torch.optim.Optimizer) -> None:
    """Freeze (in place) what no step would change, so that its gradients are not computed.

    Call it again after anything that makes parts of a model trainable.

    Args:
        optimizer: from `build_training_optimizer`.
    """
    for group in optimizer.param_groups:
        if group["peak_lr"] == 0.0:
            for parameter in group["params"]:
                parameter.requires_grad_(False)


def without_clipping(cfg: CfgNode) -> CfgNode:
    """A copy of the config with which Detectron2's optimiser does not clip."""
    changed = cfg.clone()
    changed.defrost()
    changed.SOLVER.CLIP_GRADIENTS.ENABLED = False
    return changed


def _groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    if not isinstance(model, GroupsParameters):
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]
    factors = cfg.SOLVER.LR_FACTOR
    groups = []
    for group in model.parameter_groups():
        if (key := group["name"].upper()) not in factors:
            raise ValueError(
                f"{type(model).__name__} names the part {group['name']!r}; SOLVER.LR_FACTOR knows "
                f"{', '.join(factors)}"
            )
        if parameters := list(group["params"]):
            rate = cfg.SOLVER.BASE_LR * factors[key]
            built = {"name": group["name"], "params": parameters, "lr": rate}
            if not group.get("decays", True):
                built["weight_decay"] = cfg.SOLVER.WEIGHT_DECAY_NORM
            groups.append(built)
    return groups

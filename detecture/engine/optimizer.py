"""The optimiser of a config, over the parts that a model names."""

from typing import Any

import torch
from torch import nn

from detecture.d2 import CfgNode, build_optimizer
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import GroupsParameters


def build_training_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parts of a model, those that still are frozen too.

    A model with `parameter_groups()` gets one group for each of its parts, with the learning rate
    `SOLVER.BASE_LR * SOLVER.LR_FACTOR.<NAME>` and `SOLVER.WEIGHT_DECAY`. Without it SGD is built
    as Detectron2 does, and AdamW over all parameters that train. Either skips a parameter that has
    no gradient, so frozen ones get no state. A part whose factor is 0 is frozen. Gradients are
    clipped by the training step, not here.

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
    """Freeze what no step would change (in place), so that its gradients are not computed.

    To be called again after anything that lets parts of a model train.

    Args:
        optimizer: of `build_training_optimizer`.
    """
    for group in optimizer.param_groups:
        if group["peak_lr"] == 0.0:
            for parameter in group["params"]:
                parameter.requires_grad_(False)


def without_clipping(cfg: CfgNode) -> CfgNode:
    """A copy of the config under which Detectron2's optimiser does not clip."""
    changed = cfg.clone()
    changed.defrost()
    changed.SOLVER.CLIP_GRADIENTS.ENABLED = False
    return changed


def _groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    if not isinstance(model, GroupsParameters):
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]
    factors = cfg.SOLVER.LR_FACTOR
    by_name = {
        "bridge": factors.BRIDGE,
        "mask_head": factors.MASK_HEAD,
        "dustbin": factors.DUSTBIN,
        "vlm": factors.VLM,
        "seg_rows": factors.SEG_ROWS,
        "segmenter": factors.SEGMENTER,
        "texture": factors.TEXTURE,
        "texture_readout": factors.TEXTURE_READOUT,
    }
    groups = []
    for group in model.parameter_groups():
        if group["name"] not in by_name:
            raise ValueError(
                f"{type(model).__name__} names the part {group['name']!r}; SOLVER.LR_FACTOR knows "
                f"{', '.join(by_name)}"
            )
        parameters = list(group["params"])
        if parameters:
            factor = by_name[group["name"]]
            groups.append(
                {"name": group["name"], "params": parameters, "lr": cfg.SOLVER.BASE_LR * factor}
            )
    return groups

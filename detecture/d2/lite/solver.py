"""Optimiser and learning-rate schedule from a config."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)
from torch import nn

from .config import CfgNode

logger = logging.getLogger(__name__)

_NORM_TYPES = (
    nn.modules.batchnorm._BatchNorm,  # all batch norms, synchronised ones too
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD over the parameters that require a gradient, as the config's SOLVER says."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    optimizer_type: Callable[..., torch.optim.Optimizer] = maybe_add_gradient_clipping(
        cfg, torch.optim.SGD
    )
    return optimizer_type(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,  # as in Detectron2: a checkpoint holds it
    )


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups, one for each set of values that differ from the optimiser's own.

    The groups are those of Detectron2, so that the state of the optimiser fits either.

    Args:
        model: its parameters with `requires_grad`, each once however often it is shared.
        base_lr: learning rate of everything but biases; None: the optimiser's.
        weight_decay: of everything that no other argument speaks of; None: the optimiser's.
        weight_decay_norm: of the parameters of normalisation layers; None: as the others.
        bias_lr_factor: factor on `base_lr` for the biases; None: 1.
        weight_decay_bias: of the biases, those of normalisation layers too; None: as the others.

    Raises:
        ValueError: a `bias_lr_factor` without `base_lr`.
    """
    common = {"lr": base_lr, "weight_decay": weight_decay}
    common = {name: value for name, value in common.items() if value is not None}
    of_biases: dict[str, float | None] = {}
    if bias_lr_factor not in (None, 1.0):
        if base_lr is None:
            raise ValueError("bias_lr_factor requires base_lr")
        of_biases["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        of_biases["weight_decay"] = weight_decay_bias
    groups: dict[tuple[tuple[str, float | None], ...], list[nn.Parameter]] = {}
    for parameter, is_norm, is_bias in _trainable_parameters(model):
        values = dict(common)
        if is_norm and weight_decay_norm is not None:
            values["weight_decay"] = weight_decay_norm
        if is_bias:
            values.update(of_biases)
        groups.setdefault(tuple(values.items()), []).append(parameter)
    return [{**dict(values), "params": parameters} for values, parameters in groups.items()]


def _trainable_parameters(model: nn.Module) -> Iterator[tuple[nn.Parameter, bool, bool]]:
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield parameter, isinstance(module, _NORM_TYPES), name == "bias"


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: type[torch.optim.Optimizer]
) -> type[torch.optim.Optimizer]:
    """A subclass of `optimizer` that clips gradients before each step, if the config says so.

    As in Detectron2, CLIP_TYPE "norm" limits the norm of each parameter by itself, not that of
    the whole model.

    Raises:
        ValueError: SOLVER.CLIP_GRADIENTS.CLIP_TYPE is neither "value" nor "norm".
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer
    limit, norm_type = clip.CLIP_VALUE, clip.NORM_TYPE
    clippers: dict[str, Callable[[nn.Parameter], object]] = {
        "value": lambda parameter: nn.utils.clip_grad_value_(parameter, limit),
        "norm": lambda parameter: nn.utils.clip_grad_norm_(parameter, limit, norm_type),
    }
    if clip.CLIP_TYPE not in clippers:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE!r}; use one of {sorted(clippers)}"
        )
    clip_one = clippers[clip.CLIP_TYPE]

    def step(self: torch.optim.Optimizer, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                clip_one(parameter)
        return optimizer.step(self, closure)

    return type(f"{optimizer.__name__}WithGradientClip", (optimizer,), {"step": step})


class WarmupParamScheduler(CompositeParamScheduler):
    """A warm-up in front of another schedule.

    Args:
        scheduler: the schedule that follows.
        warmup_factor: the warm-up begins at this factor of the schedule's first value.
        warmup_length: share of the whole training, in [0, 1].
        warmup_method: "linear" (up to the value the schedule has when the warm-up ends) or
            "constant".
        rescale_interval: squeeze the schedule into what the warm-up leaves, instead of cutting
            its beginning off.

    Raises:
        ValueError: unknown `warmup_method`.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        start = warmup_factor * scheduler(0.0)
        end = scheduler(0.0) if rescale_interval else scheduler(warmup_length)
        if warmup_method == "linear":
            warmup: ParamScheduler = LinearParamScheduler(start, end)
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(start)
        else:
            raise ValueError(
                f"SOLVER.WARMUP_METHOD is {warmup_method!r}; use 'linear' or 'constant'"
            )
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(torch.optim.lr_scheduler.LRScheduler):
    """Sets each group's learning rate to its initial one times an fvcore schedule.

    Args:
        optimizer: whose groups are set.
        multiplier: maps progress in [0, 1] to the factor.
        max_iter: iterations that make up progress 1.
        last_iter: iteration that was done last; -1 at the start.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"multiplier must be an fvcore ParamScheduler, not {multiplier!r}")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Initial learning rates and the iteration; the schedule itself comes from the config."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float | torch.Tensor]:
        """Learning rate of each group for the iteration `last_epoch`.

        A number; a scalar tensor where the optimiser was given one.
        """
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]


def build_lr_scheduler(
    cfg: CfgNode, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule named by SOLVER.LR_SCHEDULER_NAME, after SOLVER.WARMUP_ITERS of warm-up.

    To be stepped once per iteration.

    Raises:
        ValueError: unknown name, or a final learning rate outside [0, BASE_LR].
    """
    solver = cfg.SOLVER
    name = solver.LR_SCHEDULER_NAME
    if name == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step < solver.MAX_ITER]
        if len(steps) != len(solver.STEPS):
            logger.warning(
                "SOLVER.STEPS %s: those from SOLVER.MAX_ITER %d on have no effect",
                tuple(solver.STEPS),
                solver.MAX_ITER,
            )
        schedule: ParamScheduler = _steps(solver.GAMMA, steps, solver.MAX_ITER)
    elif name == "WarmupCosineLR":
        if not 0 <= solver.BASE_LR_END <= solver.BASE_LR or solver.BASE_LR == 0:
            raise ValueError(
                f"SOLVER.BASE_LR_END {solver.BASE_LR_END} must lie between 0 and SOLVER.BASE_LR "
                f"{solver.BASE_LR}, which must not be 0"
            )
        schedule = CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)
    elif name == "WarmupStepWithFixedGammaLR":
        # The same values as fvcore's StepWithFixedGammaParamScheduler, which fails at progress 1,
        # where the scheduler stands after the last iteration.
        parts = solver.NUM_DECAYS + 1
        steps = [-(-solver.MAX_ITER * k // parts) for k in range(1, parts)]  # rounded up
        schedule = _steps(solver.GAMMA, steps, solver.MAX_ITER)
    else:
        raise ValueError(
            f"SOLVER.LR_SCHEDULER_NAME is {name!r}; use WarmupMultiStepLR, WarmupCosineLR or "
            "WarmupStepWithFixedGammaLR"
        )
    warmed_up = WarmupParamScheduler(
        schedule,
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=warmed_up, max_iter=solver.MAX_ITER)


def _steps(gamma: float, steps: list[int], max_iter: int) -> MultiStepParamScheduler:
    values = [gamma**k for k in range(len(steps) + 1)]
    return MultiStepParamScheduler(values=values, milestones=steps, num_updates=max_iter)

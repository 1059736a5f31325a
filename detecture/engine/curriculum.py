"""Hooks that set the stage of a model and the learning rates of its parts."""

import gc
import logging
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detecture.d2 import comm, hooks
from detecture.device import is_accelerator
from detecture.engine.optimizer import freeze_idle_parts
from detecture.engine.schedule import CurriculumCosine
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import HasStages

logger = logging.getLogger(__name__)


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without `DistributedDataParallel` around it."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def distribute(model: nn.Module) -> nn.Module:
    """Wrap a model for several processes, on accelerators or CPUs; a single one needs no wrapper.

    Call it again when other parameters train: the wrapper exchanges, and waits for, the gradients
    of exactly those parameters that train when it is made.
    """
    if comm.get_world_size() == 1:
        return model
    on_accelerator = is_accelerator(next(model.parameters()).device)
    device_ids = [comm.get_local_rank()] if on_accelerator else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)


def enter_stage(model: nn.Module, stage: int, optimizer: Any = None) -> None:
    """Set the stage of a model that has stages; gradients from the earlier stage are dropped.

    Args:
        model: not wrapped; one without stages is left as it is.
        stage: 1 or 2.
        optimizer: of the model; parameters with a learning rate of 0 stay frozen. None: there is no
            optimiser yet.

    Raises:
        ConfigError: nothing would train.
        RuntimeError: a parameter would train that the optimiser does not have.
    """
    if not isinstance(model, HasStages):
        return
    model.set_stage(stage)
    for parameter in model.parameters():
        parameter.grad = None
    if optimizer is None:
        return
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    lost = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in known]
    if lost:
        raise RuntimeError(f"stage {stage} trains what no parameter group has: {', '.join(lost)}")
    freeze_idle_parts(optimizer)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            f"stage {stage} would train nothing: SOLVER.LR_FACTOR of all of its parts is 0"
        )
    logger.info(
        "Stage %d: %d of %d parameters train",
        stage,
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        sum(p.numel() for p in model.parameters()),
    )


class CurriculumHook(hooks.HookBase):
    """Puts the model into the stage that the iteration calls for, also after resuming.

    Args:
        stage2: the iteration at which stage 2 begins; 0: the whole training is stage 2.
    """

    def __init__(self, stage2: int) -> None:
        self._stage2 = stage2
        self._stage = self.stage_at(0)

    def stage_at(self, iteration: int) -> int:
        """1 or 2."""
        return 1 if iteration < self._stage2 else 2

    def before_train(self) -> None:
        """Set the stage of the first iteration."""
        self._enter(self.trainer.start_iter)

    def before_step(self) -> None:
        """Change the stage when it is time."""
        self._enter(self.trainer.iter)

    def _enter(self, iteration: int) -> None:
        stage = self.stage_at(iteration)
        if stage == self._stage:
            return
        self._stage = stage
        step = self.trainer._trainer
        model = unwrap(step.model)
        step.model = model  # drops the old wrapper, whose hooks on the gradients go with it
        gc.collect()
        enter_stage(model, stage, step.optimizer)
        step.model = distribute(model)


class ScheduleHook(hooks.HookBase):
    """Sets every group's learning rate before each iteration, from the iteration number alone.

    Puts the scalars `lr` (of the largest group) and `lr/<group>`.
    """

    def __init__(self, schedule: CurriculumCosine) -> None:
        self._schedule = schedule
        self._rates: dict[str, float] = {}

    def before_step(self) -> None:
        """Set the learning rates."""
        self._rates = self._schedule.apply(self.trainer.optimizer, self.trainer.iter)

    def after_step(self) -> None:
        """Put them."""
        groups = self.trainer.optimizer.param_groups
        largest = max(groups, key=lambda group: sum(p.numel() for p in group["params"]))
        storage = self.trainer.storage
        storage.put_scalar("lr", largest["lr"], smoothing_hint=False)
        if len(groups) > 1:
            for name, rate in self._rates.items():
                storage.put_scalar(f"lr/{name}", rate, smoothing_hint=False)

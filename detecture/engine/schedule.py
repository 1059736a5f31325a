"""Learning rates as a pure function of the iteration, and epochs converted to iterations."""

import logging
import math
from dataclasses import dataclass
from typing import Any

from detecture.config.sections.training import (
    CurriculumSettings,
    RestartSettings,
    SolverSettings,
)
from detecture.d2 import CfgNode
from detecture.errors import ConfigError

logger = logging.getLogger(__name__)

CURRICULUM_COSINE = "CurriculumCosine"
"""SOLVER.LR_SCHEDULER_NAME of this project's own schedule."""

_BRIDGE = "bridge"


def resolve_epochs(cfg: CfgNode, records: int) -> CfgNode:
    """A copy of the config with every length in iterations, and no length in epochs.

    One epoch is `records / SOLVER.IMS_PER_BATCH` iterations; the result is rounded to the nearest.

    Args:
        cfg: the whole config.
        records: number of training records.
    """
    resolved = cfg.clone()
    resolved.defrost()
    solver = resolved.SOLVER

    def iterations(epochs: float, otherwise: int) -> int:
        return math.floor(epochs * records / solver.IMS_PER_BATCH + 0.5) if epochs else otherwise

    solver.MAX_ITER = iterations(cfg.SOLVER.MAX_EPOCHS, solver.MAX_ITER)
    solver.WARMUP_ITERS = iterations(cfg.SOLVER.WARMUP_EPOCHS, solver.WARMUP_ITERS)
    stages, restart = cfg.SOLVER.CURRICULUM, cfg.SOLVER.RESTART
    solver.CURRICULUM.STAGE2_ITER = iterations(stages.STAGE2_EPOCH, stages.STAGE2_ITER)
    solver.RESTART.ITER = iterations(restart.EPOCH, restart.ITER)
    solver.RESTART.WARMUP_ITERS = iterations(restart.WARMUP_EPOCHS, restart.WARMUP_ITERS)
    solver.COSINE_ITERS = iterations(cfg.SOLVER.COSINE_EPOCHS, solver.COSINE_ITERS)
    solver.MAX_EPOCHS = solver.WARMUP_EPOCHS = solver.CURRICULUM.STAGE2_EPOCH = 0.0
    solver.COSINE_EPOCHS = 0.0
    solver.RESTART.EPOCH = solver.RESTART.WARMUP_EPOCHS = 0.0
    if cfg.is_frozen():
        resolved.freeze()
    return resolved


def detectron2_schedule(cfg: CfgNode) -> CfgNode:
    """A config from which Detectron2 builds the requested schedule.

    Detectron2's WarmupStepWithFixedGammaLR fails after the last iteration, before the checkpoint is
    written; WarmupMultiStepLR with the same steps does not.

    Raises:
        ConfigError: SOLVER.BASE_LR_END of WarmupCosineLR does not lie between 0 and SOLVER.BASE_LR.
    """
    solver = cfg.SOLVER
    in_range = 0 <= solver.BASE_LR_END <= solver.BASE_LR
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and not in_range:
        raise ConfigError(
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}; it must lie between 0 and "
            f"SOLVER.BASE_LR, {solver.BASE_LR}"
        )
    if solver.LR_SCHEDULER_NAME != "WarmupStepWithFixedGammaLR":
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    parts = solver.NUM_DECAYS + 1
    cfg.SOLVER.STEPS = tuple(-(-solver.MAX_ITER * k // parts) for k in range(1, parts))
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    return cfg


@dataclass(frozen=True)
class CurriculumCosine:
    """Linear warm-up, cosine decay, a lower bridge from stage 2 on, and a restart.

    There is no state: a resumed run has the same learning rates as an uninterrupted one, and the
    restart comes when the config says so, never because of resuming.

    Attributes:
        max_iter: iterations of the run; the last cosine ends at `max_iter - 1`.
        warmup: iteration at which the first warm-up reaches the peak.
        warmup_factor: a warm-up begins at this share of the peak.
        min_lr: learning rate at the end of the cosine; absolute. A peak not above it stays
            constant.
        stage2: iteration from which the bridge's peak is `bridge_factor` lower; 0: never (starting
            in stage 2 is not a switch).
        bridge_factor: see there.
        restart: iteration of the restart; 0: none. From there on every part's peak, including the
            bridge's, is its original one times `restart_factor`.
        restart_factor: see there.
        restart_warmup: iterations of the restart's warm-up.
        restart_least_peak: from the restart on, no nonzero peak is below this.
        cosine: iterations of the first cosine, which ends at `cosine - 1`; 0: `max_iter`.
        first_at_peak: iteration 0 has the full rate, ahead of the warm-up.
    """

    max_iter: int
    warmup: int
    warmup_factor: float
    min_lr: float
    stage2: int = CurriculumSettings.stage2_iter
    bridge_factor: float = CurriculumSettings.bridge_factor
    restart: int = RestartSettings.iter
    restart_factor: float = RestartSettings.factor
    restart_warmup: int = RestartSettings.warmup_iters
    restart_least_peak: float = RestartSettings.least_peak
    cosine: int = SolverSettings.cosine_iters
    first_at_peak: bool = SolverSettings.first_step_at_peak

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CurriculumCosine":
        """The schedule of a config that `resolve_epochs` returned."""
        solver = cfg.SOLVER
        return cls(
            max_iter=solver.MAX_ITER,
            warmup=solver.WARMUP_ITERS,
            warmup_factor=solver.WARMUP_FACTOR,
            min_lr=cfg.SOLVER.MIN_LR,
            stage2=solver.CURRICULUM.STAGE2_ITER,
            bridge_factor=cfg.SOLVER.CURRICULUM.BRIDGE_FACTOR,
            restart=solver.RESTART.ITER,
            restart_factor=cfg.SOLVER.RESTART.FACTOR,
            restart_warmup=solver.RESTART.WARMUP_ITERS,
            restart_least_peak=cfg.SOLVER.RESTART.LEAST_PEAK,
            cosine=solver.COSINE_ITERS,
            first_at_peak=cfg.SOLVER.FIRST_STEP_AT_PEAK,
        )

    def learning_rate(self, iteration: int, peak: float, part: str = "") -> float:
        """Learning rate of one part in one iteration.

        Args:
            iteration: from 0 to `max_iter - 1`.
            peak: the part's original peak.
            part: name of the parameter group; only "bridge" is treated specially.
        """
        if iteration == 0 and self.first_at_peak:
            return peak
        start, warmup, end = 0, self.warmup, self.cosine or self.max_iter
        if 0 < self.restart <= iteration:
            start, warmup, end = self.restart, self.restart_warmup, self.max_iter
            peak = max(peak * self.restart_factor, self.restart_least_peak if peak else 0.0)
        elif part == _BRIDGE and 0 < self.stage2 <= iteration:
            peak *= self.bridge_factor
        step, last = iteration - start, end - 1 - start
        if step < warmup:
            return peak * (self.warmup_factor + (1.0 - self.warmup_factor) * step / warmup)
        if peak <= self.min_lr or last <= warmup:
            return peak
        progress = min((step - warmup) / (last - warmup), 1.0)
        return self.min_lr + (peak - self.min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def apply(self, optimizer: Any, iteration: int) -> dict[str, float]:
        """Set every group's learning rate (its `peak_lr` is the peak).

        Returns:
            Learning rates by the names of the groups.
        """
        rates = {}
        for group in optimizer.param_groups:
            part = group.get("name", "model")
            rate = self.learning_rate(iteration, group["peak_lr"], part)
            group["lr"] = rates[part] = rate
        return rates


def warn_of_idle(solver: CfgNode) -> None:
    """Log the lengths and rates of a SOLVER section that can never take effect in this run."""
    lengths = [
        ("WARMUP_ITERS", solver.WARMUP_ITERS, "the learning rates never reach their peaks"),
        ("CURRICULUM.STAGE2_ITER", solver.CURRICULUM.STAGE2_ITER, "the VLM never trains"),
        ("RESTART.ITER", solver.RESTART.ITER, "there is no restart"),
    ]
    for key, length, effect in lengths:
        if length >= solver.MAX_ITER:
            logger.warning(
                "SOLVER.%s is %d, not below SOLVER.MAX_ITER %d: %s",
                *(key, length, solver.MAX_ITER, effect),
            )
    if solver.LR_SCHEDULER_NAME == CURRICULUM_COSINE and solver.MIN_LR > solver.BASE_LR:
        logger.warning(
            "SOLVER.MIN_LR is %g, above SOLVER.BASE_LR %g: the learning rate never decays",
            *(solver.MIN_LR, solver.BASE_LR),
        )

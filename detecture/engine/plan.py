"""Checks of everything that can be known about a training before its first iteration."""

from torch import nn

from detecture.d2 import CfgNode
from detecture.engine.class_check import check_training_classes
from detecture.engine.idle_keys import warn_of_idle_training_keys
from detecture.engine.schedule import CURRICULUM_COSINE, warn_of_idle
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import HasStages


def check_plan(cfg: CfgNode, model: nn.Module, in_epochs: bool) -> None:
    """Refuse bad classes, and settings that would have no effect or an unintended one.

    Args:
        cfg: the config, with every length in iterations, unless `in_epochs`.
        model: the model to train.
        in_epochs: the lengths could not be converted to iterations.

    Raises:
        ConfigError: names the key.
    """
    solver = cfg.SOLVER
    lengths = (solver.MAX_EPOCHS, solver.WARMUP_EPOCHS, solver.CURRICULUM.STAGE2_EPOCH)
    later = (solver.COSINE_EPOCHS, solver.RESTART.EPOCH, solver.RESTART.WARMUP_EPOCHS)
    if in_epochs and any((*lengths, *later)):
        raise ConfigError(
            "SOLVER.*EPOCH*: this training loader does not tell how long an epoch is; give the "
            "lengths in iterations"
        )
    if solver.MAX_ITER < 1:
        raise ConfigError("SOLVER.MAX_EPOCHS comes to 0 iterations; make it greater")
    if cfg.TEST.EARLY_STOPPING_PATIENCE and not cfg.TEST.EVAL_PERIOD:
        raise ConfigError(
            "TEST.EARLY_STOPPING_PATIENCE needs TEST.EVAL_PERIOD above 0: it counts evaluations"
        )
    if solver.AMP.ENABLED and (solver.AMP.PRECISION, cfg.MODEL.DTYPE) == ("float16", "bfloat16"):
        raise ConfigError(
            "SOLVER.AMP.PRECISION float16 does not go with MODEL.DTYPE bfloat16; use bfloat16 for "
            "both"
        )
    own = {
        "RESTART": solver.RESTART.ITER,
        "COSINE_ITERS or _EPOCHS": solver.COSINE_ITERS,
        "FIRST_STEP_AT_PEAK": solver.FIRST_STEP_AT_PEAK,
    }
    if solver.LR_SCHEDULER_NAME != CURRICULUM_COSINE and (idle := [k for k, v in own.items() if v]):
        raise ConfigError(f"SOLVER.{idle[0]} needs SOLVER.LR_SCHEDULER_NAME {CURRICULUM_COSINE}")
    if solver.CURRICULUM.STAGE2_ITER and not isinstance(model, HasStages):
        raise ConfigError(
            f"SOLVER.CURRICULUM.STAGE2_ITER or _EPOCH: {cfg.MODEL.META_ARCHITECTURE} has no stages"
        )
    warn_of_idle(solver)
    warn_of_idle_training_keys(cfg, model)
    check_training_classes(cfg, model)

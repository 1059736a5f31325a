"""The trainer: Detectron2's default one with this project's data, evaluation and checkpoints."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.d2 import (
    AMPTrainer,
    CfgNode,
    DatasetEvaluator,
    DefaultTrainer,
    SimpleTrainer,
    TrainerBase,
    comm,
)
from detecture.data import build_texture_test_loader, build_texture_train_loader
from detecture.device import is_accelerator
from detecture.engine.evaluate import evaluate
from detecture.errors import ConfigError
from detecture.modeling import build_model

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains any registered meta-arch that returns a dict of losses in training mode."""

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimiser, loader, schedule, checkpointer and hooks from a config.

        Not `DefaultTrainer.__init__`: Detectron2's wraps a model for several processes in a way
        that only accelerators can do, and its checkpointer writes files in place.

        Raises:
            ConfigError: there is no training set, or the model has nothing to train.
        """
        TrainerBase.__init__(self)
        if not cfg.DATASETS.TRAIN:
            raise ConfigError("DATASETS.TRAIN is empty: name a data set, or use --eval-only")
        model = self.build_model(cfg)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(
                f"{cfg.MODEL.META_ARCHITECTURE} has no parameters to train; use --eval-only"
            )
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        wrapped = _distribute(model)
        trainer_type = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer_type(wrapped, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of the config, on its device."""
        return build_model(cfg)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Endless loader of lists of mapped dicts."""
        return build_texture_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Loader over one test set."""
        return build_texture_test_loader(cfg, dataset_name)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
    ) -> OrderedDict[str, Any]:
        """Evaluate the model as it is now; no record of an earlier state is kept."""
        if not cfg.DATASETS.TEST:
            logger.info("DATASETS.TEST is empty: nothing is evaluated")
            return OrderedDict()
        return evaluate(cfg, model, resume=False)


def _distribute(model: nn.Module) -> nn.Module:
    if comm.get_world_size() == 1:
        return model
    on_accelerator = is_accelerator(next(model.parameters()).device)
    device_ids = [comm.get_local_rank()] if on_accelerator else None
    return DistributedDataParallel(model, device_ids=device_ids, broadcast_buffers=False)

"""Evaluate a model on every test set of a config."""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.d2 import (
    CfgNode,
    MetadataCatalog,
    comm,
    inference_on_dataset,
    print_csv_format,
)
from detecture.data import build_texture_test_loader
from detecture.errors import ConfigError
from detecture.evaluation import EVALUATOR_REGISTRY, GuardedModel
from detecture.modeling import build_model

logger = logging.getLogger(__name__)


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config, load MODEL.WEIGHTS, and set it to evaluation.

    A warning says so where MODEL.WEIGHTS is empty and the model has parts that must be trained.

    Raises:
        ConfigError: MODEL.META_ARCHITECTURE is not registered.
        CheckpointError: the weights are missing, damaged or do not fit.
    """
    model = build_model(cfg)
    if not cfg.MODEL.WEIGHTS and hasattr(model, "checkpoint_state"):
        logger.warning(
            "MODEL.WEIGHTS is empty: %s runs with random weights of its trained parts; its answers "
            "mean nothing",
            cfg.MODEL.META_ARCHITECTURE,
        )
    Checkpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    return model.eval()


def evaluate(cfg: CfgNode, model: nn.Module, *, resume: bool = True) -> OrderedDict[str, Any]:
    """Evaluate on every data set of DATASETS.TEST.

    Args:
        cfg: the whole config.
        model: maps mapped dicts to standard outputs.
        resume: keep finished samples of an earlier run where nothing has changed since. Only right
            for a model whose weights come from MODEL.WEIGHTS.

    Returns:
        On the main process `{"texture": {metric: value}}`, or, for several data sets,
        `{"<data set>/texture": ..}`; elsewhere empty.

    Raises:
        ConfigError: DATASETS.TEST is empty, or no evaluator is registered for a data set.
        DatasetError: a data set is missing or malformed.
        EvaluationError: the method fails on and on, or records cannot be written.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: name a data set, such as '(\"rwtd\",)'")
    results: OrderedDict[str, Any] = OrderedDict()
    for name in cfg.DATASETS.TEST:
        for task, metrics in evaluate_dataset(cfg, model, name, resume=resume).items():
            results[task if len(cfg.DATASETS.TEST) == 1 else f"{name}/{task}"] = metrics
    if comm.is_main_process():
        print_csv_format(results)
    return results


def evaluate_dataset(
    cfg: CfgNode, model: nn.Module, dataset_name: str, *, resume: bool = True
) -> Mapping[str, Any]:
    """Evaluate on one registered data set; see `evaluate`.

    The records and the summary go to `OUTPUT_DIR/inference/<data set>`.
    """
    folder = Path(cfg.OUTPUT_DIR) / "inference" / dataset_name
    evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if evaluator_type not in EVALUATOR_REGISTRY:
        known = ", ".join(sorted(name for name, _ in EVALUATOR_REGISTRY))
        raise ConfigError(
            f"DATASETS.TEST: no evaluator is registered for {dataset_name!r}, whose evaluator_type "
            f"is {evaluator_type!r}; known are {known}"
        )
    evaluator = EVALUATOR_REGISTRY.get(evaluator_type)(cfg, dataset_name, folder, resume=resume)
    loader = build_texture_test_loader(cfg, dataset_name, skip_ids=evaluator.finished_ids)
    if isinstance(model, DistributedDataParallel):
        model = model.module
    guarded = GuardedModel(model, cfg.TEST.MAX_FAILURES_IN_A_ROW).train(model.training)
    return inference_on_dataset(guarded, loader, evaluator)

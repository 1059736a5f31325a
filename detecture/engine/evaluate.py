"""Evaluate a model on every test set of a config."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.checkpoint.protocol import KeepsState
from detecture.config.sections.declaring import did_you_mean
from detecture.d2 import (
    CfgNode,
    DatasetEvaluator,
    MetadataCatalog,
    comm,
    inference_on_dataset,
    print_csv_format,
)
from detecture.data import build_test_loader, load_test_records
from detecture.engine.class_check import check_test_classes
from detecture.engine.data_check import require_files, warn_without_words
from detecture.errors import ConfigError, EvaluationError, brief
from detecture.evaluation import EVALUATOR_REGISTRY, GuardedModel
from detecture.evaluation.evaluator import METRICS_OF
from detecture.evaluation.records import records_lock
from detecture.jobs.together import in_all_processes
from detecture.modeling import build_model
from detecture.modeling.meta_arch.protocol import ChoosesGranularity
from detecture.modeling.weights.random_weights import seeded

logger = logging.getLogger(__name__)


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the model of a config, load MODEL.WEIGHTS, and set it to evaluation.

    Warns if MODEL.WEIGHTS is empty and the model has parts that must be trained.

    Raises:
        ConfigError: MODEL.META_ARCHITECTURE is not registered, or does not know TEST.GRANULARITY.
        CheckpointError: the weights are missing, damaged or do not fit.
    """
    # The same in every process and every run, whatever random numbers were drawn before.
    with nullcontext() if cfg.MODEL.WEIGHTS else seeded(cfg.MODEL.RANDOM_WEIGHTS_SEED):
        model = build_model(cfg)
    if cfg.TEST.GRANULARITY:
        require_choice(model, "TEST.GRANULARITY")
    if not cfg.MODEL.WEIGHTS and isinstance(model, KeepsState):
        logger.warning(
            "MODEL.WEIGHTS is empty: %s runs with random weights of its trained parts; its answers "
            "mean nothing",
            cfg.MODEL.META_ARCHITECTURE,
        )
    Checkpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    return model.eval()


def require_choice(model: nn.Module, name: str) -> None:
    """Refuse a granularity where the model cannot choose among divisions.

    Args:
        model: that is asked.
        name: what the user calls it.

    Raises:
        ConfigError: names the model.
    """
    if not isinstance(model, ChoosesGranularity):
        raise ConfigError(
            f"{name}: {type(model).__name__} has no choice of coarser and finer divisions, as "
            "TextureGrouping has; leave it out"
        )


def evaluate(
    cfg: CfgNode, model: nn.Module | Callable[[], nn.Module], *, resume: bool = True
) -> OrderedDict[str, Any]:
    """Evaluate on every data set of DATASETS.TEST.

    Args:
        cfg: the whole config.
        model: maps mapped dicts to standard outputs; or a function that returns such a model,
            called for each data set that still has samples to evaluate.
        resume: keep finished samples of an earlier run where nothing has changed since. Only valid
            for a model whose weights come from MODEL.WEIGHTS.

    Returns:
        On the main process `{"texture": {metric: value}}`, or, for several data sets,
        `{"<data set>/texture": ..}`; elsewhere empty.

    Raises:
        ConfigError: DATASETS.TEST is empty, no evaluator is registered for a data set, or the
            model cannot be asked for its classes.
        DatasetError: a data set is missing or malformed.
        EvaluationError: the method keeps failing, or records cannot be written.
    """
    if not cfg.DATASETS.TEST:
        raise ConfigError("DATASETS.TEST is empty: name a data set, such as '(\"rwtd\",)'")
    if resume:  # a training checked this before its first iteration
        check_test_sets(cfg)
    results: OrderedDict[str, Any] = OrderedDict()
    failures: list[str] = []
    for name in cfg.DATASETS.TEST:
        found, failed = _evaluated(cfg, model, name, resume)
        failures += [failed] if failed else []
        for task, metrics in found.items():
            results[task if len(cfg.DATASETS.TEST) == 1 else f"{name}/{task}"] = metrics
    if comm.is_main_process():
        print_csv_format(results)
    for failed in failures:  # last, where a reader of the figures looks
        logger.warning("%s", failed)
    return results


def evaluate_dataset(
    cfg: CfgNode,
    model: nn.Module | Callable[[], nn.Module],
    dataset_name: str,
    *,
    resume: bool = True,
) -> Mapping[str, Any]:
    """Evaluate on one registered data set; see `evaluate`.

    The records and the summary go to `OUTPUT_DIR/inference/<data set>`. If one of several processes
    fails, all of them raise an error.
    """
    return _evaluated(cfg, model, dataset_name, resume)[0]


def _evaluated(
    cfg: CfgNode, model: nn.Module | Callable[[], nn.Module], dataset_name: str, resume: bool
) -> tuple[Mapping[str, Any], str]:
    """The results of one data set, and on the main process how many images failed, in words."""
    evaluator_type = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if evaluator_type not in EVALUATOR_REGISTRY:
        known = ", ".join(sorted(name for name, _ in EVALUATOR_REGISTRY))
        raise ConfigError(
            f"DATASETS.TEST: no evaluator is registered for {dataset_name!r}, whose evaluator_type "
            f"is {evaluator_type!r}; known are {known}"
        )
    build = EVALUATOR_REGISTRY.get(evaluator_type)
    evaluator = build(cfg, dataset_name, _folder(cfg, dataset_name), resume=resume)
    try:
        with in_all_processes(EvaluationError):
            loader = build_test_loader(cfg, dataset_name, skip_ids=evaluator.finished_ids)
            records = load_test_records(dataset_name, cfg.TEST.LIMIT)
            if cfg.TEST.ORACLE:
                warn_without_words(dataset_name, records, "TEST.ORACLE tells the method nothing")
            if isinstance(model, nn.Module) or len(evaluator.finished_ids) < len(records):
                guarded = _guarded(cfg, model, dataset_name)
                inference_on_dataset(guarded, loader, _WithoutResults(evaluator))
        return evaluator.evaluate() or {}, getattr(evaluator, "failures", "")
    except BaseException:
        # The next evaluation, even in this process, must find the folder free.
        if hasattr(evaluator, "close"):
            evaluator.close()
        raise


def _guarded(
    cfg: CfgNode, model: nn.Module | Callable[[], nn.Module], dataset_name: str
) -> GuardedModel:
    built: nn.Module = model if isinstance(model, nn.Module) else model()
    if isinstance(built, DistributedDataParallel):
        built = built.module
    check_test_classes(cfg, built, dataset_name)
    return GuardedModel(built, cfg.TEST.MAX_FAILURES_IN_A_ROW).train(built.training)


class _WithoutResults(DatasetEvaluator):
    """Passes every call on to an evaluator; before asking for results, all processes meet."""

    def __init__(self, evaluator: DatasetEvaluator) -> None:
        self._evaluator = evaluator

    def reset(self) -> None:
        self._evaluator.reset()

    def process(self, inputs: Any, outputs: Any) -> None:
        self._evaluator.process(inputs, outputs)


def measured_names(cfg: CfgNode) -> frozenset[str] | None:
    """Names under which the results of `evaluate` are logged, such as `texture/mIoU`.

    None where an evaluator cannot tell before it runs.
    """
    names: set[str] = set()
    for dataset in cfg.DATASETS.TEST:
        task = MetadataCatalog.get(dataset).get("evaluator_type")
        if task not in METRICS_OF:
            return None
        prefix = task if len(cfg.DATASETS.TEST) == 1 else f"{dataset}/{task}"
        names |= {f"{prefix}/{metric}" for metric in METRICS_OF[task]}
    return frozenset(names)


def check_test_sets(cfg: CfgNode) -> None:
    """Check, before long work that ends with an evaluation, that the data sets are there.

    Raises:
        ConfigError: a data set has no evaluator, or TEST.EXPECTED_RESULTS names a metric that no
            evaluator measures.
        DatasetError: a data set is missing or malformed, or all of its files are missing.
    """
    for name in cfg.DATASETS.TEST:
        require_files(name, load_test_records(name, cfg.TEST.LIMIT))
        evaluator_type = MetadataCatalog.get(name).get("evaluator_type")
        if evaluator_type not in EVALUATOR_REGISTRY:
            raise ConfigError(
                f"DATASETS.TEST: no evaluator is registered for {name}, whose evaluator_type is "
                f"{evaluator_type!r}; leave it out, or register one in EVALUATOR_REGISTRY"
            )

    measured = measured_names(cfg)
    for task, metric, *_ in cfg.TEST.EXPECTED_RESULTS:
        if measured is not None:
            require_measured("TEST.EXPECTED_RESULTS", f"{task}/{metric}", measured)


def require_measured(key: str, name: str, measured: frozenset[str]) -> None:
    """Refuse a metric that no evaluation of the data sets measures.

    Args:
        key: the config key that names the metric.
        name: the metric, such as `texture/mIoU`.
        measured: the result of `measured_names`.

    Raises:
        ConfigError: none of them measures it; the text suggests which name may be meant.
    """
    if name in measured:
        return
    meant = did_you_mean(name, sorted(measured))
    known = ", ".join(sorted(measured)) or "losses alone, because DATASETS.TEST is empty"
    raise ConfigError(f"{key} {brief(name)} is not measured{meant}; measured are {known}")


def check_folders(cfg: CfgNode) -> None:
    """Check that the records of an evaluation can be written (in the main process).

    Raises:
        EvaluationError: a folder cannot be written to.
    """
    for name in cfg.DATASETS.TEST:
        lock = records_lock(_folder(cfg, name))
        if lock.is_busy():
            logger.warning(
                "%s: an evaluation is running there; as long as it does, those of this training "
                "are left out",
                lock.folder,
            )
            continue
        with lock:
            pass


def _folder(cfg: CfgNode, dataset_name: str) -> Path:
    return Path(cfg.OUTPUT_DIR) / "inference" / dataset_name

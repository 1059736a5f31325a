"""The Detectron2 API of this project: `from detecture.d2 import ...`.

With detectron2 installed these are detectron2's own objects, otherwise those of
`detecture.d2.lite`. The environment variable `DETECTURE_D2` (`lite` or `detectron2`) forces one.
"""

import importlib.util
import os
from typing import TYPE_CHECKING


def _pick_backend() -> str:
    forced = os.environ.get("DETECTURE_D2") or None
    if forced not in (None, "lite", "detectron2"):
        raise ImportError(f"DETECTURE_D2 is {forced!r}; set it to lite or detectron2, or unset it")
    if forced == "lite":
        return "lite"
    spec = importlib.util.find_spec("detectron2")
    # A mere folder of that name, such as a source checkout beside the script, has no origin.
    if spec is not None and spec.origin is not None:
        return "detectron2"
    if forced == "detectron2":
        raise ImportError(
            "DETECTURE_D2 is detectron2, but detectron2 is not installed; install it "
            "(https://detectron2.readthedocs.io/tutorials/install.html) or unset DETECTURE_D2"
        )
    return "lite"


BACKEND = _pick_backend()
"""Which one is active: `lite` or `detectron2`. For diagnostics only."""

if TYPE_CHECKING or BACKEND == "lite":
    from detecture.d2.lite import (
        META_ARCH_REGISTRY,
        SEM_SEG_HEADS_REGISTRY,
        AMPTrainer,
        CfgNode,
        CommonMetricPrinter,
        DatasetCatalog,
        DatasetEvaluator,
        DatasetEvaluators,
        DefaultPredictor,
        DefaultTrainer,
        DetectionCheckpointer,
        EventStorage,
        InferenceSampler,
        JSONWriter,
        MetadataCatalog,
        PeriodicCheckpointer,
        Registry,
        SemSegEvaluator,
        SimpleTrainer,
        TensorboardXWriter,
        TrainerBase,
        TrainingSampler,
        build_detection_test_loader,
        build_detection_train_loader,
        build_lr_scheduler,
        build_model,
        build_optimizer,
        collect_env_info,
        comm,
        configurable,
        default_argument_parser,
        default_setup,
        get_cfg,
        get_event_storage,
        hooks,
        inference_on_dataset,
        launch,
        print_csv_format,
        setup_logger,
        verify_results,
    )
else:
    try:
        from detecture.d2.full import (
            META_ARCH_REGISTRY,
            SEM_SEG_HEADS_REGISTRY,
            AMPTrainer,
            CfgNode,
            CommonMetricPrinter,
            DatasetCatalog,
            DatasetEvaluator,
            DatasetEvaluators,
            DefaultPredictor,
            DefaultTrainer,
            DetectionCheckpointer,
            EventStorage,
            InferenceSampler,
            JSONWriter,
            MetadataCatalog,
            PeriodicCheckpointer,
            Registry,
            SemSegEvaluator,
            SimpleTrainer,
            TensorboardXWriter,
            TrainerBase,
            TrainingSampler,
            build_detection_test_loader,
            build_detection_train_loader,
            build_lr_scheduler,
            build_model,
            build_optimizer,
            collect_env_info,
            comm,
            configurable,
            default_argument_parser,
            default_setup,
            get_cfg,
            get_event_storage,
            hooks,
            inference_on_dataset,
            launch,
            print_csv_format,
            setup_logger,
            verify_results,
        )
    except ImportError as error:
        raise ImportError(
            f"detectron2 is installed but cannot be imported: {error}. Mend it, or set "
            "DETECTURE_D2=lite to do without it"
        ) from error

__all__ = [
    "BACKEND",
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "AMPTrainer",
    "CfgNode",
    "CommonMetricPrinter",
    "DatasetCatalog",
    "DatasetEvaluator",
    "DatasetEvaluators",
    "DefaultPredictor",
    "DefaultTrainer",
    "DetectionCheckpointer",
    "EventStorage",
    "InferenceSampler",
    "JSONWriter",
    "MetadataCatalog",
    "PeriodicCheckpointer",
    "Registry",
    "SemSegEvaluator",
    "SimpleTrainer",
    "TensorboardXWriter",
    "TrainerBase",
    "TrainingSampler",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "build_lr_scheduler",
    "build_model",
    "build_optimizer",
    "collect_env_info",
    "comm",
    "configurable",
    "default_argument_parser",
    "default_setup",
    "get_cfg",
    "get_event_storage",
    "hooks",
    "inference_on_dataset",
    "launch",
    "print_csv_format",
    "setup_logger",
    "verify_results",
]

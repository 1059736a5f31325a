"""The Detectron2 API without detectron2, on fvcore, iopath, torch and tensorboard.

The same names, signatures and plain behaviour, as far as this project calls them.
"""

# ruff: noqa: F401 - the imports are the names that `detecture.d2` hands on (detecture/d2/names.py).

from fvcore.common.registry import Registry

from . import comm, hooks
from .catalog import DatasetCatalog, MetadataCatalog
from .checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from .collect_env import collect_env_info
from .config import CfgNode, configurable, get_cfg
from .defaults import DefaultPredictor, DefaultTrainer, default_argument_parser, default_setup
from .evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from .events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)
from .file_io import PathManager
from .launching import launch
from .loaders import build_detection_test_loader, build_detection_train_loader
from .logger import setup_logger
from .registry import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model
from .samplers import InferenceSampler, TrainingSampler
from .sem_seg_evaluation import SemSegEvaluator
from .solver import build_lr_scheduler, build_optimizer
from .train_loop import AMPTrainer, SimpleTrainer, TrainerBase

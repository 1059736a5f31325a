"""The default trainer and predictor.

Legend: H, W size of an image; h, w the size that the model sees.
"""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from detecture.device import is_accelerator

from . import comm, hooks
from .catalog import MetadataCatalog
from .checkpoint import DetectionCheckpointer
from .command_line import default_argument_parser, default_setup
from .config import CfgNode
from .evaluation import (
    DatasetEvaluator,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from .events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from .loaders import build_detection_test_loader, build_detection_train_loader
from .logger import setup_logger
from .registry import build_model
from .solver import build_lr_scheduler, build_optimizer
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]

logger = logging.getLogger(__name__)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the log, to `metrics.json` and for tensorboard, the latter two in `output_dir`."""
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(str(Path(output_dir) / "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def create_ddp_model(model: nn.Module, **kwargs: Any) -> nn.Module:
    """Wrap a model in `DistributedDataParallel`, if there are several processes.

    Args:
        model: on the device of this process, or on the CPU.
        kwargs: arguments of `DistributedDataParallel`.
    """
    if comm.get_world_size() == 1:
        return model
    if is_accelerator(next(model.parameters()).device):
        kwargs.setdefault("device_ids", [comm.get_local_rank()])
    return DistributedDataParallel(model, **kwargs)


class DefaultPredictor:
    """Runs the configured model, with its weights, on one image at a time.

    Args:
        cfg: MODEL.WEIGHTS is loaded; INPUT.FORMAT is the channel order that the model expects;
            images are resized to INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.

    Raises:
        ValueError: INPUT.FORMAT is neither "RGB" nor "BGR".
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()  # a model may change its config
        if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
            raise ValueError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; use 'RGB' or 'BGR'")
        self.input_format = cfg.INPUT.FORMAT
        self.model = build_model(self.cfg)
        self.model.eval()
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)

    def __call__(self, original_image: np.ndarray) -> Any:
        """Predict.

        Args:
            original_image: (H,W,3), channels in the order BGR, as OpenCV reads them.

        Returns:
            The model's output for this image. The model is given one dict with `image`, a
            float32 tensor (3,h,w) in the order INPUT.FORMAT, and `height` and `width`, H and W.
        """
        height, width = original_image.shape[:2]
        image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
        image = _resize(image, self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST)
        image_3hw = torch.as_tensor(image.astype("float32").transpose(2, 0, 1))
        with torch.no_grad():
            return self.model([{"image": image_3hw, "height": height, "width": width}])[0]


def _resize(image: np.ndarray, shorter: int, most: int) -> np.ndarray:
    """An image (H,W,3) to one (h,w,3) whose shorter side has `shorter` pixels; 0: as it is.

    It is smaller if the longer side would otherwise exceed `most`.
    """
    if not shorter:
        return image
    sides = np.array(image.shape[:2]) * (shorter / min(image.shape[:2]))
    sides *= min(1.0, most / sides.max())
    height, width = (int(side + 0.5) for side in sides)
    if image.dtype == np.uint8:
        resized = Image.fromarray(np.ascontiguousarray(image))
        return np.asarray(resized.resize((width, height), Image.Resampling.BILINEAR))
    image_13HW = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    image_13hw = functional.interpolate(image_13HW, (height, width), mode="bilinear")
    return image_13hw[0].permute(1, 2, 0).numpy()


class DefaultTrainer(TrainerBase):
    """Trains the configured model as the config says.

    Use it as `trainer.resume_or_load(resume); trainer.train()`. Override the class methods for
    another model, optimiser, loader or evaluator. As in Detectron2, the inner trainer that does the
    step has no hooks, so `after_backward` of the hooks registered here is not called.

    Attributes:
        model, data_loader, optimizer: those of the inner trainer.
        scheduler: stepped by the hook `LRScheduler`.
        checkpointer: saves model, optimiser, schedule and iteration.
        cfg: the config.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logger.isEnabledFor(logging.INFO):  # default_setup was not called
            setup_logger(distributed_rank=comm.get_rank(), name="detecture")
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        trainer_type = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = trainer_type(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._last_eval_results: Mapping[str, Any] | None = None
        self.register_hooks(self.build_hooks())

    @property
    def model(self) -> nn.Module:
        """The model, wrapped for several processes if there are several."""
        return self._trainer.model

    @model.setter
    def model(self, model: nn.Module) -> None:
        self._trainer.model = model

    @property
    def data_loader(self) -> Any:
        """The training loader."""
        return self._trainer.data_loader

    @data_loader.setter
    def data_loader(self, data_loader: Any) -> None:
        self._trainer.data_loader = data_loader

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser."""
        return self._trainer.optimizer

    @optimizer.setter
    def optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        self._trainer.optimizer = optimizer

    def resume_or_load(self, resume: bool = True) -> None:
        """Load what training starts from.

        Args:
            resume: if OUTPUT_DIR has a checkpoint, take all of it, go on after its iteration and
                do not read MODEL.WEIGHTS. Otherwise, or without one, only the weights of
                MODEL.WEIGHTS are loaded and training starts at iteration 0.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            # The checkpoint names the iteration that was finished.
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[HookBase | None]:
        """Time, learning rate, checkpoints, evaluation, writers, in this order.

        Evaluation comes after the checkpoint, which therefore exists if evaluation fails; the
        writers come last and also write its results.
        """
        trainer = weakref.proxy(self)  # a hook must not keep the trainer alive

        def test_and_save_results() -> Mapping[str, Any]:
            trainer._last_eval_results = trainer.test(trainer.cfg, trainer.model)
            return trainer._last_eval_results

        built: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            period = self.cfg.SOLVER.CHECKPOINT_PERIOD
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, period))
        built.append(hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, test_and_save_results))
        if comm.is_main_process():
            built.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return built

    def build_writers(self) -> list[EventWriter]:
        """The writers of `default_writers`."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> Mapping[str, Any] | None:  # type: ignore[override]
        """Train from `start_iter` to `max_iter`.

        Returns:
            In the main process, if TEST.EXPECTED_RESULTS is set, the last evaluation's results;
            otherwise None.

        Raises:
            SystemExit: with status 1, if TEST.EXPECTED_RESULTS are missed.
        """
        super().train(self.start_iter, self.max_iter)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        # Nothing was evaluated: every expected result is missing, and so missed.
        results = self._last_eval_results or {}
        verify_results(self.cfg, results)
        return results

    def run_step(self) -> None:
        """One iteration of the inner trainer."""
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        """State of the iteration, the hooks and the inner trainer."""
        state = super().state_dict()
        state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of the config, on its device."""
        model = build_model(cfg)
        logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the config."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The schedule of the config."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Endless loader of training batches."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Loader over one test data set."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str
    ) -> DatasetEvaluator | list[DatasetEvaluator] | None:
        """Evaluator of one test data set; to be overridden.

        Raises:
            NotImplementedError: here.
        """
        raise NotImplementedError(
            f"{cls.__name__}.build_evaluator(cfg, dataset_name) must return the evaluator of "
            f"{dataset_name!r}: override it, or call test(cfg, model, evaluators=[...])"
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
    ) -> "OrderedDict[str, Any]":
        """Evaluate on every data set of DATASETS.TEST.

        Args:
            cfg: the config.
            model: the model.
            evaluators: one for each data set; by default those of `build_evaluator`.

        Returns:
            Results by data set; those of the data set itself if there is only one.

        Raises:
            ValueError: the number of evaluators is not that of the data sets.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(f"{len(evaluators)} evaluators for DATASETS.TEST {tuple(names)}")
        results: OrderedDict[str, Any] = OrderedDict()
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                logger.warning("%s is not evaluated. %s", name, error)
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Fit a config for SOLVER.REFERENCE_WORLD_SIZE processes to another number of them.

        The batch of one process stays the same: IMS_PER_BATCH and BASE_LR grow with the number of
        processes, and all numbers of iterations shrink.

        Args:
            cfg: is not changed.
            num_workers: number of processes.

        Returns:
            A new config; `cfg` itself if REFERENCE_WORLD_SIZE is 0 or `num_workers`.

        Raises:
            ValueError: IMS_PER_BATCH is not a multiple of REFERENCE_WORLD_SIZE.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        if cfg.SOLVER.IMS_PER_BATCH % reference:
            raise ValueError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is no multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )
        scaled = cfg.clone()
        scaled.defrost()
        solver, scale = scaled.SOLVER, num_workers / reference
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR *= scale
        for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
            solver[key] = round(solver[key] / scale)
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        scaled.TEST.EVAL_PERIOD = round(scaled.TEST.EVAL_PERIOD / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logger.info(
            "Scaled from %d to %d processes: IMS_PER_BATCH %d, BASE_LR %g, MAX_ITER %d, STEPS %s, "
            "WARMUP_ITERS %d",
            reference,
            num_workers,
            solver.IMS_PER_BATCH,
            solver.BASE_LR,
            solver.MAX_ITER,
            solver.STEPS,
            solver.WARMUP_ITERS,
        )
        if cfg.is_frozen():
            scaled.freeze()
        return scaled

"""The trainer: Detectron2's default one with this project's data, steps and checkpoints."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.d2 import (
    CfgNode,
    DatasetEvaluator,
    DefaultTrainer,
    JSONWriter,
    TensorboardXWriter,
    TrainerBase,
    comm,
    hooks,
    verify_results,
)
from detecture.data import build_test_loader, build_train_loader, load_registered
from detecture.data.build import stream_of
from detecture.engine.accumulation import AccumulatingTrainer
from detecture.engine.curriculum import CurriculumHook, ScheduleHook, distribute, enter_stage
from detecture.engine.data_check import require_files, warn_without_words
from detecture.engine.evaluate import check_folders, check_test_sets, evaluate, measured_names
from detecture.engine.optimizer import build_training_optimizer
from detecture.engine.plan import check_plan
from detecture.engine.resumed import (
    data_of,
    refuse_weights_of_own_folder,
    warn_of_changes,
    warn_of_other_data,
)
from detecture.engine.run_folder import (
    METRICS,
    MetricPrinter,
    RunWriters,
    is_half_set_aside,
    reserved,
    set_run_aside,
    trim_metrics,
    where_to_go_on,
    write_config,
)
from detecture.engine.schedule import (
    CURRICULUM_COSINE,
    CurriculumCosine,
    detectron2_schedule,
    resolve_epochs,
)
from detecture.engine.validation import EarlyStop, ValidationHook
from detecture.errors import CheckpointError, ConfigError, EvaluationError
from detecture.jobs.signals import end_signals
from detecture.jobs.together import in_all_processes
from detecture.modeling import build_model

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains any registered meta-arch that returns a dict of losses in training mode.

    For what else a model may offer see `detecture.modeling.meta_arch.protocol`; for the effect see
    `AccumulatingTrainer`, `build_training_optimizer` and `CurriculumHook`.

    A run that is killed at any point and resumed has the losses of an uninterrupted one: they
    depend only on the seed, the iteration and the contents of the last checkpoint.

    Attributes:
        cfg: the config, with every length in iterations.
        seed: seed for data, augmentation and dropout; kept in the checkpoints.
    """

    def __init__(self, cfg: CfgNode) -> None:
        """Build model, optimiser, loader, schedule, checkpointer and hooks from a config.

        Does not call `DefaultTrainer.__init__`: Detectron2's wraps a model for several processes in
        a way that only works on accelerators, and its checkpointer writes files in place.

        Raises:
            ConfigError: there is no training set or output folder, the model has nothing to train,
                or training is impossible with a value of SOLVER or TEST.
            DatasetError: a data set of DATASETS.TEST is missing or malformed.
        """
        TrainerBase.__init__(self)
        self._given_config: str = cfg.dump()
        if not cfg.DATASETS.TRAIN:
            raise ConfigError("DATASETS.TRAIN is empty: name a data set, or use --eval-only")
        if not cfg.OUTPUT_DIR:
            raise ConfigError("OUTPUT_DIR is empty: name a folder for the checkpoints")
        if self._has_usual_test():
            check_test_sets(cfg)
        training = {name: load_registered(name) for name in cfg.DATASETS.TRAIN}
        for name, records in training.items():
            require_files(name, records)
            warn_without_words(name, records, "what a model learns of them is no language")
        model = self.build_model(cfg)
        enter_stage(model, 2)  # the optimiser has all that will ever train
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError(
                f"{cfg.MODEL.META_ARCHITECTURE} has no parameters to train; use --eval-only"
            )
        data_loader = self.build_train_loader(cfg)
        self._stream = stream_of(data_loader)
        if self._stream is not None:
            cfg = resolve_epochs(cfg, self._stream.size)
            self.seed = self._stream.seed
        else:
            self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        check_plan(cfg, model, in_epochs=self._stream is None)
        optimizer = self.build_optimizer(cfg, model)
        stages = CurriculumHook(cfg.SOLVER.CURRICULUM.STAGE2_ITER)
        enter_stage(model, stages.stage_at(0), optimizer)
        self._trainer = AccumulatingTrainer(
            distribute(model),
            data_loader,
            optimizer,
            cfg=cfg,
            seed=self.seed,
            precision=autocast_precision(cfg, next(model.parameters()).device),
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            config=cfg.dump(),
            keep=cfg.SOLVER.KEEP_CHECKPOINTS,
            trainer=weakref.proxy(self),
        )
        self._data = data_of(training)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._last_eval_results: Mapping[str, Any] | None = {}
        self._resumes = False
        self.register_hooks([stages, *self.build_hooks()])

    def resume_or_load(self, resume: bool = True) -> None:
        """Load what training starts from.

        Args:
            resume: if OUTPUT_DIR has a checkpoint, load the newest intact one completely and
                continue after its iteration. If it has none, or without `resume`, only the weights
                of MODEL.WEIGHTS are loaded and training starts at iteration 0.

        Raises:
            ConfigError: MODEL.WEIGHTS belongs to the run that this one sets aside.
            CheckpointError: none of the existing files can be used, or the processes read different
                checkpoints.
        """
        folder = Path(self.cfg.OUTPUT_DIR)
        resume = resume and not is_half_set_aside(folder)
        goes_on = resume and self.checkpointer.has_checkpoint()
        if not goes_on:
            refuse_weights_of_own_folder(self.cfg.MODEL.WEIGHTS, folder)
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if goes_on:
            warn_of_changes(self.cfg, self.checkpointer.resumed_config)
            self.start_iter = self.iter + 1  # the checkpoint names the last finished iteration
        starts = comm.all_gather(self.start_iter)
        if len(set(starts)) > 1:
            raise CheckpointError(
                f"OUTPUT_DIR {self.cfg.OUTPUT_DIR}: the processes found different checkpoints, and "
                f"would start at the iterations {starts}; all machines must see the same folder"
            )
        self._resumes = resume

    def train(self) -> Mapping[str, Any] | None:  # type: ignore[override]
        """Train from `start_iter` to the end, or until TEST.EARLY_STOPPING_PATIENCE ends it.

        Returns:
            In the main process, if TEST.EXPECTED_RESULTS is set, the last evaluation's results;
            otherwise None.

        Raises:
            ConfigError: another training runs in OUTPUT_DIR.
            EvaluationError: a folder for records cannot be written to (raised before training
                starts); or the evaluation after the last iteration failed (raised when all else is
                done).
            CheckpointError: the finished weights cannot be written.
            FloatingPointError: a loss or a gradient is not finite.
            KeyboardInterrupt: this process was asked to stop (SIGINT, SIGTERM, SIGHUP) and the
                training so far is saved; the text says where `--resume` continues.
            SystemExit: with status 1, if TEST.EXPECTED_RESULTS are missed.
        """
        if self._stream is not None:
            self._stream.start_iteration = self.start_iter
        folder = Path(self.cfg.OUTPUT_DIR)
        with reserved(folder):
            with in_all_processes(ConfigError):
                if comm.is_main_process():
                    self._take_over(folder)
            try:
                with end_signals.heard():
                    TrainerBase.train(self, self.start_iter, self.max_iter)
            except EarlyStop:
                logger.info("Training is done at iteration %d", self.iter)
            except KeyboardInterrupt as error:
                saved = self._validation.saved
                start = self.start_iter if saved is None else saved + 1
                raise KeyboardInterrupt(where_to_go_on(folder, start, self.max_iter)) from error
        if self._validation.failure:
            raise EvaluationError(
                f"{folder}: the training is done and its weights are saved, but the last "
                f"evaluation failed ({self._validation.failure}); run the same command with "
                "--resume, which evaluates them"
            )
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        # Nothing was evaluated, so every expected result is missing and counts as missed.
        results = self._last_eval_results or {}
        verify_results(self.cfg, results)
        return results

    def _take_over(self, folder: Path) -> None:
        """Tidy a reserved folder; only now is it certain that this training will run."""
        if self._has_usual_test():
            check_folders(self.cfg)
        if self._resumes:
            self.checkpointer.repair()
        else:
            set_run_aside(folder)
        write_config(folder, self._given_config)

    @classmethod
    def _has_usual_test(cls) -> bool:
        """Whether no subclass or caller has replaced the `test` below."""
        return getattr(cls.test, "__func__", None) is _TEST

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Time, learning rate, then `ValidationHook`'s work; the metrics close last."""
        trainer = weakref.proxy(self)  # a hook must not keep the trainer alive

        test_cfg = self.cfg
        if test_cfg.TEST.ORACLE_IN_TRAINING:
            test_cfg = self.cfg.clone()
            test_cfg.defrost()
            test_cfg.TEST.ORACLE = True

        def test_and_save_results() -> Mapping[str, Any]:
            trainer._last_eval_results = trainer.test(test_cfg, trainer.model)
            return trainer._last_eval_results

        writers = RunWriters(lambda: trainer.build_writers())
        measured = measured_names(self.cfg) if self._has_usual_test() else None
        validation = self._validation = ValidationHook(
            self.cfg, test_and_save_results, self.checkpointer, writers, measured
        )

        def open_metrics(_: Any) -> None:
            owed = validation.owed_iteration()
            start = trainer.start_iter if owed is None else owed
            with in_all_processes(ConfigError):
                if comm.is_main_process():
                    trim_metrics(Path(trainer.cfg.OUTPUT_DIR) / METRICS, start)
                    writers.open()

        schedule: hooks.HookBase = hooks.LRScheduler()
        if isinstance(self.scheduler, CurriculumCosine):
            schedule = ScheduleHook(self.scheduler)
        return [
            hooks.IterationTimer(),
            schedule,
            hooks.CallbackHook(before_train=open_metrics),
            validation,
            hooks.CallbackHook(after_train=lambda _: writers.close()),
        ]

    def build_writers(self) -> list[Any]:
        """Writers to the log, to `metrics.json` and for tensorboard."""
        folder = self.cfg.OUTPUT_DIR
        return [
            MetricPrinter(self.max_iter),
            JSONWriter(str(Path(folder) / METRICS)),
            # Hides what a killed run wrote from this iteration on.
            TensorboardXWriter(folder, purge_step=self.start_iter),
        ]

    def state_dict(self) -> dict[str, Any]:
        """Iteration, hooks, optimiser and its kind, seed, contents of the data sets."""
        own = {"seed": self.seed, "optimizer_kind": type(self.optimizer).__name__}
        return {**super().state_dict(), **own, "data": self._data}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; a SEED set in the config is kept.

        Raises:
            ConfigError: the state belongs to another kind of optimiser.
        """
        kind = type(self.optimizer).__name__
        if (due := state_dict.get("optimizer_kind", kind)) != kind:
            # Not a CheckpointError: an older checkpoint of the run would not fit either.
            raise ConfigError(
                f"SOLVER.OPTIMIZER is {kind}, but the run that is resumed was trained with {due}; "
                "set it to that, or start anew without --resume"
            )
        super().load_state_dict(state_dict)
        warn_of_other_data(self._data, state_dict.get("data"))
        seed = state_dict.get("seed", self.seed)
        if self.cfg.SEED >= 0 and seed != self.seed:
            logger.warning("SEED is %d; the checkpoint was made with %d", self.seed, seed)
            return
        step: Any = self._trainer
        self.seed = step.seed = seed
        if self._stream is not None:
            self._stream.seed = seed

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model of the config, on its device."""
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the config."""
        return build_training_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """The schedule of the config.

        Raises:
            ConfigError: its values do not go together.
        """
        if cfg.SOLVER.LR_SCHEDULER_NAME == CURRICULUM_COSINE:
            return CurriculumCosine.from_config(cfg)
        try:
            return super().build_lr_scheduler(detectron2_schedule(cfg), optimizer)
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"SOLVER.LR_SCHEDULER_NAME: {error}") from error

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Endless loader of lists of mapped dicts."""
        return build_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Loader over one test set."""
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Sequence[DatasetEvaluator] | DatasetEvaluator | None = None,
    ) -> OrderedDict[str, Any]:
        """Evaluate the model as it is now; records of earlier states are not reused."""
        if not cfg.DATASETS.TEST:
            logger.info("DATASETS.TEST is empty: nothing is evaluated")
            return OrderedDict()
        return evaluate(cfg, model, resume=False)


_TEST = vars(Trainer)["test"].__func__


def autocast_precision(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """Number format of SOLVER.AMP on a device; None: full precision."""
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.SOLVER.AMP.PRECISION == "float16":
        return torch.float16
    check = getattr(torch.get_device_module(device), "is_bf16_supported", None)
    # Emulated bfloat16 is slower than float32 and no more exact.
    if check is not None and not check(including_emulation=False):
        logger.warning(
            "SOLVER.AMP.PRECISION bfloat16: %s has none, training goes on in float32", device
        )
        return None
    return torch.bfloat16

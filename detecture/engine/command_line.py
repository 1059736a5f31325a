"""What the command lines share: arguments, set-up of a run, processes, exit status."""

import argparse
import logging
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import torch.distributed as dist
import torch.multiprocessing as mp

from detecture.checkpoint.search import find_checkpoint, newest_sound
from detecture.checkpoint.shipped import locate
from detecture.config import make_config
from detecture.d2 import CfgNode, comm, default_argument_parser, default_setup, launch, setup_logger
from detecture.data import (
    register_dataset_json,
    register_semantic_folder,
    require_registered,
)
from detecture.data.datasets.register import load_registered
from detecture.device import bind_process, collective_backend
from detecture.engine.data_check import require_files
from detecture.engine.evaluate import check_test_sets
from detecture.engine.idle_keys import warn_of_keys_of_scripts
from detecture.engine.run_folder import refuse_beside_training, reserved
from detecture.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    CheckpointError,
    ConfigError,
    DetectureError,
    EvaluationError,
)
from detecture.jobs.command_line import OverridesParser, any_text_printed, tell_once
from detecture.jobs.signals import end_signals, passed_on
from detecture.untrusted import named_path

logger = logging.getLogger("detecture")

_PATIENCE_S = 5.0
_KEYS_OF_A_RUN = {"DATASETS", "INPUT", "MODEL", "OUTPUT_DIR", "SOLVER", "TEST"}


def argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Detectron2's arguments (`--config-file --resume --eval-only --num-gpus ..`) and ours."""
    theirs = default_argument_parser(epilog)
    parser = OverridesParser(
        parents=[theirs],
        add_help=False,
        epilog=theirs.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dataset-json",
        metavar="FILE",
        default=None,
        help="metadata of your own data set; it is evaluated, or trained on without --eval-only, "
        "in the place of DATASETS.TEST or DATASETS.TRAIN (layout: datasets/README.md)",
    )
    parser.add_argument(
        "--semantic-root",
        metavar="FOLDER",
        default=None,
        help="your own set of semantic segmentation: images/, labels/ and classes.json, or "
        "classes.json and train/ and val/ with the first two each; likewise (layout: "
        "datasets/README.md)",
    )
    # Without a port of their own two runs on one machine would disturb each other.
    parser.set_defaults(dist_url="auto")
    return parser


def setup(args: argparse.Namespace) -> CfgNode:
    """Config of a run from its command line; output folder, loggers and seeds are set up.

    Raises:
        ConfigError, DatasetError: the command line, the config file, `--dataset-json` or
            `--semantic-root` is wrong, or another training is running in the folder meant for this
            one.
    """
    overrides = list(args.opts or ())
    overrides = [*_own_dataset(args), *overrides]
    cfg = make_config(args.config_file or None, overrides)
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        require_registered(name)  # before anything large is built
    try:
        with _reserved(cfg, args):
            if cfg.OUTPUT_DIR:
                _require_own_config(Path(cfg.OUTPUT_DIR) / "config.yaml")
            _open_logs(cfg)
    except OSError as error:
        raise ConfigError(
            f"OUTPUT_DIR {cfg.OUTPUT_DIR}: cannot be written to ({error}); choose another folder"
        ) from error
    if args.eval_only and args.resume and cfg.OUTPUT_DIR:
        weights = newest_sound(Path(cfg.OUTPUT_DIR))
        if weights is None:
            logger.warning("%s has no checkpoint: MODEL.WEIGHTS is evaluated", cfg.OUTPUT_DIR)
        else:
            words = [*overrides, "MODEL.WEIGHTS", str(weights)]
            cfg = make_config(args.config_file or None, words)
    _require_inputs(cfg, args)  # before pages about the machine and the config are logged
    # It would write config.yaml at once, over that of a training which this run may only evaluate
    # or cannot resume. The trainer and the evaluators write their own when the time comes.
    elsewhere = cfg.clone()
    elsewhere.defrost()
    elsewhere.OUTPUT_DIR = None
    elsewhere.SEED = min(cfg.SEED, cfg.SEED % 2**31)  # numpy, which it seeds too, takes no more
    default_setup(elsewhere, args)
    warn_of_keys_of_scripts(cfg)
    logger.info("Running with full config:\n%s", cfg.dump())
    return cfg


def _require_inputs(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Check that data sets and weights are there.

    Raises:
        DatasetError: all files of a data set are missing, or it is malformed.
        ConfigError: a data set has no evaluator, or none that TEST.EXPECTED_RESULTS asks for.
        CheckpointError: there is no file of MODEL.WEIGHTS.
    """
    if args.eval_only:
        check_test_sets(cfg)
    else:
        for name in cfg.DATASETS.TRAIN:
            require_files(name, load_registered(name))
    if cfg.MODEL.WEIGHTS and (args.eval_only or not args.resume):
        file = find_checkpoint(locate(cfg.MODEL.WEIGHTS))
        if not named_path(file, "MODEL.WEIGHTS", CheckpointError).is_file():
            raise CheckpointError(f"{file}: no such checkpoint; check MODEL.WEIGHTS")


def _own_dataset(args: argparse.Namespace) -> list[str]:
    """Register a user's own data set; returns the config keys that name it, with their values."""
    if args.dataset_json and args.semantic_root:
        raise ConfigError("--dataset-json and --semantic-root: give one of them")
    if args.dataset_json:
        name = register_dataset_json(args.dataset_json)
        return ["DATASETS.TEST" if args.eval_only else "DATASETS.TRAIN", repr((name,))]
    if not args.semantic_root:
        return []
    names = register_semantic_folder(args.semantic_root)
    whole = names.get("")
    if args.eval_only:
        return ["DATASETS.TEST", repr((whole or names.get("val") or names["train"],))]
    if whole is None and "train" not in names:
        raise ConfigError(
            f"--semantic-root {args.semantic_root}: has no folder train; add --eval-only, or the "
            "images to train on"
        )
    # Without a folder `val` nothing is evaluated during training, not even the config's own sets.
    test = (names["val"],) if "val" in names else ()
    train = (whole or names["train"],)
    return ["DATASETS.TRAIN", repr(train), "DATASETS.TEST", repr(test)]


def _reserved(cfg: CfgNode, args: argparse.Namespace) -> AbstractContextManager[None]:
    """Refuse, before anything is written, what would disturb a running training."""
    if not cfg.OUTPUT_DIR:
        return nullcontext()
    if not args.eval_only:
        return reserved(Path(cfg.OUTPUT_DIR))
    refuse_beside_training(Path(cfg.OUTPUT_DIR))
    return nullcontext()


def _open_logs(cfg: CfgNode) -> None:
    """Write what all loggers say to `OUTPUT_DIR/log.txt` (other ranks: `log.txt.rankN`)."""
    rank, folder = comm.get_rank(), cfg.OUTPUT_DIR or None
    for name in ("fvcore", "detectron2"):
        if folder:
            setup_logger(folder, distributed_rank=rank, name=name, configure_stdout=False)
    setup_logger(folder, distributed_rank=rank, name="detecture")
    for name in ("fvcore", "detectron2", "detecture"):
        for handler in logging.getLogger(name).handlers:
            tell_once(handler)


def log_to_terminal() -> None:
    """Show what this project and the Detectron2 API log, in a command that has no OUTPUT_DIR."""
    setup_logger()  # detectron2's own, where it is active
    setup_logger(name="detecture")


def _require_own_config(path: Path) -> None:
    """Check that this run's config replaces only another run's config, not a file written by hand.

    Raises:
        ConfigError: it would replace such a file; raised in all processes.
    """
    problem = ""
    if comm.is_main_process() and path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
        # A run writes down all keys; nobody writes that many by hand.
        if not set(re.findall(r"^([A-Z_]+):", text, re.MULTILINE)) >= _KEYS_OF_A_RUN:
            problem = (
                f"{path}: is there already, and no run wrote it; choose another OUTPUT_DIR, or "
                "give the file another name"
            )
    problem = comm.all_gather(problem)[0]
    if problem:
        raise ConfigError(problem)


def run(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> int:
    """Run `main(args)` in as many processes as asked for, and turn errors into an exit status.

    Under `torchrun` the processes are already there and are joined; otherwise `--num-gpus N`
    starts N of them: one for each accelerator, or N CPU processes on a machine without any.

    Args:
        main: a module-level function, so that new processes can find it.
        args: parsed command line.

    Returns:
        0; 1 if the work failed; 2 if it was given something it cannot work with; 130 if it was
        asked to stop by Ctrl-C, SIGTERM or SIGHUP, whether all processes got the signal or only the
        first.
    """
    if _under_torchrun():
        return _in_torchrun(main, args)
    was_told: Callable[[], bool] = bool
    try:
        for name in ("num_gpus", "num_machines"):
            if getattr(args, name) < 1:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} {getattr(args, name)}: at least 1 process is needed")
        if not 0 <= args.machine_rank < args.num_machines:
            raise ConfigError(
                f"--machine-rank {args.machine_rank}: it must be 0 to {args.num_machines - 1}, "
                "below --num-machines"
            )
        is_alone = args.num_gpus * args.num_machines == 1
        with nullcontext(bool) if is_alone else passed_on() as was_told:
            launch(
                _exit_with_status,
                args.num_gpus,
                num_machines=args.num_machines,
                machine_rank=args.machine_rank,
                dist_url=args.dist_url,
                args=(main, args),
            )
        if was_told():
            return EXIT_INTERRUPTED
    except SystemExit as error:
        return _status(error)
    except mp.ProcessExitedException as error:
        return EXIT_INTERRUPTED if was_told() else error.exit_code
    except DetectureError as error:
        return _report(error)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def _exit_with_status(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """In each process: a user's error ends it with a message and a status, not a traceback."""
    try:
        with any_text_printed(), end_signals.heard():
            main(args)
    except DetectureError as error:
        status = _report(error)
        if not comm.is_main_process():
            _tell_for_itself(error)
        _leave_the_others()
        _end(status, error)
    except KeyboardInterrupt as error:
        logger.error(
            "%s",
            str(error) or "interrupted; the same command goes on from what is finished",
        )
        _end(EXIT_INTERRUPTED, error)
    except SystemExit as error:  # the trainer's, where the expected results were missed
        _leave_the_others()
        _end(_status(error), error)


def _tell_for_itself(error: DetectureError) -> None:
    """Print the error of a process whose log does not go to the terminal.

    Mostly the first process has the same error. It then prints it, and its end ends this one; if
    this one ended first, that would cut off the first one's message.
    """
    time.sleep(_PATIENCE_S)
    sys.stderr.write(f"process {comm.get_rank()}: {error}\n")


def _leave_the_others() -> None:
    """Leave the process group before this process ends on its own.

    Only gloo's: other backends would wait for the other processes, and so would gloo after an
    interruption, which may come in the middle of an exchange.
    """
    if dist.is_initialized() and dist.get_backend() == "gloo":
        dist.destroy_process_group()


def _end(status: int, cause: BaseException) -> NoReturn:
    """End this process.

    A launched one does not wait for the interpreter to take itself apart: where a library's thread
    still runs, C++ now and then aborts the process there, and its status is lost.
    """
    if multiprocessing.parent_process() is None:
        raise SystemExit(status) from cause
    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _report(error: DetectureError) -> int:
    logger.error("%s", error)
    return EXIT_FAILED if isinstance(error, EvaluationError) else EXIT_USAGE


def _status(error: SystemExit) -> int:
    return error.code if isinstance(error.code, int) else EXIT_FAILED if error.code else 0


def _under_torchrun() -> bool:
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


def _in_torchrun(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> int:
    bind_process(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(collective_backend())
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        _exit_with_status(main, args)
    except SystemExit as error:
        return _status(error)
    dist.destroy_process_group()
    return 0

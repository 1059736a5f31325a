"""What every training command does before its own work: arguments, logs, seeds."""

import argparse
import logging
import os
import random
import sys
from pathlib import Path

import numpy as np
import torch

from detecture.device import set_cudnn_benchmark, set_float32_precision

from . import comm
from .collect_env import collect_env_info
from .config import CfgNode
from .logger import setup_logger

logger = logging.getLogger(__name__)


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Parser of the arguments that every training command has.

    Args:
        epilog: text below the help; by default examples.
    """
    program = sys.argv[0]
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"""
Examples:
  one machine:    {program} --config-file cfg.yaml --num-gpus 8
  other values:   {program} --config-file cfg.yaml MODEL.WEIGHTS model.pth SOLVER.BASE_LR 0.001
  two machines:   {program} --num-machines 2 --machine-rank 0 --dist-url tcp://HOST:PORT ...
                  {program} --num-machines 2 --machine-rank 1 --dist-url tcp://HOST:PORT ...
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="path of a config file")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint in OUTPUT_DIR, if there is one",
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate without training")
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="processes, that is devices, of each machine"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines")
    parser.add_argument(
        "--machine-rank", type=int, default=0, help="number of this machine, from 0"
    )
    # A per-user port that stays the same, so that a process left over from an earlier run is
    # noticed: the port is then taken.
    user = os.getuid() if hasattr(os, "getuid") else 1
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{49152 + user % 16384}",
        help="where the processes meet, see torch.distributed.init_process_group",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        default=None,
        help="pairs of config key and value, at the end of the command line: KEY VALUE ...",
    )
    return parser


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Prepare a process: output folder, logs, a record of what runs, random seeds.

    Writes `OUTPUT_DIR/log.txt` (other ranks: `log.txt.rankN`) and, in the main process,
    `OUTPUT_DIR/config.yaml`. SEED is the seed of rank 0, rank r has SEED + r; negative: drawn anew.

    Args:
        cfg: the whole config.
        args: parsed command line; `config_file` and `eval_only` are read if present.
    """
    output_dir, rank = cfg.OUTPUT_DIR, comm.get_rank()
    if output_dir and comm.is_main_process():
        Path(output_dir).mkdir(parents=True, exist_ok=True)
    for name in ("fvcore", "detecture"):
        setup_logger(output_dir or None, distributed_rank=rank, name=name)
    logger.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    logger.info("Environment info:\n%s", collect_env_info())
    logger.info("Command line arguments: %s", args)
    config_file = getattr(args, "config_file", "")
    if config_file:
        content = Path(config_file).read_text(encoding="utf-8")
        logger.info("Contents of args.config_file=%s:\n%s", config_file, content)
    if output_dir and comm.is_main_process():
        logger.info("Running with full config:\n%s", cfg.dump())
        path = Path(output_dir) / "config.yaml"
        path.write_text(cfg.dump(), encoding="utf-8")
        logger.info("Full config saved to %s", path)

    _seed_everything(cfg.SEED + rank if cfg.SEED >= 0 else None)
    if cfg.FLOAT32_PRECISION:
        set_float32_precision(cfg.FLOAT32_PRECISION)
    # The search costs time at every new shape, which does not pay off in an evaluation.
    if not getattr(args, "eval_only", False):
        set_cudnn_benchmark(cfg.CUDNN_BENCHMARK)


def _seed_everything(seed: int | None) -> None:
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        logger.info("Using a random seed %d", seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from the global generator)
    torch.manual_seed(seed)

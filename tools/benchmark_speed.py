#!/usr/bin/env python
"""Measure speed and memory, each claim beside what it is compared with, in one run.

  python tools/benchmark_speed.py --task evaluation
  python tools/benchmark_speed.py --task data --dataset rwtd
  python tools/benchmark_speed.py --task inference --regions 2 6 --batch-sizes 1 8
  python tools/benchmark_speed.py --task train
  python tools/benchmark_speed.py --task prediction --threads 1 2
  python tools/benchmark_speed.py --task semantic --names 171 847 MODEL.DEVICE cpu
  python tools/benchmark_speed.py --task miner --config-file configs/miner/ade20k.yaml \
      --workers 1 2 --records 500 2000 -- MINER.SOURCE.ROOT DIR

evaluation: scoring one image (1024x1024, 6 regions) against the plain way, boolean-mask IoU pair
by pair and scikit-learn's ARI, on the same inputs.
data: images per second of the evaluation loader with 0 and 2 workers, and the memory of all
processes over 5 epochs of 2,000 records.
inference: every stage of a Detecture with random weights on answers of fixed length, against the
published way (a whole second pass, always seven slots) on the same weights and inputs, in turns.
train: optimiser steps of stages 1 and 2, against the published way (autograd through the VLM and
the whole vocabulary in both stages, whole tables in the optimiser).
prediction: an image in, regions and sentences out, by the method that ships or --config-file:
time by stage, memory of the process, parameters and their dtype, for images of 256 and 1024 pixels
(or --size).
semantic: an image in, the label map of --names classes out, by a CAT-Seg with random weights,
against the same with what the published code spends beside it, cost by cost and all together.
miner: images per second of each stage of the miner with 1 and 2 processes, seconds of each format
of export, memory at its peak for some numbers of images.
inference, train and semantic void the comparison where the sides do not compute the same; the first
two add what counted operations and bytes predict at full size. Tables go to stderr, JSON to stdout.
"""

import argparse
import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from detecture.config import make_config
from detecture.d2 import build_detection_test_loader
from detecture.data import TextureMapper, load_registered
from detecture.data.ground_truth import paint
from detecture.device import resolve_device
from detecture.errors import ConfigError
from detecture.evaluation import score_label_map
from detecture.jobs.command_line import OverridesParser, command_line
from detecture.profiling.clock import percentiles

_CONFIGS = Path(__file__).parents[1] / "configs"
PROPORTIONAL = _CONFIGS / "bench/proportional.yaml"
CAT_SEG = _CONFIGS / "ahs_seg/cat_seg_vitb.yaml"
RANDOM = ["MODEL.CLIP.BASE", "", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]


def timed(function: Callable[[], Any]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def environment(device: str = "cpu") -> dict[str, str]:
    """What a measured number depends on besides the code.

    Args:
        device: value of MODEL.DEVICE, or the device of a task that has no model.
    """
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return {
        "commit": commit.stdout.strip() or "unknown",
        "device": str(resolve_device(device)),
        "machine": f"{platform.machine()}, {psutil.cpu_count(logical=False)} cores",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "threads": str(torch.get_num_threads()),
    }


def mosaic(size: int, regions: int, seed: int) -> np.ndarray:
    """(size,size) labels 1..regions: Voronoi cells."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform(0, size, (regions, 2))
    grid = np.indices((size, size)).transpose(1, 2, 0)
    distance = ((grid[:, :, None] - centres) ** 2).sum(-1)
    return (distance.argmin(-1) + 1).astype(np.int32)


def plain_scores(label_map: np.ndarray, k_pred: int, masks: np.ndarray) -> tuple[float, float]:
    """Matched mIoU and ARI, computed the plain way."""
    iou = np.zeros((k_pred, len(masks)))
    for i in range(k_pred):
        found = label_map == i + 1
        for j in range(len(masks)):
            iou[i, j] = (found & masks[j]).sum() / max((found | masks[j]).sum(), 1)
    rows, columns = linear_sum_assignment(1 - iou)
    ari = adjusted_rand_score(paint(list(masks)).ravel(), label_map.ravel())
    return float(iou[rows, columns].mean()), float(ari)


def benchmark_evaluation(size: int, regions: int, repeats: int) -> dict[str, Any]:
    """Scoring of one image: ours and the plain way, in turn on the same inputs."""
    label_map = mosaic(size, regions, seed=0)
    truth = mosaic(size, regions, seed=1)
    masks = np.stack([truth == i + 1 for i in range(regions)])
    score = score_label_map(label_map, regions, masks)
    plain = plain_scores(label_map, regions, masks)
    if not np.allclose((score.matched_iou, score.ari), plain, atol=1e-9):
        raise AssertionError(f"the two ways differ: {score.matched_iou, score.ari} and {plain}")
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(timed(lambda: score_label_map(label_map, regions, masks)))
        theirs.append(timed(lambda: plain_scores(label_map, regions, masks)))
    return {
        "inputs": f"{size}x{size}, {regions} regions, {repeats} repeats in turns",
        "ours": percentiles(ours),
        "plain": percentiles(theirs),
        "ratio_p50": float(np.median(theirs) / np.median(ours)),
    }


def benchmark_data(dataset: str, records: int, epochs: int) -> dict[str, Any]:
    """Speed of the evaluation loader, and memory over epochs."""
    source = load_registered(dataset)
    result: dict[str, Any] = {"dataset": dataset, "images": len(source)}
    for workers in (0, 2):
        loader = _loader(dataset, source, workers)
        _exhaust(loader)  # bring the files into the page cache
        seconds = timed(functools.partial(_exhaust, loader))
        result[f"images_per_second_{workers}_workers"] = len(source) / seconds
    repeated = [dict(source[i % len(source)], image_id=str(i)) for i in range(records)]
    loader = _loader(dataset, repeated, workers=2)
    result["memory_mib_by_epoch"] = [_memory_of_epoch(loader) for _ in range(epochs)]
    result["memory_of"] = f"private pages of all processes, 2 workers, {records} records"
    return result


def _loader(dataset: str, records: Sequence[dict[str, Any]], workers: int) -> Any:
    mapper = TextureMapper(make_config(None), is_train=False, dataset_name=dataset)
    return build_detection_test_loader(
        records, mapper=mapper, num_workers=workers, collate_fn=_as_list
    )


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def _exhaust(loader: Any) -> None:
    for _ in loader:
        pass


def _memory_of_epoch(loader: Any) -> float:
    """Memory late in an epoch, while all workers are still running."""
    memory = 0.0
    for index, _ in enumerate(loader):
        if index == len(loader) * 3 // 4:
            memory = _memory_mib()
    return memory


def _memory_mib() -> float:
    process = psutil.Process()
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            info = each.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        # Only pages that belong to one process: a worker's copies on write count, libraries shared
        # with other programs do not.
        total += info.uss
    return total / 2**20


def benchmark_model(args: argparse.Namespace) -> dict[str, Any]:
    """Inference or training of a Detecture."""
    # Imported here: its libraries take seconds, and the other tasks need none of them.
    from detecture.profiling.suite import (
        full_size_costs,
        inference_suite,
        predict_all,
        prediction_lines,
        training_suite,
    )

    config_file = args.config_file or str(PROPORTIONAL)
    cfg = make_config(config_file, args.opts)
    published = {
        "MODEL.REFINEMENT.STEPS": (cfg.MODEL.REFINEMENT.STEPS, 0),
        "MODEL.BRIDGE.DECODING": (cfg.MODEL.BRIDGE.DECODING, "multiplexed"),
        "LOSS.GROUPING_WEIGHT": (cfg.LOSS.GROUPING_WEIGHT, 0.0),
    }
    if other := [f"{key} {due}" for key, (value, due) in published.items() if value != due]:
        raise ConfigError(
            f"{config_file}: the published model, which this compares with, lacks additions "
            f"that are on here; set {' '.join(other)}"
        )
    options: dict[str, Any] = {
        "batch_sizes": args.batch_sizes,
        "tokens_per_region": args.tokens_per_region,
        "prompt_tokens": args.prompt_tokens,
        "published": args.published,
        "report": functools.partial(print, file=sys.stderr, flush=True),
    }
    if args.task == "inference":
        options |= {"regions": args.regions or [2, 6], "repeats": args.repeats or 10}
        options["batch_sizes"] = args.batch_sizes or [1, 8]
        result = inference_suite(cfg, size=args.size, **options)
    else:
        options |= {"regions": args.regions or [4], "repeats": args.repeats or 3}
        options["batch_sizes"] = args.batch_sizes or [2]
        result = training_suite(cfg, **options)
    result |= {"config": config_file, "model_device": cfg.MODEL.DEVICE}
    if args.predict:
        predictions = predict_all(*full_size_costs(args.tokens_per_region))
        chosen = {k: v for k, v in predictions.items() if k.startswith(args.task)}
        print("\n".join(prediction_lines(chosen)), file=sys.stderr)
        result["predicted_at_full_size"] = chosen
    return result


def benchmark_prediction(args: argparse.Namespace) -> dict[str, Any]:
    """Whole predictions of any method."""
    from detecture.profiling.prediction import prediction_suite

    cores = psutil.cpu_count(logical=False) or 1
    return prediction_suite(
        args.config_file or "",
        [word for word in args.opts if word != "--"],
        sizes=[args.size] if args.size else [256, 1024],
        regions=(args.regions or [3])[0],
        threads=args.threads or sorted({1, cores}),
        repeats=args.repeats or 20,
        report=functools.partial(print, file=sys.stderr, flush=True),
    )


def benchmark_semantic(args: argparse.Namespace) -> dict[str, Any]:
    """Open-vocabulary inference."""
    from detecture.profiling.open_vocabulary import semantic_suite

    config_file = args.config_file or str(CAT_SEG)
    cfg = make_config(config_file, [*RANDOM, *(word for word in args.opts if word != "--")])
    result = semantic_suite(
        cfg,
        names=args.names,
        size=args.size or 640,
        repeats=args.repeats or 3,
        report=functools.partial(print, file=sys.stderr, flush=True),
    )
    return result | {"config": config_file, "model_device": cfg.MODEL.DEVICE}


def benchmark_miner(args: argparse.Namespace) -> dict[str, Any]:
    """The miner, from images to exports."""
    from detecture.miner.speed import measure

    if not args.config_file:
        raise ConfigError("--task miner needs a --config-file, see configs/miner")
    cfg = make_config(args.config_file, [word for word in args.opts if word != "--"])
    return measure(cfg, args.workers, args.records) | {"config": args.config_file}


def _device_of(args: argparse.Namespace) -> str:
    """MODEL.DEVICE of the config that a task measures."""
    defaults = {"inference": PROPORTIONAL, "train": PROPORTIONAL, "semantic": CAT_SEG}
    config_file = args.config_file or defaults.get(args.task)
    return str(make_config(config_file, args.opts).MODEL.DEVICE)


@command_line("benchmark_speed")
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = ("evaluation", "data", "inference", "train", "prediction", "semantic", "miner")
    parser.add_argument("--task", required=True, choices=tasks)
    parser.add_argument("--size", type=int, help="side of images in pixels (evaluation: 1024)")
    parser.add_argument("--regions", type=int, nargs="+", help="numbers of regions")
    parser.add_argument("--repeats", type=int, help="timed runs")
    parser.add_argument("--dataset", default="samples", help="data: a registered data set")
    parser.add_argument(
        "--records",
        type=int,
        nargs="+",
        default=[2000],
        help="data: records of the memory run; miner: images of each memory run",
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="miner: processes")
    parser.add_argument("--epochs", type=int, default=5, help="data: epochs of the memory run")
    parser.add_argument("--threads", type=int, nargs="+", help="prediction: 1 and all cores")
    parser.add_argument(
        "--names", type=int, nargs="+", default=[171, 847], help="semantic: numbers of classes"
    )
    parser.add_argument(
        "--config-file",
        metavar="FILE",
        help="of the model (inference, train: the proportional one; prediction: the shipped one; "
        "semantic: CAT-Seg on ViT-B/16, with random weights)",
    )
    model = parser.add_argument_group("inference, train")
    model.add_argument("--batch-sizes", type=int, nargs="+", help="1 8 (train: 2)")
    model.add_argument("--tokens-per-region", type=int, default=40)
    model.add_argument("--prompt-tokens", type=int, default=300, help="without visual tokens")
    model.add_argument(
        "--published",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the published way too",
    )
    model.add_argument(
        "--predict",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="count full size, and what follows for one H200",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ..")
    args = parser.parse_args(argv)
    numbers = [*(args.regions or []), *(args.batch_sizes or []), *(args.threads or [])]
    numbers += [*args.workers, *args.records]
    if min([*numbers, *args.names, args.repeats or 1]) < 1:
        parser.error(
            "numbers of regions, images, threads, names, records, workers, repeats: positive"
        )
    if args.task in ("evaluation", "prediction") and len(args.regions or [6]) > 1:
        parser.error(f"--task {args.task} takes one number of regions")
    if args.task == "evaluation":
        (regions,) = args.regions or [6]
        result = benchmark_evaluation(args.size or 1024, regions, args.repeats or 50)
    elif args.task == "data":
        result = benchmark_data(args.dataset, args.records[0], args.epochs)
    elif args.task == "prediction":
        result = benchmark_prediction(args)
    elif args.task == "semantic":
        result = benchmark_semantic(args)
    elif args.task == "miner":
        result = benchmark_miner(args)
    else:
        result = benchmark_model(args)
    device = "cpu" if args.task in ("evaluation", "data") else _device_of(args)
    print(json.dumps({"task": args.task, **environment(device), **result}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

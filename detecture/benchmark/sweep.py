"""A grid of trainings: config files times settings times seeds, each trained and evaluated once."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from detecture.benchmark.results import require_tabled
from detecture.checkpoint.json_files import finite_number
from detecture.config import make_config
from detecture.errors import ConfigError
from detecture.evaluation.summary import is_as_written
from detecture.jobs.crew import read_failure
from detecture.untrusted import read_own_json

_FINAL = "model_final.safetensors"
# What determines a run's result; the rest is how and where it is run.
_SECTIONS = ("MODEL", "INPUT", "LOSS", "DATASETS", "SOLVER", "TEST")
_FIGURES = ("mIoU", "pIoU", "ARI", "K_accuracy")


@dataclass(frozen=True)
class SweepRun:
    """One training, or one evaluation of existing weights.

    Attributes:
        name: of the row: the config's stem and the settings of the grid.
        datasets: the ones it is evaluated on.
        seed: of the training; None: nothing is trained.
        folder: of the run; every config has a different one.
        settled: the whole config as it was when the sweep was planned, in yaml. This is what is
            run, even if the file changes in the meantime.
    """

    name: str
    datasets: tuple[str, ...]
    seed: int | None
    folder: Path
    settled: str

    @property
    def config(self) -> Path:
        """Where `settled` is written to before it is run."""
        return self.folder / "planned.yaml"

    @property
    def weights(self) -> Path:
        """The weights that the training ends with."""
        return self.folder / _FINAL

    def is_trained(self) -> bool:
        """Whether nothing is left to train."""
        return self.seed is None or self.weights.is_file()

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Summary of each evaluated data set, by name; damaged ones do not count."""
        found = {}
        for name in self.datasets:
            path = self.folder / "inference" / name / "summary.json"
            try:
                summary = read_own_json(path)
            except (OSError, ValueError):
                continue
            if isinstance(summary, dict) and is_as_written(summary) and _has_figures(summary):
                found[name] = summary
        return found


def plan(
    root: Path,
    configs: Sequence[Path],
    grid: Mapping[str, Sequence[str]],
    overrides: Sequence[str],
    seeds: int,
) -> list[SweepRun]:
    """All runs of a sweep.

    Args:
        root: folder of the sweep.
        configs: yaml files.
        grid: values of each key; all combinations are run.
        overrides: of all runs.
        seeds: trainings of each, with the seeds 1, 2, ..; 0: evaluate the weights of the configs.

    Raises:
        ConfigError: a config, key or value is wrong, two configs have one name, or the table has no
            columns for what is measured on a data set.
    """
    if "SEED" in grid or "SEED" in overrides[::2]:
        raise ConfigError("SEED is set by --seeds: remove it from --grid and --opts")
    stems = [config.stem for config in configs]
    if len(set(stems)) < len(stems):
        raise ConfigError(f"two configs have one name: {', '.join(sorted(stems))}; rename one")
    runs = []
    for config, values in product(configs, product(*grid.values())):
        chosen = [word for pair in zip(grid, values, strict=True) for word in pair]
        words = (*overrides, *chosen)
        cfg = make_config(config, words)
        if not cfg.DATASETS.TEST:
            raise ConfigError(f"{config}: DATASETS.TEST is empty; name what to evaluate on")
        require_tabled(cfg.DATASETS.TEST)
        labels = [
            f"{key.rsplit('.', 1)[-1]}={value}" for key, value in zip(grid, values, strict=True)
        ]
        name = " ".join([config.stem, *labels])
        digest = _digest(cfg)
        for seed in range(1, seeds + 1) if seeds else [None]:
            tail = "evaluated" if seed is None else f"seed-{seed}"
            folder = root / f"{config.stem}-{digest}" / tail
            runs.append(SweepRun(name, tuple(cfg.DATASETS.TEST), seed, folder, str(cfg.dump())))
    if len({run.folder for run in runs}) < len(runs):
        raise ConfigError("two runs of the sweep are the same; remove equal values from --grid")
    return runs


def _digest(cfg: Any) -> str:
    sections = {name: cfg[name] for name in _SECTIONS}
    return hashlib.sha256(json.dumps(sections, sort_keys=True, default=str).encode()).hexdigest()[
        :8
    ]


def commands(run: SweepRun, python: str, train_net: Path) -> list[list[str]]:
    """What is left to do: train, resuming after a kill, then evaluate."""
    base = [python, str(train_net), "--config-file", str(run.config)]
    output = ["OUTPUT_DIR", str(run.folder)]
    if run.seed is None:
        return [[*base, "--eval-only", *output]]
    todo = []
    if not run.is_trained():
        todo.append([*base, "--resume", "SEED", str(run.seed), *output])
    weights = ["MODEL.WEIGHTS", str(run.weights)]
    return [*todo, [*base, "--eval-only", *weights, *output]]


def table(runs: Iterable[SweepRun]) -> list[dict[str, Any]]:
    """One row for each name and data set.

    Returns:
        Dicts with `name`, `dataset`, `runs` (how many are done), `of`, `mIoU`, `pIoU`, `ARI` and
        `K_accuracy` (mean over the seeds), `spread` (standard deviation of the headline over the
        seeds; None with fewer than two), `headline`, and `failed` (why one failed, or empty).
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    values: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        summaries = run.summaries()
        failure = read_failure(run.folder)
        for dataset in run.datasets:
            key = (run.name, dataset)
            row = rows.setdefault(
                key, {"name": run.name, "dataset": dataset, "of": 0, "failed": ""}
            )
            row["of"] += 1
            row["failed"] = row["failed"] or failure
            found = values.setdefault(key, [])
            # Files of an earlier run do not count as figures of a failed one.
            if dataset in summaries and run.is_trained() and not failure:
                found.append(summaries[dataset])
    return [{**row, **_means(values[key])} for key, row in rows.items()]


def _means(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not summaries:
        return {"runs": 0}
    headline = str(summaries[0]["headline"])
    means = {name: float(np.mean([one[name] for one in summaries])) for name in _FIGURES}
    scores = [one[headline] for one in summaries]
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return {"runs": len(summaries), "headline": headline, "spread": spread, **means}


def _has_figures(summary: Mapping[str, Any]) -> bool:
    figures = all(finite_number(summary.get(name)) is not None for name in _FIGURES)
    return figures and summary.get("headline") in _FIGURES

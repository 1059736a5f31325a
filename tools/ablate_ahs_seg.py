#!/usr/bin/env python
"""Do AHS-Seg's parts do anything? Trains a tiny model and its ablations on pairs of words.

  python tools/ablate_ahs_seg.py --output output/ahs_seg_parts --seeds 1,2,3

Images of two or three textures are named by a colour and a noun; a pair of each colour is held out
of the training (synthetic_combinations_*). Rows: `everything` (all six parts), once for each seed,
and with the first seed the six ablations of HA-HEM, MH-FPN and DC-HSP, and SDR (`distillation`),
AFR (`rectification`) and HPA (`prototypes`) alone. Columns: the loss of the masks at the start and
at the end; mIoU on held-out pairs, with a 95 % interval by bootstrap over images; the same with the
names shuffled (each answer is taken for that of the next name); by how much turning changed the
hyperspherical energy of CLIP's weights, for a pair of rows; time of a step.
A training that is finished is not run again. Exit status: 0 done, otherwise that of what failed.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from detecture.config import make_config
from detecture.data.datasets.open_vocabulary import COMBINATIONS_HELD_OUT
from detecture.data.mapper import build_mapper
from detecture.data.synthetic.combinations import combination_names
from detecture.data.vocabulary import Vocabulary
from detecture.engine import load_model
from detecture.evaluation.summary import LEAST_IMAGES, bootstrap_draws, interval_text
from detecture.jobs.command_line import OverridesParser, command_line
from detecture.modeling.clip.orthogonal import TurnedLinear, hyperspherical_energy
from detecture.untrusted import parse_own_json

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "ahs_seg" / "combinations_tiny.yaml"

_PARTS = ("ADAPTIVE_ENERGY", "SPHERICAL_FPN", "CLASS_PROJECTION")
_OTHERS = ("DISTILLATION", "RECTIFICATION", "PROTOTYPES")
ABLATIONS: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "hahem_only": _PARTS[:1],
    "mhfpn_only": _PARTS[1:2],
    "dchsp_only": _PARTS[2:],
    "hahem_mhfpn": _PARTS[:2],
    "full": _PARTS,
    "distillation_only": _OTHERS[:1],
    "rectification_only": _OTHERS[1:2],
    "prototypes_only": _OTHERS[2:],
}
"""Parts that are on; the first six rows as in configs/ahs_seg/ablations."""


def switches(name: str) -> list[str]:
    """Config overrides of a row."""
    if name not in ABLATIONS:
        return []
    on = {part: part in ABLATIONS[name] for part in (*_PARTS, *_OTHERS)}
    return [w for part, is_on in on.items() for w in (f"MODEL.{part}.ENABLED", str(is_on))]


def train(output: Path, overrides: Sequence[str]) -> int:
    """Train a row unless that is done already; returns the exit status."""
    if (output / "model_final.safetensors").is_file():
        return 0
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", str(CONFIG)]
    command += ["--resume", *overrides, "OUTPUT_DIR", str(output)]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode


def measure(output: Path, overrides: Sequence[str], images: int, samples: int) -> dict[str, Any]:
    """The columns of a trained row."""
    weights = str(output / "model_final.safetensors")
    cfg = make_config(CONFIG, [*overrides, "MODEL.WEIGHTS", weights])
    model: Any = load_model(cfg)
    names = combination_names(held_out=True)
    vocabulary = Vocabulary.of(names)
    mapper = build_mapper(cfg, "CombinationMapper", False, COMBINATIONS_HELD_OUT.name)
    confusions = []
    for record in tqdm(COMBINATIONS_HELD_OUT[:images], desc=output.name, disable=None):
        sample = mapper(record)
        truth = sample.pop("sem_seg").numpy()
        (answer,) = model([{**sample, "vocabulary": vocabulary}])
        pairs = truth * len(names) + answer["label_map"].numpy().astype(np.int64)
        counts = np.bincount(pairs.ravel(), minlength=len(names) ** 2)
        confusions.append(counts.reshape(len(names), len(names)))
    confusion_NTT = np.stack(confusions)
    history = [parse_own_json(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [line["loss_sem_seg"] for line in history if "loss_sem_seg" in line]
    # Names shuffled: the answer to each name is taken as the answer to the next one.
    return {
        "loss": [losses[0], losses[-1]],
        "mIoU": _with_interval(confusion_NTT, samples),
        "mIoU shuffled": _with_interval(np.roll(confusion_NTT, 1, axis=2), samples),
        "energy": _energy(model),
        "seconds": float(np.median([line["time"] for line in history if "time" in line])),
    }


def _with_interval(confusion_NTT: np.ndarray, samples: int) -> list[float | None]:
    """MIoU of confusions (N,T,T) of N images, true by predicted, and its 95 % interval."""
    value = float(_miou(confusion_NTT.sum(axis=0)[None])[0])
    if len(confusion_NTT) < LEAST_IMAGES:
        return [value, None, None]
    draws_SN = bootstrap_draws(len(confusion_NTT), samples)
    drawn_STT = np.einsum("sn,ntu->stu", draws_SN, confusion_NTT)
    low, high = np.quantile(_miou(drawn_STT), [0.025, 0.975])
    return [value, float(low), float(high)]


def _miou(confusion_STT: np.ndarray) -> np.ndarray:
    """Mean over the names that are present, (S,), of confusions (S,T,T)."""
    right = np.diagonal(confusion_STT, axis1=1, axis2=2)
    true, found = confusion_STT.sum(axis=2), confusion_STT.sum(axis=1)
    iou = right / np.maximum(true + found - right, 1)
    return np.where(true > 0, iou, 0.0).sum(axis=1) / np.maximum((true > 0).sum(axis=1), 1)


@torch.no_grad()
def _energy(model: Any) -> float:
    """How much turning changed the energy, for a pair of rows, mean over all turned layers."""
    changes = []
    with model.adapter.acting():
        for layer in model.clip.modules():
            if isinstance(layer, TurnedLinear):
                plain = layer.base.weight
                turned = (layer(torch.eye(plain.shape[1])) - layer.base.bias).T
                change = hyperspherical_energy(turned) - hyperspherical_energy(plain)
                changes.append(float(change) / (len(plain) * (len(plain) - 1)))
    return float(np.mean(changes))


def seeds(text: str) -> list[int]:
    """Numbers separated by commas, from the command line."""
    return [int(word) for word in text.split(",")]


@command_line("ablate_ahs_seg")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = OverridesParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for all trainings")
    parser.add_argument("--seeds", type=seeds, default=[1, 2, 3], help="such as 1,2,3 (default)")
    parser.add_argument("--images", type=int, default=200, help="that are measured on, up to 200")
    parser.add_argument("--only", choices=["everything", *ABLATIONS], help="one row")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config overrides of all rows")
    args = parser.parse_args(argv)
    opts = [word for word in args.opts if word != "--"]
    rows = [(f"everything, seed {seed}", "everything", seed) for seed in args.seeds]
    rows += [(name, name, args.seeds[0]) for name in ABLATIONS]
    lines = ["| | loss | mIoU, held-out pairs | names shuffled | energy | s a step |", "|---" * 6]
    lines[1] += "|"
    for title, name, seed in rows:
        if args.only not in (None, name):
            continue
        overrides = [*opts, *switches(name), "SEED", str(seed), "MODEL.RANDOM_WEIGHTS_SEED", "0"]
        output = args.output / f"{name}_{seed}"
        if status := train(output, overrides):
            return status
        found = measure(output, overrides, args.images, samples=1000)
        lines.append(f"| {title} | {format_row(found)} |")
        print(lines[-1], file=sys.stderr)
    print("\n".join(lines))
    return 0


def format_row(found: dict[str, Any]) -> str:
    """Cells of a row."""
    first, last = found["loss"]
    with_interval = [
        f"{value:.3f} {interval_text(None if ends[0] is None else ends, 3)}"
        for value, *ends in (found["mIoU"], found["mIoU shuffled"])
    ]
    cells = [f"{first:.3f} -> {last:.3f}", *with_interval]
    return " | ".join([*cells, f"{found['energy']:+.2e}", f"{found['seconds']:.2f}"])


if __name__ == "__main__":
    sys.exit(main())

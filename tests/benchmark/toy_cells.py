"""Cells to report on: those of the published suite, and ones written by the evaluator itself."""

import json

import torch

from detecture.benchmark.results import CellResult
from detecture.config import make_config
from detecture.data import load_registered
from detecture.data.ground_truth import load_ground_truth
from detecture.data.k_hint import KHint
from detecture.evaluation import TextureSegEvaluator

COUNTS = {"caid": 3091, "rwtd": 253, "stld": 200, "ade20k_detecture": 212}

# results/summary.csv of the published suite: mIoU, Dice, ARI, coverage; every method knew K.
PUBLISHED = {
    "sam3_vanilla": [
        (0.9006, 0.9340, 0.8169, 0.5075),
        (0.7363, 0.7849, 0.7481, 0.1335),
        (0.7919, 0.8385, 0.7875, 0.0314),
        (0.3186, 0.3932, 0.3218, 0.2936),
    ],
    "grounded_sam3": [
        (0.6217, 0.6752, 0.4043, 0.1954),
        (0.8178, 0.8674, 0.7151, 0.0177),
        (0.7631, 0.8075, 0.6305, 0.0026),
        (0.3433, 0.4077, 0.4820, 0.3263),
    ],
    "sa2va": [
        (0.7986, 0.8353, 0.7151, 0.5379),
        (0.6966, 0.7414, 0.6861, 0.1575),
        (0.7377, 0.7688, 0.7267, 0.0778),
        (0.6308, 0.6889, 0.6982, 0.1757),
    ],
    "qwen2sam_zs": [
        (0.8661, 0.9023, 0.7730, 0.4844),
        (0.8977, 0.9325, 0.8462, 0.0549),
        (0.8781, 0.9050, 0.8511, 0.0590),
        (0.6946, 0.7648, 0.7202, 0.0958),
    ],
}


def summary(dataset, miou, *, piou=None, dice=0.5, ari=0.5, coverage=0.0, total=4, **more):
    """A summary with these figures."""
    intervals = {
        name: [miou - 0.01, miou + 0.01] for name in ("mIoU", "pIoU", "ARI", "pDice", "K_MAE")
    }
    figures = {"mIoU": miou, "pIoU": miou if piou is None else piou, "Dice": dice, "ARI": ari}
    return {
        "dataset": dataset,
        **figures,
        **{"coverage": coverage, "K_MAE": 0.25, "K_accuracy": 0.75, "ci95": intervals},
        **{"n_ok": total, "n_total": total, "statuses": {"ok": total}},
        **more,
    }


def cell(method, dataset, miou=None, *, state="done", **more):
    """A cell; with a matched mean IoU it has a summary, of which `figures` are a part."""
    figures = more.pop("figures", {})
    given = {"label": method, "variant": "", "k_access": "regime", **more}
    found = None if miou is None else summary(dataset, miou, **figures)
    return CellResult(method=method, dataset=dataset, state=state, summary=found, **given)


def published_cells():
    """The 16 cells of the published suite."""
    return [
        cell(
            method,
            dataset,
            miou,
            k_access="per_image" if dataset == "ade20k_detecture" else "regime",
            figures={"dice": dice, "ari": ari, "coverage": coverage, "total": total},
        )
        for method, rows in PUBLISHED.items()
        for (dataset, total), (miou, dice, ari, coverage) in zip(COUNTS.items(), rows, strict=True)
    ]


def evaluate(folder, dataset, wrong=(), fail=(), texts=("one", "two")):
    """Evaluate the true masks of a data set; of images in `wrong` the first mask covers all."""
    cfg = make_config(None, [])
    evaluator = TextureSegEvaluator(cfg, dataset, folder)
    for record in load_registered(dataset):
        image_id = record["image_id"]
        inputs = {"image_id": image_id, "k_hint": KHint("regime", 2)}
        if image_id in fail:
            output = {"status": "exception", "error": "<b>out of memory</b>"}
        else:
            masks = torch.from_numpy(load_ground_truth(record, cfg.INPUT.MAX_PIXELS).masks)
            scores = torch.cat([masks.float(), torch.full((1, *masks.shape[1:]), 0.5)])
            if image_id in wrong:
                scores[0] = 2.0
            # Numbered the other way round: only the matching can bring them together.
            scores[:2] = scores[:2].flip(0).clone()
            output = {"sem_seg": scores, "descriptions": list(texts), "status": "ok"}
        evaluator.process([inputs], [output])
    evaluator.evaluate()
    return folder


def write_index(root, cells, protocol="toy protocol"):
    """A benchmark.json of dicts with `method`, `dataset`, `folder`, and whatever differs."""
    usual = {"variant": "", "k_access": "regime", "random_weights": False, "state": "done"}
    entries = [{"label": entry["method"], "note": "", **usual, **entry} for entry in cells]
    (root / "benchmark.json").write_text(json.dumps({"protocol": protocol, "cells": entries}))
    return root

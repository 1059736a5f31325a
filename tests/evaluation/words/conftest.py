"""Evaluations written by the evaluator itself, of the true masks with any sentences."""

import shutil

import numpy as np
import pytest
import torch
from record_files import read_lines, write_sealed

from detecture.config import make_config
from detecture.d2 import DatasetCatalog, MetadataCatalog
from detecture.data.datasets.synthetic import ProceduralRecords
from detecture.data.ground_truth import load_ground_truth
from detecture.data.k_hint import KHint
from detecture.data.synthetic import render_scene
from detecture.evaluation import TextureSegEvaluator

DATASET, SEED, COUNT = "words_of_procedural_images", 4711, 16


def one_hot(masks):
    """Scores whose label map are these masks, numbered the other way round; the rest: dustbin."""
    scores = torch.full((len(masks) + 1, *masks.shape[1:]), -1.0)
    scores[:-1][torch.from_numpy(masks[::-1].copy())] = 1.0
    scores[-1] = 0.0
    return scores


def reworded(run, folder, change):
    """A copy of an evaluation with other sentences, `change(descriptions) -> descriptions`."""
    shutil.copytree(run, folder)
    lines = read_lines(run / "records.jsonl")
    for line in lines[1:]:
        line["descriptions"] = change(line["descriptions"])
    write_sealed(folder / "records.jsonl", lines)
    return folder


def write_run(folder, dataset, sentences, skip=(), **keys):
    """Evaluate the true masks of a data set with `sentences(image_id, truth) -> texts`.

    The texts are in the order of the true regions; the evaluator gets both in reversed order, so
    that only its matching can bring them together.
    """
    cfg = make_config(None, [str(v) for item in keys.items() for v in item])
    evaluator = TextureSegEvaluator(cfg, dataset, folder)
    for record in DatasetCatalog.get(dataset):
        if record["image_id"] in skip:
            continue
        truth = load_ground_truth(record, cfg.INPUT.MAX_PIXELS)
        inputs = {"image_id": record["image_id"], "k_hint": KHint("none", None)}
        texts = list(sentences(record["image_id"], truth))
        output = {"sem_seg": one_hot(truth.masks), "descriptions": texts[::-1], "status": "ok"}
        evaluator.process([inputs], [output])
    evaluator.evaluate()
    return folder


@pytest.fixture(scope="session")
def procedural():
    """Name of a registered procedural data set of 16 images."""
    if DATASET not in DatasetCatalog.list():
        DatasetCatalog.register(DATASET, ProceduralRecords(DATASET, SEED, COUNT))
        MetadataCatalog.get(DATASET).set(k_regime="autonomous", evaluator_type="texture")
    return DATASET


@pytest.fixture(scope="session")
def scenes():
    return [render_scene(SEED, index) for index in range(COUNT)]


@pytest.fixture(scope="session")
def true_run(procedural, tmp_path_factory):
    """The true masks with the true sentences."""
    folder = tmp_path_factory.mktemp("words") / "inference" / procedural
    return write_run(folder, procedural, lambda _, truth: truth.descriptions)


@pytest.fixture
def disc():
    """A disc in the middle, bool (100,100)."""
    rows, columns = np.ogrid[:100, :100]
    return (rows - 50) ** 2 + (columns - 50) ** 2 < 20**2

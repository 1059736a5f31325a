"""Methods learn of K what the protocol says, and nothing of the ground truth."""

import json

import pytest
import torch
from torch import nn

from detecture.benchmark.cells import look_at, records_folder
from detecture.benchmark.protocol import Cell, Method
from detecture.benchmark.results import K_ACCESS
from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY
from detecture.data import KHint, load_ground_truth, load_test_records
from detecture.engine import evaluate, load_model
from detecture.errors import EvaluationError

ALLOWED = {"image", "file_name", "image_id", "height", "width", "k_hint"}
SEEN = []


@META_ARCH_REGISTRY.register()
class Spy(nn.Module):
    """Notes all that it is given, and answers with as many strips as it knows of."""

    def __init__(self, cfg):
        super().__init__()

    def forward(self, batched_inputs):
        SEEN.extend(batched_inputs)
        outputs = []
        for sample in batched_inputs:
            count = sample["k_hint"].k or 1
            scores = torch.zeros(count + 1, sample["height"], sample["width"])
            scores[0] = 1.0
            outputs.append({"sem_seg": scores, "descriptions": [""] * count, "status": "ok"})
        return outputs


@META_ARCH_REGISTRY.register()
class Peeper(Spy):
    """Looks for the true regions."""

    def forward(self, batched_inputs):
        return [{"sem_seg": sample["sem_seg"]} for sample in batched_inputs]


def run(tmp_path, name, dataset, k_access):
    config = tmp_path / f"{name}.yaml"
    config.write_text(f"MODEL:\n  META_ARCHITECTURE: {name}\nDATALOADER:\n  NUM_WORKERS: 0\n")
    method = Method(name, name, config, None, {"default": {}})
    cell = Cell(method, "default", dataset, k_access, limit=4)
    overrides = [*cell.overrides(), "OUTPUT_DIR", str(cell.folder(tmp_path))]
    cfg = make_config(cell.config, overrides)
    SEEN.clear()
    evaluate(cfg, load_model(cfg))
    return cell


@pytest.mark.parametrize("dataset", ["synthetic_single", "synthetic_pair", "synthetic_autonomous"])
@pytest.mark.parametrize("k_access", K_ACCESS)
def test_a_method_is_told_what_the_protocol_says_and_no_more(tmp_path, dataset, k_access):
    cell = run(tmp_path, "Spy", dataset, k_access)
    records = {record["image_id"]: record for record in load_test_records(dataset, 4)}
    assert [sample["image_id"] for sample in SEEN] == list(records)
    granted = {"synthetic_single": 1, "synthetic_pair": 2}.get(dataset)
    for sample in SEEN:
        assert set(sample) == ALLOWED
        hint = sample["k_hint"]
        assert type(hint) is KHint
        true_k = len(load_ground_truth(records[sample["image_id"]], 10**6).masks)
        told = {"none": None, "regime": granted}.get(k_access, true_k)
        assert hint.k == told
        assert hint.kind == ("none" if told is None else k_access)
    result = look_at(tmp_path, cell)
    assert result.state == "done"
    known = k_access if k_access != "regime" or granted else "none"
    assert result.summary["k_knowledge"] == known
    assert result.summary["headline"] == ("pIoU" if known == "none" else "mIoU")


def test_a_method_that_looks_for_the_ground_truth_fails(tmp_path):
    with pytest.raises(EvaluationError, match="none of the 4 images could be scored"):
        run(tmp_path, "Peeper", "synthetic_pair", "regime")
    (path,) = tmp_path.glob("cells/Peeper/*/*/inference/*/records.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert [record["status"] for record in records] == ["exception"] * 4
    assert all(record["mIoU"] == 0.0 and "sem_seg" in record["error"] for record in records)
    assert path.parent == records_folder(
        tmp_path,
        Cell(
            Method("Peeper", "Peeper", tmp_path / "Peeper.yaml", None, {"default": {}}),
            "default", "synthetic_pair", "regime", limit=4,
        ),
    )  # fmt: skip


def test_one_region_for_two_scores_half_of_the_larger_one(tmp_path):
    # What a method that finds nothing gets: an upper bound of nobody, and never more than a half.
    cell = run(tmp_path, "Spy", "synthetic_pair", "regime")
    shares = [
        max(float(mask.mean()) for mask in load_ground_truth(record, 10**6).masks)
        for record in load_test_records("synthetic_pair", 4)
    ]
    summary = look_at(tmp_path, cell).summary
    assert summary["mIoU"] == pytest.approx(sum(shares) / len(shares) / 2, abs=1e-6)
    assert summary["ARI"] == 0.0

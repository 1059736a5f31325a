"""tools/ablate_ahs_seg.py: rows that are models of their own, and what single parts do."""

import importlib.util
from itertools import islice
from pathlib import Path

import pytest
import torch

from detecture.config import make_config
from detecture.d2 import EventStorage
from detecture.data import build_train_loader
from detecture.modeling import build_model

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ablate_ahs_seg.py"
SINGLE = ("distillation_only", "rectification_only", "prototypes_only")
STEPS = 12


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("ablate_ahs_seg_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(tool, name):
    """The model of a row, with the weights of the baseline where that has them, and its config."""
    words = ["MODEL.DEVICE", "cpu", "SEED", "1"]
    baseline, row = (
        make_config(tool.CONFIG, [*words, *tool.switches(n)]) for n in ("baseline", name)
    )
    torch.manual_seed(0)
    plain = build_model(baseline)
    model = build_model(row)
    own = model.state_dict()
    shared = {n: v for n, v in plain.state_dict().items() if v.shape == own[n].shape}
    model.load_state_dict({**own, **shared})
    return model, row


@pytest.fixture(scope="module")
def batches(tool):
    cfg = build(tool, "baseline")[1]
    return list(islice(build_train_loader(cfg), STEPS))


def trained_steps(tool, name, batches):
    """Scores (T,H,W) of a model of a row after a few steps on the same batches, and the model."""
    model, _ = build(tool, name)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    torch.manual_seed(0)
    for step, batch in enumerate(batches):
        with EventStorage(50 + step):  # on the way up of the schedule of distillation
            total = sum(model.train()(batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    sample = {**batches[0][0], "vocabulary": model.vocabularies[0]}
    with torch.no_grad():
        return model.eval()([sample])[0]["sem_seg"], model


def test_rows_are_models_of_their_own(tool, batches):
    """By what trains and by what the loss is made of."""
    found = {}
    for name in ("everything", *tool.ABLATIONS):
        model, _ = build(tool, name)
        losses = model.train()(batches[0])
        shapes = frozenset(
            (n, tuple(p.shape)) for n, p in model.named_parameters() if p.requires_grad
        )
        found[name] = shapes, frozenset(losses)
    assert len(found) == len(set(found.values())) == 10
    further = {name: losses - {"loss_sem_seg"} for name, (_, losses) in found.items()}
    assert further["baseline"] == set()
    assert [further[name] for name in SINGLE] == [
        *({"loss_distill"}, {"loss_rectify"}, {"loss_prototype"})
    ]
    assert len(further["full"]) == 3 and len(further["everything"]) == 6


@pytest.mark.slow
def test_what_single_parts_do_in_a_few_steps(tool, batches, capsys):
    """Each changes the answer, and how far CLIP is turned, which its energy tells."""
    before = build(tool, "baseline")[0]
    assert tool._energy(before) == pytest.approx(0, abs=1e-7)
    plain, model = trained_steps(tool, "baseline", batches)
    energies, scores = {"baseline": tool._energy(model)}, {"baseline": plain}
    for name in SINGLE:
        scores[name], model = trained_steps(tool, name, batches)
        energies[name] = tool._energy(model)
    again, _ = trained_steps(tool, "baseline", batches)
    assert torch.equal(again, plain)  # what differs is of the part
    moved = {name: float((s - plain).abs().mean()) for name, s in scores.items()}
    with capsys.disabled():
        print("\n| | scores moved | energy |\n|---|---|---|")
        for name in scores:
            print(f"| {name} | {moved[name]:.5f} | {energies[name]:+.3e} |")
    assert all(moved[name] > 1e-5 for name in SINGLE)
    assert len(set(energies.values())) == 4
    assert all(torch.isfinite(s).all() for s in scores.values())


@pytest.mark.slow
def test_a_row_of_the_table(tool, tmp_path, capsys):
    words = ["--output", str(tmp_path), "--seeds", "1", "--images", "2"]
    words += ["--only", "prototypes_only", "SOLVER.MAX_ITER", "2", "MODEL.DEVICE", "cpu"]
    assert tool.main(words) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| prototypes_only | ") and " -> " in line
    assert (tmp_path / "prototypes_only_1/model_final.safetensors").is_file()

"""`tools/benchmark_speed.py --task semantic`: each published cost is really paid, and changes no
score."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from ahs_toy import disturb, toy_config, toy_model
from scripts import load_script
from torch.nn import functional

from detecture.errors import ConfigError
from detecture.profiling import open_vocabulary, published_costs
from detecture.profiling.inference import VoidComparison
from detecture.profiling.open_vocabulary import SIDES, compare, run_side, some_names

REPO = Path(__file__).parents[2]
TINY = str(REPO / "configs/ahs_seg/cat_seg_tiny.yaml")
SLIDING = [
    *("TEST.SLIDING.ENABLED", "True", "TEST.SLIDING.CANVAS", "(72,72)"),
    *("TEST.SLIDING.KERNEL", "48", "TEST.SLIDING.OVERLAP", "0.5", "MODEL.DEVICE", "cpu"),
]
"""Four windows and the whole."""
SIZE = 72
MOST = 16  # names that the toy aggregates at a time


@pytest.fixture(scope="module")
def tool():
    return load_script("tools/benchmark_speed.py")


@pytest.fixture(scope="module")
def model():
    model = toy_model("CATSeg", *SLIDING).eval()
    disturb(model.head.parameters())
    for layer in model.head.aggregator.layers:
        torch.nn.init.normal_(layer.classwise.padding_token)
        torch.nn.init.normal_(layer.classwise.padding_guidance)
    return model


def sample(names=5):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return {"image": image, "height": SIZE, "width": SIZE, "vocabulary": some_names(names)}


@contextmanager
def seen(module):
    """Shapes of what goes into a module."""
    shapes = []

    def note(_, given, named):
        value = given[0] if given else next(iter(named.values()))
        shapes.append(tuple(value.shape))

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    handle.remove()


def shapes_of(model, module, side, names=5):
    with seen(module) as shapes:
        run_side(model, sample(names), SIDES[side])
    return shapes


@pytest.mark.slow
def test_the_task(tool, capsys):
    words = ["--task", "semantic", "--names", "3", "--size", "64", "--repeats", "1"]
    assert tool.main([*words, "--config-file", TINY, *SLIDING]) == 0
    captured = capsys.readouterr()
    (run,) = json.loads(captured.out)["runs"]
    assert (run["names"], run["size"], run["repeats"]) == (3, 64, 1)
    assert list(run["sides"]) == list(SIDES)
    for rows in run["sides"].values():
        assert set(rows) == {"text", "image", "total"}
        assert all(row["p95_ms"] >= row["p50_ms"] > 0 for row in rows.values())
    assert set(run["ratio_p50"]) == set(run["agreement"]) == set(SIDES) - {"ours"}
    for found in run["agreement"].values():
        assert found["largest_score_difference"] <= 1e-4
    assert all(f"\n{side} " in captured.err for side in SIDES)


@pytest.mark.parametrize("names", [5, 20])
@pytest.mark.parametrize("side", [side for side in SIDES if side != "ours"])
def test_scores_agree(model, side, names):
    """With fewer names than are aggregated at a time, and with more."""
    ours = run_side(model, sample(names), SIDES["ours"])
    other = run_side(model, sample(names), SIDES[side])
    assert compare(side, ours.answer, other.answer)["largest_score_difference"] <= 1e-5


def test_the_full_context_is_read(model):
    reader = model.clip.model.text_model
    ((texts, tokens),) = shapes_of(model, reader, "ours")
    assert texts == 5 and tokens < 16
    for side in ("full_context", "published"):
        assert shapes_of(model, reader, side) == [(5, model.clip.context_length)]
    assert model.clip.context_length == 77


def test_padding_is_computed(model):
    mlp = model.head.aggregator.layers[0].classwise.mlp
    for side, classes in (("ours", 5), ("padded_classes", MOST), ("published", MOST)):
        assert {shape[2] for shape in shapes_of(model, mlp, side)} == {classes}, side
    assert {shape[2] for shape in shapes_of(model, mlp, "padded_classes", 20)} == {MOST}


def test_windows_are_unfolded_and_folded(model, monkeypatch):
    folded = []
    fold = functional.fold
    monkeypatch.setattr(
        published_costs.functional,
        "fold",
        lambda x, *a, **k: folded.append(tuple(x.shape)) or fold(x, *a, **k),
    )
    first = model.clip.model.vision_model.pre_layrnorm
    assert [shape[0] for shape in shapes_of(model, first, "ours")] == [1] * 5
    assert not folded
    for side in ("unfold_and_fold", "published"):
        folded.clear()
        assert [shape[0] for shape in shapes_of(model, first, side)] == [5]
        assert (5 * 48 * 48, 4) in folded


def test_dead_queries_are_computed(model):
    *_, before, last = model.clip.model.vision_model.encoder.layers
    for name, once in (("q_proj", 0), ("k_proj", 0), ("v_proj", 1), ("out_proj", 1)):
        layer = getattr(last.self_attn, name)
        assert len(shapes_of(model, layer, "ours")) == 5 * once
        wasted = 2 if name == "out_proj" else 1 - once
        assert len(shapes_of(model, layer, "dead_queries")) == 5 * (once + wasted)
        assert len(shapes_of(model, getattr(before.self_attn, name), "dead_queries")) == 5


def test_all_names_at_once(model):
    spatial = model.head.aggregator.layers[0].spatial
    assert {shape[1] for shape in shapes_of(model, spatial, "ours", MOST)} == {8}
    assert {shape[1] for shape in shapes_of(model, spatial, "all_at_once", MOST)} == {MOST}


def test_nothing_is_left_behind(model):
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    texts = model.texts
    run_side(model, sample(), SIDES["published_all_at_once"])
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before
    assert model.texts is texts


def test_sides_that_differ_are_no_comparison(model, monkeypatch):
    @contextmanager
    def worse(model):
        bias = model.head.aggregator.decoder.head.bias
        bias.data += 0.01
        yield
        bias.data -= 0.01

    monkeypatch.setitem(SIDES, "worse", (worse,))
    with pytest.raises(VoidComparison, match=r"worse: scores differ by 0\.00"):
        open_vocabulary.benchmark_semantic(
            model, some_names(3), size=SIZE, repeats=1, sides=["worse"]
        )


def test_a_wrong_label_map_is_no_comparison(model):
    answer = run_side(model, sample(), ()).answer
    wrong = {**answer, "sem_seg": answer["sem_seg"], "label_map": answer["label_map"] + 1}
    wrong["label_map"] %= 5
    with pytest.raises(VoidComparison, match="no ties"):
        compare("wrong", answer, wrong)


@pytest.mark.parametrize(
    ("arch", "more", "message"),
    [
        ("AHSSeg", [], "give a config of a CATSeg"),
        ("CATSeg", ["TEST.SLIDING.ENABLED", "False"], "set TEST.SLIDING.ENABLED True"),
        ("CATSeg", ["TEST.SLIDING.CANVAS", "(700,700)"], "do not fill a canvas"),
    ],
)
def test_what_was_not_published_is_refused(arch, more, message):
    with pytest.raises(ConfigError, match=message):
        open_vocabulary.semantic_suite(
            toy_config(arch, *more), names=[3], size=SIZE, repeats=1, report=print
        )


def test_as_many_names_as_there_are():
    assert len(some_names(171).classes) == 171 and some_names(171).names[0] == "person"
    assert len(some_names(847).classes) == len(some_names(847).names) == 847
    with pytest.raises(ConfigError, match="ade_847, has fewer"):
        some_names(848)

"""Detecture: what trains, batches, slots, checkpoints, caches, switches."""

import json
from importlib.util import find_spec

import pytest
import torch
from micro import (
    evaluation_batch,
    micro_model,
    micro_overrides,
    segmenter_config,
    training_batch,
)
from torch import nn

from detecture.config import make_config
from detecture.config.sections.detecture import BridgeSettings
from detecture.d2 import META_ARCH_REGISTRY
from detecture.engine import TexturePredictor
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model
from detecture.modeling.bridge.mask_losses import partition_scores
from detecture.modeling.heads import BridgeHead, HeadShape

FULL_SIZE = ["MODEL.DEVICE", "cpu", "MODEL.VLM.BASE", "", "MODEL.SEGMENTER.BASE", ""]


def write_answers(model, descriptions):
    """Make generation write these descriptions, whatever the weights are."""
    answers = [model.vlm.chat.answer_ids(d) for d in descriptions]

    def write(prefix, cache):
        # The real prefill, so that the cache holds what a written answer would leave there.
        type(model.vlm).write(model.vlm, prefix, cache)
        return answers

    model.vlm.write = write


def test_full_size_trains_what_was_published():
    cfg = make_config("configs/detecture_qwen3vl8b_sam3.yaml", FULL_SIZE)
    with torch.device("meta"):
        model = META_ARCH_REGISTRY.get("Detecture")(cfg)
    groups = {g["name"]: g["params"] for g in model.parameter_groups()}
    sizes = {name: sum(p.numel() for p in params) for name, params in groups.items()}
    assert sizes == {
        "bridge": 4_197_376,
        "mask_head": 197_376,
        "dustbin": 4_096,
        "vlm": 3_833_856,
        "seg_rows": 8_192,
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == sum(len(params) for params in groups.values()) == 157
    assert sum(p.numel() for p in trained) == 8_240_896
    assert {id(p) for p in trained} == {id(p) for params in groups.values() for p in params}
    assert sum(p.numel() for p in model.vlm.parameters()) - 3_833_856 - 8_192 == 8_767_123_696
    adapter = sum(t.numel() * t.element_size() for t in model.checkpoint_state().values())
    assert adapter <= 40e6


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        (1, ()),
        (2, ()),
        (2, ("MODEL.VLM.TRAIN", "full", "MODEL.SEGMENTER.TRAIN", "True")),
        (2, ("MODEL.VLM.TRAIN", "none", "MODEL.VLM.SEG_ROWS", "frozen")),
        (2, ("LOSS.LM_WEIGHT", "0.0")),
        (2, ("LOSS.LM_WEIGHT", "0.0", "MODEL.VLM.TRAIN", "full")),
        (2, ("MODEL.BRIDGE.KIND", "bottleneck")),
        (2, ("MODEL.BRIDGE.DECODING", "multi_slot")),
    ],
)
def test_what_trains_gets_a_gradient_and_nothing_else_does(tmp_path, stage, overrides):
    model = micro_model(tmp_path, *overrides).train()
    model.set_stage(stage)
    batch = training_batch()
    losses = model(batch)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = {id(p) for g in model.parameter_groups() for p in g["params"]}
    requires = {id(p) for p in model.parameters() if p.requires_grad}
    assert requires == trained if stage == 2 else requires < trained
    lm = stage == 2 and "LOSS.LM_WEIGHT" not in overrides and "none" not in overrides
    assert ("loss_lm" in losses) == lm
    assert all(torch.isfinite(loss) for loss in losses.values())


def with_dropout(folder):
    """KEY VALUE words of a segmenter whose fusion encoder has dropout, as the full SAM 3's does."""
    structure = segmenter_config()
    structure["detr_encoder_config"]["dropout"] = 0.5
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dropout.json").write_text(json.dumps(structure))
    return ("MODEL.SEGMENTER.CONFIG", str(folder / "dropout.json"), "MODEL.BRIDGE.DROPOUT", "0.0")


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("cache", [False, True])
def test_the_dropout_of_a_frozen_segmenter_acts_where_told(tmp_path, mode, cache):
    words = [*with_dropout(tmp_path), "MODEL.SEGMENTER.TRAINING_MODE", str(mode)]
    words += ["MODEL.FEATURE_CACHE", str(tmp_path / "cache")] if cache else []
    model = micro_model(tmp_path, *words).train()
    assert model.segmenter.training == mode
    batch, losses = training_batch(), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        losses.append(float(model(batch)["loss_ce"].detach()))
    assert (losses[0] != losses[1]) == mode
    assert not any(parameter.requires_grad for parameter in model.segmenter.parameters())
    model.eval()
    samples = [dict(sample, descriptions=["moss"]) for sample in evaluation_batch()]
    one, other = (model(samples)[0]["sem_seg"] for _ in range(2))
    assert not model.segmenter.training and torch.equal(one, other)


def test_a_segmenter_under_autocast_keeps_the_format_of_its_weights(tmp_path):
    """Its answers are those of rounded computing, and not those of rounded weights."""
    samples = [dict(sample, descriptions=["moss"]) for sample in evaluation_batch()]

    def answers(*words):
        torch.manual_seed(0)
        model = micro_model(tmp_path, "MODEL.BRIDGE.DROPOUT", "0.0", *words)
        # The same states for all, so that the segmenter alone makes the difference.
        states = torch.linspace(-1, 1, 48).expand(len(samples), 1, 48)
        features = model.encoders.image_features([sample["image"] for sample in samples])
        slots = model.eval().head(model.segmenter, features, states, torch.tensor([1, 1]))
        return model, slots.logits_Nhw.detach()

    half = ("MODEL.DTYPE", "bfloat16")
    rounded, of_rounded = answers(*half)
    own, of_own = answers(*half, "MODEL.SEGMENTER.UNDER_AUTOCAST", "True")
    exact, of_exact = answers()
    assert rounded.segmenter.dtype == torch.bfloat16
    assert own.segmenter.dtype == torch.float32 and own.segmenter.autocast == torch.bfloat16
    assert own.vlm.model.dtype == torch.bfloat16
    for ours, due in zip(own.segmenter.parameters(), exact.segmenter.parameters(), strict=True):
        assert torch.equal(ours, due)
    assert of_own.dtype == torch.float32 and torch.isfinite(of_own).all()
    assert not torch.equal(of_own, of_exact) and not torch.equal(of_own, of_rounded)
    scale = of_exact.abs().max()
    assert (of_own - of_exact).abs().max() < 0.05 * scale
    # A format of 32 bits needs no autocast; one of 64 is that of the weights, too.
    for kind in ("float32", "float64"):
        model = answers("MODEL.DTYPE", kind, "MODEL.SEGMENTER.UNDER_AUTOCAST", "True")[0]
        assert model.segmenter.autocast is None
        assert model.segmenter.dtype == getattr(torch, kind)
    losses = own.train()(training_batch())
    sum(losses.values()).backward()
    assert own.head.bridge[0].weight.grad.isfinite().all()


def test_cached_features_know_whether_they_come_from_autocast(tmp_path):
    cache = ("MODEL.FEATURE_CACHE", str(tmp_path / "cache"), "MODEL.DTYPE", "bfloat16")
    files = []
    for words in ((), ("MODEL.SEGMENTER.UNDER_AUTOCAST", "True")):
        model = micro_model(tmp_path, *cache, *words).eval()
        for _ in range(2):
            model.encoders.image_features([evaluation_batch()[0]["image"]])
        files.append(len(list((tmp_path / "cache").rglob("*.safetensors"))))
    assert files == [1, 2]


def test_a_newline_behind_the_end_is_learnt_where_told(tmp_path):
    words = ("MODEL.VLM.STOP_SUPERVISION", "released", "MODEL.VLM.LM_ATTENTION", "block_diagonal")
    plain = micro_model(tmp_path, *words).train()
    model = micro_model(tmp_path, *words, "MODEL.VLM.NEWLINE_AFTER_END", "True").train()
    chat, batch = model.vlm.chat, training_batch()
    due = [[*answer, chat.newline_id] for answer in plain.prepare(batch).answers]
    assert model.prepare(batch).answers == due
    # It stands two behind the last <|seg|>: 1 - exp(-2 * 2) of each of two answers.
    more = model.loss_normalizers(batch)["lm_weights"] - plain.loss_normalizers(batch)["lm_weights"]
    assert more == pytest.approx(2 * 0.9816844, abs=1e-5)
    torch.manual_seed(0)
    losses = model(batch)
    torch.manual_seed(0)
    others = plain(batch)
    assert losses["loss_lm"] != others["loss_lm"]
    assert torch.allclose(losses["loss_ce"], others["loss_ce"], atol=1e-5)
    assert model.eval().prepare(batch).answers == plain.eval().prepare(batch).answers


def test_a_region_without_a_pixel_has_a_slot(tmp_path):
    model = micro_model(tmp_path).train()
    batch = training_batch((2,))
    batch[0]["sem_seg"][batch[0]["sem_seg"] == 1] = 2
    losses = model(batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert model.loss_normalizers(batch)["slots"] == 3


def test_stage_one_leaves_the_vlm_out_of_the_graph(tmp_path):
    model = micro_model(tmp_path).train()
    model.set_stage(1)
    batch = model.prepare(training_batch())
    forced = model._teacher_forced(batch)
    assert not forced.states_BKD.requires_grad
    assert forced.predictions_BAD is None
    model.set_stage(2)
    assert model._teacher_forced(batch).states_BKD.requires_grad


def test_micro_batches_with_common_normalizers_equal_one_batch(tmp_path):
    model = micro_model(tmp_path, "MODEL.DTYPE", "float64", "MODEL.BRIDGE.DROPOUT", "0.0").train()
    batch = training_batch((2, 5, 1))
    whole = model(batch)
    sum(whole.values()).backward()
    due = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    parts = [batch[:1], batch[1:]]
    normalizers = [model.loss_normalizers(part) for part in parts]
    total = {key: sum(n[key] for n in normalizers) for key in normalizers[0]}
    losses = [model(part, normalizers=total) for part in parts]
    for part in losses:
        sum(part.values()).backward()
    for key, loss in whole.items():
        assert loss.dtype == torch.float64
        assert abs(float(loss) - float(sum(part[key] for part in losses))) < 1e-9
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(parameter.grad, due[name], atol=1e-9), name


def test_batch_equals_single(tmp_path):
    model = micro_model(tmp_path).eval()
    batch = evaluation_batch(((56, 56), (40, 70), (30, 20)))
    descriptions = [["Texture of moss", "Texture of sand on the left"], [], ["Texture of wool"]]
    write_answers(model, descriptions)
    together = model(batch)
    for sample, due, texts in zip(batch, together, descriptions, strict=True):
        write_answers(model, [texts])
        alone = model([sample])[0]
        assert alone["descriptions"] == due["descriptions"] == texts
        assert alone["generated_text"] == due["generated_text"]
        assert torch.allclose(alone["sem_seg"], due["sem_seg"], atol=1e-4)
        assert due["sem_seg"].shape == (len(texts) + 1, sample["height"], sample["width"])
        assert due["status"] == ("ok" if texts else "no_region")


def test_generation_in_a_batch_equals_single(tmp_path):
    model = micro_model(tmp_path).eval()
    batch = evaluation_batch()
    assert [o["generated_text"] for o in model(batch)] == [
        model([sample])[0]["generated_text"] for sample in batch
    ]


def test_live_equals_oracle_with_the_same_words(tmp_path):
    model = micro_model(tmp_path).eval()
    batch = evaluation_batch()
    descriptions = [["Texture of moss", "Texture of sand on the left"], ["Texture of wool"]]
    write_answers(model, descriptions)
    live = model(batch)
    oracle = model(
        [dict(s, descriptions=d, oracle=True) for s, d in zip(batch, descriptions, strict=True)]
    )
    for a, b in zip(live, oracle, strict=True):
        assert a["descriptions"] == b["descriptions"]
        assert torch.allclose(a["sem_seg"], b["sem_seg"], atol=1e-4)


@pytest.mark.parametrize("size", [(500, 500), (512, 683), (1008, 1008)])
def test_active_slots_equal_seven_slots_without_the_published_defect(tmp_path, size):
    """All seven slots through the segmenter, the padded ones dropped only after the resize."""
    model = micro_model(tmp_path).eval()
    head = model.head
    features = model.encode_image(evaluation_batch()[0]).features
    states = torch.randn(1, 6, model.vlm.hidden_size)
    with torch.no_grad():
        active = head(model.segmenter, features, states, torch.tensor([2]))
        seven = head(model.segmenter, features, states, torch.tensor([6]))
    assert active.slot_index_N.tolist() == [0, 1, 2]
    assert torch.allclose(active.logits_Nhw, seven.logits_Nhw[:3], atol=1e-4)
    scores = partition_scores(active.logits_Nhw, size)
    assert scores.shape == (3, *size)
    assert torch.isfinite(scores).all()
    # The defect of the published code, so that the test knows what it guards against.
    padded = seven.logits_Nhw.clone()
    padded[3:] = -torch.inf
    broken = nn.functional.interpolate(padded[None], size, mode="bilinear", align_corners=False)
    assert torch.isnan(broken).any()


def test_bad_slots_never_reach_the_prompts(tmp_path):
    """Rows past the count may hold anything, NaN included."""
    model = micro_model(tmp_path).eval()
    features = model.encode_image(evaluation_batch()[0]).features
    states = torch.randn(1, 6, model.vlm.hidden_size)
    clean = model.head(model.segmenter, features, states, torch.tensor([2]))
    states[:, 2:] = torch.nan
    for decoding in ("multiplexed", "multi_slot"):
        model.head.decoding = decoding
        slots = model.head(model.segmenter, features, states, torch.tensor([2]))
        assert torch.isfinite(slots.logits_Nhw).all()
        same = torch.allclose(slots.logits_Nhw, clean.logits_Nhw)
        assert same == (decoding == "multiplexed")


@pytest.mark.parametrize(
    "overrides", [(), ("MODEL.VLM.TRAIN", "full", "MODEL.SEGMENTER.TRAIN", "True")]
)
def test_a_checkpoint_holds_what_trains_and_gives_the_model_back(tmp_path, overrides):
    model = micro_model(tmp_path, *overrides, seed=0)
    with torch.no_grad():
        for group in model.parameter_groups():
            for parameter in group["params"]:
                parameter.add_(0.01 * torch.randn_like(parameter))
    state = {name: tensor.clone() for name, tensor in model.checkpoint_state().items()}
    other = micro_model(tmp_path, *overrides, seed=1)
    batch = [dict(s, descriptions=["Texture of moss"]) for s in evaluation_batch()]
    due = model.eval()(batch)
    assert not torch.equal(other.eval()(batch)[0]["sem_seg"], due[0]["sem_seg"])
    other.load_checkpoint_state(state)
    other.load_checkpoint_header(model.checkpoint_header())
    for ours, theirs in zip(other(batch), due, strict=True):
        assert torch.equal(ours["sem_seg"], theirs["sem_seg"])
    broken = dict(state)
    taken = broken.pop("head.dustbin")
    broken["head.bin"] = taken
    broken["head.bridge.0.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as error:
        other.load_checkpoint_state(broken)
    for part in ("missing: head.dustbin", "left over: head.bin", "shape of head.bridge.0.bias"):
        assert part in str(error.value)


def test_a_checkpoint_knows_the_frozen_parts_that_it_belongs_to(tmp_path, caplog):
    header = micro_model(tmp_path).checkpoint_header()
    others = [("MODEL.RANDOM_WEIGHTS_SEED", "7")]
    if find_spec("sam3"):
        others.append(("MODEL.SEGMENTER.NAME", "Sam3Meta"))
    for overrides in others:
        with pytest.raises(CheckpointError, match="use the config that it was trained with"):
            micro_model(tmp_path, *overrides).load_checkpoint_header(header)
    edited = json.loads((tmp_path / "vlm.json").read_text())
    edited["text_config"]["rms_norm_eps"] = 1e-5
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    with pytest.raises(CheckpointError, match="edited"):
        model = micro_model(tmp_path, "MODEL.VLM.CONFIG", str(tmp_path / "edited.json"))
        model.load_checkpoint_header(header)
    # Where everything trains, the seed of what it started from says nothing.
    whole = ("MODEL.VLM.TRAIN", "full", "MODEL.SEGMENTER.TRAIN", "True")
    header = micro_model(tmp_path, *whole).checkpoint_header()
    micro_model(tmp_path, *whole, "MODEL.RANDOM_WEIGHTS_SEED", "7").load_checkpoint_header(header)
    assert "trained with" not in caplog.text
    for key, value in (
        ("MODEL.VLM.ATTENTION", "causal"),
        ("MODEL.VLM.IMAGE_SIZE", "128"),
        ("MODEL.VLM.STOP_SUPERVISION", "released"),
        ("MODEL.VLM.PROMPTS", "default"),
    ):
        caplog.clear()
        micro_model(tmp_path, *whole, key, value).load_checkpoint_header(header)
        assert "WARNING" in caplog.text, key


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"MODEL\.FEATURE_CACHE"):
        micro_model(tmp_path, "MODEL.FEATURE_CACHE", str(tmp_path / "file"))
    model = micro_model(tmp_path, "MODEL.FEATURE_CACHE", str(tmp_path / "cache")).train()

    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detecture.modeling.encoding.feature_cache.write_atomic", full)
    assert all(torch.isfinite(loss) for loss in model(training_batch()).values())
    assert caplog.text.count("nothing is kept") == 1


@pytest.mark.parametrize("stage", [1, 2])
def test_the_cache_changes_nothing(tmp_path, stage):
    plain = micro_model(tmp_path, "MODEL.BRIDGE.DROPOUT", "0.0")
    folder = tmp_path / "cache"
    cached = micro_model(
        tmp_path, "MODEL.FEATURE_CACHE", str(folder), "MODEL.BRIDGE.DROPOUT", "0.0"
    )
    due = {}
    for round_number in range(3):
        for model in (plain, cached):
            model.train()
            model.set_stage(stage)
            model.zero_grad()
            losses = model(training_batch())
            sum(losses.values()).backward()
            values = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            if model is plain:
                due = values
        files = sorted(folder.rglob("*.safetensors"))
        # Per image: features of the segmenter and of the VLM, and in stage 1 its states.
        assert len(files) == (6 if stage == 1 else 4)
        assert due.keys() == values.keys()
        for name, gradient in due.items():
            assert torch.allclose(values[name], gradient, atol=1e-5), name
        if round_number == 1:  # damage: a flipped bit, an empty file; computed anew
            content = bytearray(files[0].read_bytes())
            content[-1] ^= 1
            files[0].write_bytes(bytes(content))
            files[1].write_bytes(b"")


def test_cached_states_know_the_weights_that_they_come_from(tmp_path):
    model = micro_model(tmp_path, "MODEL.FEATURE_CACHE", str(tmp_path / "cache")).train()
    model.set_stage(1)
    model(training_batch())
    count = len(list((tmp_path / "cache").rglob("*.safetensors")))
    with torch.no_grad():
        next(p for _, p in model.vlm.seg_row_parameters()).add_(1.0)
    model(training_batch())
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == count + 2


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.VLM.ATTENTION", "causal"),
        ("MODEL.VLM.LM_ATTENTION", "block_diagonal"),
        ("MODEL.BRIDGE.DECODING", "multi_slot"),
        ("MODEL.BRIDGE.KIND", "bottleneck"),
        ("LOSS.LM_CLIFF", "naive"),
        ("LOSS.LM_CLIFF", "cosine"),
        ("LOSS.LM_CLIFF", "uniform"),
        ("LOSS.LM_CLIFF", "seg_only"),
        ("MODEL.VLM.SEG_ROWS", "frozen"),
        ("MODEL.VLM.WARM_START", "mean"),
        ("MODEL.VLM.WARM_START", "random"),
        ("MODEL.VLM.STOP_SUPERVISION", "released"),
        ("MODEL.VLM.TRAIN_COUNT", "exact"),
        ("MODEL.VLM.TRAIN_COUNT", "mixed"),
        ("LOSS.NORMALIZER", "published"),
        ("MODEL.DTYPE", "bfloat16"),
        pytest.param(
            ("MODEL.SEGMENTER.NAME", "Sam3Meta"),
            marks=pytest.mark.skipif(find_spec("sam3") is None, reason="needs Meta's sam3"),
        ),
    ],
)
def test_every_switch_runs_a_step_and_an_evaluation(tmp_path, overrides):
    model = micro_model(tmp_path, *overrides).train()
    losses = model(training_batch((1, 6)))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    live = model.eval()(evaluation_batch(k=2))
    oracle = model([dict(s, descriptions=["Texture of moss"]) for s in evaluation_batch()])
    assert all(torch.isfinite(o["sem_seg"]).all() for o in [*live, *oracle])


def test_the_count_reaches_the_prompt(tmp_path):
    model = micro_model(tmp_path).eval()
    asked = []
    whole_prefix = model.vlm.prefix
    model.vlm.prefix = lambda vision, counts: asked.append(counts) or whole_prefix(vision, counts)
    model(evaluation_batch(k=3))
    model(evaluation_batch())
    assert asked == [["3", "3"], ["between 1 and 6"] * 2]


def test_more_regions_than_lines_are_dustbin(tmp_path):
    model = micro_model(tmp_path, "MODEL.MAX_REGIONS", "2").train()
    batch = training_batch((4,))
    assert int(batch[0]["sem_seg"].max()) == 4
    assert all(torch.isfinite(loss) for loss in model(batch).values())


def test_a_image_is_encoded_once_for_several_questions(tmp_path):
    cfg = make_config(None, micro_overrides(tmp_path))
    predictor = TexturePredictor(build_model(cfg))
    calls = []
    encode = predictor.model.vlm.encode_images
    predictor.model.vlm.encode_images = lambda images: calls.append(1) or encode(images)
    image = evaluation_batch()[0]["image"]
    predictor.set_image(image)
    results = [predictor.predict(count) for count in (1, 2, None)]
    assert len(calls) == 1
    assert (predictor(image, count=2).label_map == results[1].label_map).all()


def test_without_a_config():
    head = BridgeHead(shape=HeadShape(hidden_size=8, text_width=6, width=4))
    assert [name for name, _ in head.named_parts()] == ["bridge", "mask_head", "dustbin"]
    with pytest.raises(ConfigError, match=r"MODEL.BRIDGE.KIND is 'wide'; use one of native"):
        BridgeHead(shape=HeadShape(8, 6, 4), settings=BridgeSettings(kind="wide"))


def test_unknown_names_are_refused(tmp_path):
    for key in ("MODEL.VLM.NAME", "MODEL.SEGMENTER.NAME", "MODEL.SEM_SEG_HEAD.NAME"):
        with pytest.raises(ConfigError, match=key):
            micro_model(tmp_path, key, "Nobody")
    with pytest.raises(ConfigError, match="TRAIN_COUNT"):
        micro_model(tmp_path, "MODEL.VLM.TRAIN_COUNT", "some")

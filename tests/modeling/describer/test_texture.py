"""The describer's convolutional look at textures: what it adds, what trains, what it reads."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from detecture.checkpoint.checkpointer import Checkpointer
from detecture.config import make_config
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model
from detecture.modeling.describer.distinct import prefix_of
from detecture.modeling.describer.texture import (
    CLASSES,
    NUM_CLASSES,
    TextureHint,
    TextureOdds,
    _moments,
    _shares,
    by_attribute,
    is_readout,
)
from detecture.modeling.grouping.net import GroupingNet
from detecture.modeling.vlm.hint import hinted
from tests.micro import micro_overrides, training_batch

WIDTHS = (8, 8, 16, 16)
WORDS = [
    *("MODEL.META_ARCHITECTURE", "RegionDescriber", "MODEL.VLM.PROMPTS", "describe"),
    *("MODEL.VLM.TRAIN", "full", "MODEL.VLM.MAX_NEW_TOKENS", "12", "LOSS.LM_WEIGHT", "1.0"),
]
TEXTURE = ["MODEL.DESCRIBER.TEXTURE", "True", "MODEL.DESCRIBER.TEXTURE_WIDTHS", str(WIDTHS)]
GROUPING = [
    *("MODEL.META_ARCHITECTURE", "TextureGrouping"),
    *("MODEL.GROUPING.WIDTHS", str(WIDTHS), "MODEL.GROUPING.CHANNELS", "8"),
]


def build(folder, *overrides):
    return build_model(make_config(None, [*micro_overrides(folder), *WORDS, *overrides]))


def small_look():
    """With a last layer that is not zero."""
    torch.manual_seed(0)
    look = TextureOdds(WIDTHS)
    torch.nn.init.normal_(look.head[-1].weight)
    return look


def make_image(size=40):
    """Noise on the left, a flat grey on the right; masks of both."""
    image = torch.full((3, size, size), 120, dtype=torch.uint8)
    left = torch.zeros(size, size, dtype=torch.bool)
    left[:, : size // 2] = True
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(256, image.shape, generator=generator, dtype=torch.uint8)
    return torch.where(left, noise, image), torch.stack([left, ~left])


def test_a_fresh_one_changes_nothing(tmp_path):
    plain, looking = build(tmp_path), build(tmp_path, *TEXTURE)
    batch = training_batch((2, 3))
    losses = [model.train()([dict(s) for s in batch])["loss_lm"] for model in (plain, looking)]
    assert torch.equal(*losses)
    image, masks = make_image()
    written = [model.eval().describer.describe(image, masks) for model in (plain, looking)]
    assert written[0] == written[1]


def test_it_is_added_to_prompts_and_answers(tmp_path):
    looking = build(tmp_path, *TEXTURE).eval()
    describer, vlm = looking.describer, looking.describer.vlm
    torch.nn.init.normal_(describer.texture.odds.head[-1].weight)
    torch.nn.init.normal_(describer.texture.readout.weight)
    embedded = []
    embedding = vlm.model.get_input_embeddings()
    embedding.register_forward_hook(
        lambda module, args, out: embedded.append(out - module.base(args[0]))
    )
    prefix = describer._prompts([make_image()])
    hints = prefix.hint_BD
    assert hints.shape == (2, vlm.hidden_size)
    assert not torch.allclose(hints[0], hints[1], atol=1e-2)
    embedded.clear()
    vlm.write(prefix, vlm.new_cache())
    assert len(embedded) > 2  # the prompts, then token by token
    for added in embedded:
        assert torch.allclose(added, hints[:, None].expand_as(added), atol=1e-4)
    # One region's prompt keeps its own, a pass over given answers adds the same, and none stays.
    embedded.clear()
    vlm.teacher_forced(prefix_of(prefix, 1), [[300, 301, 302]], predictions=True)
    assert torch.allclose(embedded[0][0], hints[1].expand_as(embedded[0][0]), atol=1e-4)
    embedded.clear()
    embedding(torch.tensor([[300, 301]]))
    assert not embedded[0].any()


def test_what_it_sees_reaches_the_loss(tmp_path):
    looking, batch = build(tmp_path, *TEXTURE).train(), training_batch((2,))
    readout = {
        name: p for name, p in looking.describer.texture.named_parameters() if is_readout(name)
    }
    with torch.no_grad():
        before = float(looking([dict(batch[0])])["loss_lm"])
        for parameter in readout.values():
            torch.nn.init.normal_(parameter)
        assert len(readout) == 2
        assert float(looking([dict(batch[0])])["loss_lm"]) != before


def test_a_hint_is_read_from_probabilities():
    torch.manual_seed(0)
    hint = TextureHint(WIDTHS, 12)
    torch.nn.init.normal_(hint.odds.head[-1].weight)
    torch.nn.init.normal_(hint.readout.weight)
    image, masks = make_image()
    odds = hint.odds(image[None], [masks])
    assert odds.shape == (2, NUM_CLASSES)
    parts = by_attribute(odds)
    assert [part.shape[1] for part in parts.values()] == [len(v) for v in CLASSES.values()]
    due = 0
    start = 0
    for part in parts.values():
        weight = hint.readout.weight[:, start : start + part.shape[1]]
        due = due + part.softmax(dim=1) @ weight.T
        start += part.shape[1]
    assert torch.allclose(hint(image[None], [masks]), due, atol=1e-5)


def test_regions_differ_and_do_not_depend_on_their_company():
    look = small_look()
    image, masks = make_image()
    other = image.flip(-1)
    with torch.no_grad():
        both = look(torch.stack([image, other]), [masks, masks[:1]])
        alone = look(other[None], [masks[:1]])
    assert both.shape == (3, NUM_CLASSES)
    assert not torch.allclose(both[0], both[1], atol=1e-2)
    assert torch.allclose(both[2:], alone, atol=1e-5)


def test_moments_are_those_of_the_regions_pixels():
    """Equal to the mean and deviation over pixels that each take their cell's features."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(1, 41, 41, generator=generator) < 0.3
    for stride, share in zip((4, 8, 16), _shares(mask), strict=True):
        side = 48 // stride
        cells = torch.randn(side * side, 5, generator=generator)
        pixels = cells.reshape(side, side, 5)
        pixels = pixels.repeat_interleave(stride, 0).repeat_interleave(stride, 1)[:41, :41]
        own = pixels[mask[0]]
        due = torch.cat([own.mean(0), own.std(0, correction=0)])
        assert torch.allclose(_moments(cells, share)[0], due, atol=1e-4)


def test_thin_and_empty_regions_stay_finite():
    look = small_look()
    image, _ = make_image(41)
    masks = torch.zeros(3, 41, 41, dtype=torch.bool)
    masks[0, 40, 40] = True
    masks[1, :, 7] = True  # the third is empty
    vectors = look(image[None], [masks])
    vectors.square().sum().backward()
    assert vectors.isfinite().all()
    assert all(p.grad.isfinite().all() for p in look.parameters())


def test_a_flat_image_has_finite_gradients():
    look = small_look()
    flat = torch.full((1, 3, 32, 32), 7, dtype=torch.uint8)
    look(flat, [torch.ones(1, 32, 32, dtype=torch.bool)]).sum().backward()
    assert all(p.grad.isfinite().all() for p in look.parameters())


def test_it_trains_in_groups_of_its_own(tmp_path):
    model = build(tmp_path, *TEXTURE).train()
    for name, parameter in model.describer.texture.named_parameters():
        if name.endswith("head.3.weight") or is_readout(name):
            torch.nn.init.normal_(parameter, std=0.1)
    model(training_batch())["loss_lm"].backward()
    groups = {group["name"]: group["names"] for group in model.parameter_groups()}
    assert all(name.startswith("describer.texture.") for name in groups["texture"])
    last = {"describer.texture.readout.weight", "describer.texture.readout.bias"}
    assert set(groups["texture_readout"]) == last
    trained = {name for names in groups.values() for name in names}
    assert trained == {name for name, p in model.named_parameters() if p.requires_grad}
    trunk = [p for name, p in model.named_parameters() if "texture" in name and ".trunk." in name]
    assert trunk and all(float(p.grad.abs().max()) > 0 for p in trunk)


def test_checkpoints_come_back(tmp_path):
    model = build(tmp_path / "a", *TEXTURE)
    Checkpointer(model, str(tmp_path)).save_weights("kept")
    other = build(tmp_path / "b", *TEXTURE, "MODEL.RANDOM_WEIGHTS_SEED", "5")
    stem = other.describer.texture.odds.trunk.stem.weight
    assert not torch.equal(stem, model.describer.texture.odds.trunk.stem.weight)
    Checkpointer(other, "").load(str(tmp_path / "kept.safetensors"))
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(CheckpointError, match=r"left over: describer\.texture"):
        Checkpointer(build(tmp_path / "c"), "").load(str(tmp_path / "kept.safetensors"))


def test_a_file_without_it_starts_a_training_but_is_no_whole_model(tmp_path, caplog):
    plain = build(tmp_path / "a", "MODEL.RANDOM_WEIGHTS_SEED", "5")
    looking = build(tmp_path / "b", *TEXTURE)
    before = [p.clone() for p in looking.describer.texture.parameters()]
    with caplog.at_level(logging.WARNING, logger="detecture"):
        looking.load_checkpoint_state(plain.checkpoint_state())
    assert "describer.texture.*: they stay" in caplog.text
    assert all(map(torch.equal, before, looking.describer.texture.parameters()))
    vlm = zip(looking.describer.vlm.parameters(), plain.describer.vlm.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in vlm)
    partial = looking.checkpoint_state()
    partial.pop("describer.texture.odds.trunk.stem.weight")
    with pytest.raises(CheckpointError, match=r"missing: describer\.texture\.odds\.trunk\.stem"):
        looking.load_checkpoint_state(partial)

    whole = build(tmp_path / "c", *GROUPING, *TEXTURE)
    state = whole.checkpoint_state()
    whole.load_checkpoint_state(state)
    without = {n: t for n, t in state.items() if not n.startswith("describer.texture.")}
    with pytest.raises(CheckpointError, match=r"missing: describer\.texture"):
        whole.load_checkpoint_state(without)


def test_the_trunk_starts_from_a_grouping_net(tmp_path):
    names = ["MODEL.GROUPING.DESCRIBE", "False", "MODEL.RANDOM_WEIGHTS_SEED", "9"]
    grouping = build(tmp_path, *GROUPING, *names)
    Checkpointer(grouping, str(tmp_path)).save_weights("net")
    file = str(tmp_path / "net.safetensors")
    weights = ["MODEL.DESCRIBER.TEXTURE_WEIGHTS", file]
    trunk = build(tmp_path, *TEXTURE, *weights).describer.texture.odds.trunk
    own = dict(grouping.net.named_parameters())
    assert all(torch.equal(p, own[name]) for name, p in trunk.named_parameters())
    assert isinstance(grouping.net, GroupingNet)

    wide = ["MODEL.DESCRIBER.TEXTURE_WIDTHS", "(16, 16, 16, 16)"]
    with pytest.raises(CheckpointError, match=r"net\.safetensors: .*shape of net\.stem"):
        build(tmp_path, *TEXTURE, *wide, *weights)
    Checkpointer(build(tmp_path), str(tmp_path)).save_weights("words")
    other = ["MODEL.DESCRIBER.TEXTURE_WEIGHTS", str(tmp_path / "words.safetensors")]
    with pytest.raises(CheckpointError, match=r"words\.safetensors: .*missing: net\.stem"):
        build(tmp_path, *TEXTURE, *other)
    gone = ["MODEL.DESCRIBER.TEXTURE_WEIGHTS", str(tmp_path / "gone.safetensors")]
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: no such"):
        build(tmp_path, *TEXTURE, *gone)
    build(tmp_path, *GROUPING, *TEXTURE, *gone)  # not read where nothing trains it
    with pytest.raises(ConfigError, match=r"DESCRIBER\.TEXTURE is False"):
        build(tmp_path, *weights)


def test_shipped_weights_and_bad_widths(tmp_path):
    shipped = "detecture://texture_grouping.safetensors"
    look = TextureOdds((24, 48, 96, 160))
    before = look.trunk.stem.weight.clone()
    look.start_from(shipped)
    assert not torch.equal(look.trunk.stem.weight, before)
    for widths in ("(24, 48, 96)", "(24, 48, 96, 100)", "(0, 8, 8, 8)"):
        with pytest.raises(ConfigError, match="TEXTURE_WIDTHS"):
            build(tmp_path, *TEXTURE, "MODEL.DESCRIBER.TEXTURE_WIDTHS", widths)


def test_the_recipe_is_a_config():
    cfg = make_config("configs/recipes/describer_texture.yaml", [])
    assert cfg.MODEL.DESCRIBER.TEXTURE
    assert cfg.MODEL.VLM.IMAGE_SIZE == 160
    # What the look knows, sentences would unlearn; only how the VLM reads it is trained.
    assert cfg.SOLVER.LR_FACTOR.TEXTURE == 0.0 < cfg.SOLVER.LR_FACTOR.TEXTURE_READOUT


def test_threads_that_share_a_model_do_not_mix_their_hints(tmp_path):
    looking = build(tmp_path, *TEXTURE).eval()
    embedding = looking.describer.vlm.model.get_input_embeddings()
    ids = torch.tensor([[300, 301]])
    plain, both_inside = embedding(ids).detach(), threading.Barrier(2)

    def added(value):
        with torch.no_grad(), hinted(torch.full((1, plain.shape[-1]), value)):
            both_inside.wait(timeout=30)
            return embedding(ids) - plain

    with ThreadPoolExecutor(2) as pool:
        for value, found in zip((1.0, 5.0), pool.map(added, (1.0, 5.0)), strict=True):
            assert torch.allclose(found, torch.full_like(found, value), atol=1e-4)

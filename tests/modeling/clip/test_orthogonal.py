"""Orthogonal fine-tuning of CLIP, and HA-HEM: what is turned, how far, and what it costs."""

import math

import pytest
import torch
from ahs_toy import PARTS, TURNED, count, disturb, toy_model, weightless

from detecture.errors import ConfigError
from detecture.modeling.clip.encoder import ClipEncoder
from detecture.modeling.clip.orthogonal import (
    Modulation,
    OrthogonalAdapter,
    Rotations,
    cayley,
    hyperspherical_energy,
    turn_blocks,
)
from detecture.modeling.clip.tokenizer import tokenize


def skew(*shape, dtype=torch.float64, seed=0):
    a = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return (a - a.mT) / 2


def rotation(theta):
    return torch.tensor(
        [[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]],
        dtype=torch.float64,
    )


class TestCayley:
    @pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
    def test_is_orthogonal(self, dtype, most):
        turned = cayley(skew(128, 128, dtype=dtype))
        one = torch.eye(128, dtype=dtype)
        assert turned.dtype == dtype
        assert float((turned.T @ turned - one).abs().max()) < most
        assert float(torch.det(turned.double())) == pytest.approx(1.0, abs=1e-4)

    def test_of_two_dimensions(self):
        generator = torch.tensor([[0.0, 0.3], [-0.3, 0.0]], dtype=torch.float64)
        expected = torch.tensor([[0.834862, -0.550459], [0.550459, 0.834862]], dtype=torch.float64)
        torch.testing.assert_close(cayley(generator), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(cayley(generator), rotation(2 * math.atan(0.3)))

    def test_of_zero_is_the_identity(self):
        assert torch.equal(cayley(torch.zeros(3, 5, 5)), torch.eye(5).expand(3, 5, 5))

    def test_is_float32_at_least(self):
        given = skew(16, 16, dtype=torch.float32).half()
        assert cayley(given).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            turned = cayley(skew(16, 16, dtype=torch.float32))
        torch.testing.assert_close(turned.T @ turned, torch.eye(16), atol=1e-5, rtol=0)

    def test_of_batches(self):
        many = skew(2, 3, 8, 8)
        torch.testing.assert_close(cayley(many)[1, 2], cayley(many[1, 2]))


def test_blocks_are_a_block_diagonal_matrix():
    blocks, x = torch.randn(3, 4, 4), torch.randn(5, 12)
    torch.testing.assert_close(turn_blocks(x, blocks), x @ torch.block_diag(*blocks).T)


class TestEnergy:
    def test_of_orthonormal_rows(self):
        rows = torch.linalg.qr(torch.randn(128, 128, dtype=torch.float64))[0][:64]
        assert float(hyperspherical_energy(rows)) == pytest.approx(64 * 63 / math.sqrt(2))
        assert 64 * 63 / math.sqrt(2) == pytest.approx(2851.0545417)

    def test_does_not_see_length(self):
        rows = torch.randn(8, 12, dtype=torch.float64)
        scaled = rows * torch.arange(1, 9)[:, None]
        torch.testing.assert_close(hyperspherical_energy(scaled), hyperspherical_energy(rows))

    def test_is_kept_by_rotations_and_by_nothing_else(self):
        rows = torch.randn(64, 128, dtype=torch.float64)
        turned = cayley(skew(2, 64, 64))
        before = hyperspherical_energy(rows)
        after = hyperspherical_energy(turn_blocks(rows, turned))
        torch.testing.assert_close(after, before)
        half = 0.5 * torch.eye(64) + 0.5 * turned
        assert abs(float(hyperspherical_energy(turn_blocks(rows, half)) - before)) > 0.1

    def test_is_least_where_rows_are_apart(self):
        near = torch.tensor([[1.0, 0.0], [1.0, 0.1]])
        apart = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        assert hyperspherical_energy(near) > hyperspherical_energy(apart)
        assert float(hyperspherical_energy(apart)) == pytest.approx(2 / 2)


class TestModulationLoss:
    """||R_a' R_a - I||^2 of one rotation by 0.7, as published."""

    @pytest.mark.parametrize(
        ("strength", "expected"), [(0.0, 0.0), (0.3, 0.0195095), (0.5, 0.0276496), (1.0, 0.0)]
    )
    def test_ortho(self, strength, expected):
        modulation = Modulation({"text": 1, "image": 1}, "ortho").double()
        turned = (1 - strength) * torch.eye(2).double() + strength * rotation(0.7)
        blocks = turned[None, None, None]
        rest = torch.eye(2).double()[None, None, None]
        # One layer: its strength varies from no other, and its weight is 1.
        loss = modulation.loss(Rotations(text=blocks, image=rest), {})
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-7)

    def test_layers_weigh_less_towards_the_end(self):
        modulation = Modulation({"text": 3, "image": 3}, "ortho").double()
        one = torch.eye(2).double()
        losses = []
        for layer in range(3):
            blocks = one.expand(3, 4, 1, 2, 2).clone()
            blocks[layer] = 1.1 * one
            losses.append(float(modulation.loss(Rotations(blocks, one.expand(3, 4, 1, 2, 2)), {})))
        gap = 2 * (1.1**2 - 1) ** 2
        assert losses == pytest.approx([gap, 0.65 * gap, 0.3 * gap])

    def test_strengths_are_spread_and_smooth(self):
        modulation = Modulation({"text": 3, "image": 1}, "ortho").double()
        one = torch.eye(2).double()
        with torch.no_grad():
            modulation.layer_logits["text"].copy_(torch.tensor([-1.0, 0.0, 2.0]))
        rest = Rotations(one.expand(3, 4, 1, 2, 2), one.expand(1, 4, 1, 2, 2))
        a = torch.sigmoid(torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)).numpy()
        steps = ((a[1] - a[0]) ** 2 + (a[2] - a[1]) ** 2) / 2
        assert float(modulation.loss(rest, {})) == pytest.approx(-0.1 * a.var() + 0.05 * steps)

    def test_mhe_is_zero_for_rotations_and_grows_else(self):
        modulation = Modulation({"text": 1, "image": 1}, "mhe")
        rows = {name: torch.randn(1, 4, 16, 8) for name in ("text", "image")}
        turned = cayley(skew(1, 4, 2, 4, 4, dtype=torch.float32))
        assert float(modulation.loss(Rotations(turned, turned), rows)) == pytest.approx(0, abs=1e-4)
        squeezed = torch.diag(torch.tensor([3.0, 0.1, 0.1, 0.1])).expand(1, 4, 2, 4, 4)
        assert float(modulation.loss(Rotations(turned, squeezed), rows)) > 0.01

    def test_starts(self):
        modulation = Modulation({"text": 2, "image": 3})
        torch.testing.assert_close(modulation.strength("text"), torch.full((2,), 0.3 * 0.7))
        torch.testing.assert_close(modulation.strength("image"), torch.full((3,), 0.3 * 0.9))


def make(modulation=None, seed=0, **options):
    model = toy_model("CATSeg", "MODEL.CLIP.FINETUNE", "frozen", seed=seed)
    clip = model.clip
    depths = {"text": clip.text_depth, "image": clip.depth}
    if modulation is not None:
        options["modulation"] = Modulation(depths, modulation)
    return clip, OrthogonalAdapter(clip, block=16, **options)


def features(clip):
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    image, ids = clip.encode_image(pixels), tokenize(["wet sand", "sky"], 77)
    return torch.cat([image.tokens_BEGG.flatten(), clip.encode_text(ids).flatten()])


@pytest.mark.parametrize(
    "options",
    [{}, {"image_cayley": True}, {"relation": False}, {"modulation": "mhe"}],
    ids=["plain", "image_cayley", "no_relation", "modulated"],
)
def test_clip_is_as_it_was_at_the_start(options):
    plain = toy_model("CATSeg", "MODEL.CLIP.FINETUNE", "frozen").clip
    clip, adapter = make(**options)
    with torch.no_grad():
        before = features(plain)
        assert torch.equal(features(clip), before)
        with adapter.acting():
            torch.testing.assert_close(features(clip), before, atol=1e-5, rtol=0)
            disturb([adapter.deviations["image"]])
        with adapter.acting():
            turned = features(clip)
            assert not torch.allclose(turned, before, atol=1e-3)
            with adapter.resting():
                assert torch.equal(features(clip), before)
            assert torch.equal(features(clip), turned)
        assert torch.equal(features(clip), before)


@pytest.mark.parametrize("modulation", [None, "mhe"])
def test_merged_weights_give_the_same(modulation):
    clip, adapter = make(modulation)
    disturb(adapter.parameters())
    with torch.no_grad():
        with adapter.acting():
            turned = features(clip)
        adapter.merge()
        torch.testing.assert_close(features(clip), turned, atol=1e-4, rtol=1e-4)
    assert {type(m).__name__ for m in clip.modules()}.isdisjoint({"TurnedLinear"})


def test_inputs_are_turned_and_the_output_of_the_last():
    clip, adapter = make()
    disturb([adapter.deviations["image"]])
    attention = clip.model.vision_model.encoder.layers[1].self_attn
    x = torch.randn(3, clip.width)
    with torch.no_grad(), adapter.acting():
        blocks = adapter.rotations().image[1]
        for number, name in enumerate(("q_proj", "k_proj", "v_proj")):
            layer = getattr(attention, name)
            whole = torch.block_diag(*blocks[number])
            expected = x @ (layer.weight @ whole).T + layer.base.bias
            torch.testing.assert_close(layer(x), expected)
        whole, layer = torch.block_diag(*blocks[3]), attention.out_proj
        torch.testing.assert_close(layer(x), x @ (whole @ layer.weight).T + layer.base.bias)


class TestBlocks:
    def test_text_is_orthogonal_and_images_are_free(self):
        _, adapter = make()
        disturb(adapter.deviations.parameters())
        found = adapter.rotations()
        assert found.text.shape == found.image.shape == (3, 4, 2, 16, 16)
        one = torch.eye(16)
        torch.testing.assert_close(found.text.mT @ found.text, one.expand_as(found.text))
        gap = (found.image.mT @ found.image - one).abs().amax(dim=(-1, -2))
        assert float(gap.min()) > 0.05

    @pytest.mark.parametrize("interpolation", ["linear", "cayley"])
    def test_interpolation(self, interpolation):
        _, adapter = make("ortho", interpolation=interpolation)
        disturb(adapter.deviations.parameters())
        found = adapter.rotations().text
        gap = float((found.mT @ found - torch.eye(16)).abs().max())
        assert gap < 1e-5 if interpolation == "cayley" else gap > 1e-3
        with torch.no_grad():
            adapter.modulation.layer_logits["text"][1] = -100.0
        turned = adapter.rotations().text
        torch.testing.assert_close(turned[1], torch.eye(16).expand_as(turned[1]))
        assert torch.equal(turned[0], found[0])

    def test_the_gradient_of_text_is_skew(self):
        clip, adapter = make(relation=False)
        disturb(adapter.deviations.parameters())
        with adapter.acting():
            features(clip).square().sum().backward()
        gradient = adapter.deviations["text"].grad
        assert gradient.abs().max() > 0
        torch.testing.assert_close(gradient, -gradient.mT)
        image = adapter.deviations["image"].grad
        assert not torch.allclose(image, -image.mT)

    def test_relations_reach_across_encoders_and_layers(self):
        _, adapter = make()
        disturb([adapter.deviations["image"]])

        def moved():
            return (adapter.rotations().text - torch.eye(16)).abs().amax(dim=(1, 2, 3, 4))

        assert not moved().any()
        with torch.no_grad():
            adapter.block_relation[0, 0, 3] = 1.0  # of text block 0 on image block 1, layer 0
        assert (moved() > 1e-3).tolist() == [True, False, False]
        with torch.no_grad():
            adapter.layer_relation["both"][4, 0] = 1.0  # of layer 1 on layer 0, queries
        assert (moved() > 1e-3).tolist() == [True, True, False]

    def test_a_block_that_does_not_divide(self):
        clip = toy_model("CATSeg", "MODEL.CLIP.FINETUNE", "frozen").clip
        with pytest.raises(ConfigError, match=r"BLOCK 24: .* 32 wide"):
            OrthogonalAdapter(clip, block=24)


def test_full_size_of_b():
    model, _ = weightless("h_clip_vitb")
    parameters = dict(model.adapter.named_parameters())
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    assert sizes["deviations.text"] == 12 * 4 * 4 * 128 * 128
    assert sizes["deviations.image"] == 12 * 4 * 6 * 128 * 128
    assert sizes["block_relation"] == 1_200
    assert sizes["layer_relation.both"] == 2_304
    assert count(parameters.values()) == 7_867_824
    assert not any(p.requires_grad for p in model.clip.parameters())


def test_full_size_of_l():
    """Which cannot be built as published."""
    model, _ = weightless("vitl_336_enhanced")
    sizes = {n: p.numel() for n, p in model.adapter.deviations.named_parameters()}
    assert sizes == {"text": 4_718_592, "image": 12_582_912}
    assert set(model.adapter.layer_relation) == {"text", "image"}
    assert model.adapter.deviations["text"].shape == (12, 4, 6, 128, 128)
    assert model.adapter.deviations["image"].shape == (24, 4, 8, 128, 128)
    assert count(model.adapter.modulation.parameters()) == 12 + 24 + 2


def test_encoders_of_different_depths():
    """Each text layer goes with the visual layers beside it; what it gets is their mean."""
    from transformers import CLIPConfig, CLIPModel

    base = toy_model("CATSeg", "MODEL.CLIP.FINETUNE", "frozen").clip.model.config.to_dict()
    base["vision_config"]["num_hidden_layers"] = 6
    base["text_config"]["vocab_size"] = 64
    clip = ClipEncoder(CLIPModel(CLIPConfig(**base)), grid=4).requires_grad_(False)
    adapter = OrthogonalAdapter(clip, block=16)
    with torch.no_grad():
        adapter.deviations["image"][2] = skew(16, 16, dtype=torch.float32)
        adapter.block_relation[2, 0, 2] = 1.0  # of text block 0 on image block 0
        moved = (adapter.rotations().text - torch.eye(16)).abs().amax(dim=(3, 4)) > 1e-3
        expected = cayley(0.5 * skew(16, 16, dtype=torch.float32))
        torch.testing.assert_close(adapter.rotations().text[1, 0, 0], expected)
    assert moved[:, :, 0].all(dim=1).tolist() == [False, True, False]
    assert not moved[:, :, 1].any()


def test_the_energy_loss_without_modulation_is_zero():
    _, adapter = make()
    assert float(adapter.energy_loss()) == 0.0


@pytest.mark.parametrize("energy", ["mhe", "ortho"])
def test_the_energy_loss_trains_the_strengths(energy):
    clip, adapter = make(energy)
    disturb(adapter.deviations.parameters(), by=0.3)
    adapter.energy_loss().backward()
    for name in ("text", "image"):
        # The text's blocks are mixed with the identity: no rotations any more.
        assert adapter.modulation.layer_logits[name].grad.any()
        assert adapter.deviations[name].grad.any()
    assert all(p.grad is None for p in clip.model.parameters())


def test_the_switches_of_the_config():
    plain = toy_model("CATSeg", *TURNED)
    assert plain.adapter.modulation is None and plain.adapter.block_relation is not None
    off = ["MODEL.CLIP.ORTHOGONAL.RELATION", "False", "MODEL.CLIP.ORTHOGONAL.IMAGE_CAYLEY", "True"]
    other = toy_model("CATSeg", *TURNED, *off)
    assert other.adapter.block_relation is None and other.adapter._cayley["image"]
    turned = toy_model("AHSSeg", *PARTS["energy"], "MODEL.ADAPTIVE_ENERGY.ENERGY", "ortho")
    assert turned.adapter.modulation.energy == "ortho"
    with pytest.raises(ConfigError, match="ADAPTIVE_ENERGY"):
        toy_model("AHSSeg", "MODEL.ADAPTIVE_ENERGY.ENABLED", "True")

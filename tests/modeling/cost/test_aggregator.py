"""The aggregation of the cost: counts, properties that need no weights, any number of classes."""

import pytest
import torch
from ahs_toy import count, toy_model, weightless
from torch.nn import functional

from detecture.modeling.cost.aggregator import (
    NOT_CONSIDERED,
    AggregatorShape,
    CostAggregator,
    best_classes,
    cost_volume,
)
from detecture.modeling.cost.classwise import ClassAggregation
from detecture.modeling.cost.decoder import Decoder
from detecture.modeling.cost.spatial import GuidedLinear, WindowBlock, shifted_mask

SMALL = {
    "embed_width": 24,
    "grid": 8,
    "hidden": 16,
    "heads": 2,
    "window": 4,
    "text_guidance": 8,
    "image_guidance": 8,
    "decoder": (16, 16),
    "decoder_guidance": (16, 16),
    "decoder_guidance_projected": (8, 8),
}
ONE = (1, 1)


def make(seed=0, **changes):
    torch.manual_seed(seed)
    model = CostAggregator(AggregatorShape(**{**SMALL, **changes}))
    with torch.no_grad():
        for layer in model.layers:
            layer.classwise.padding_token.normal_()
            layer.classwise.padding_guidance.normal_()
    return model


def inputs(classes, batch=2, templates=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, 24, 8, 8, generator=generator)
    guidance = [torch.randn(batch, 16, side, side, generator=generator) for side in (16, 32)]
    text = functional.normalize(torch.randn(classes, templates, 24, generator=generator), dim=-1)
    return tokens, guidance, text


def run(model, classes=5, pooling=ONE, **changes):
    tokens, guidance, text = inputs(classes)
    return model(tokens, tokens, guidance, text, pooling=pooling, **changes)


class TestFullSize:
    @pytest.mark.parametrize(
        ("name", "total", "enlarge", "image", "text"),
        [
            ("cat_seg_vitb", 2_308_961, (786_688, 1_572_992), 589_952, 65_664),
            ("cat_seg_vitl", 2_636_641, (1_048_832, 2_097_280), 884_864, 98_432),
        ],
    )
    def test_counts(self, name, total, enlarge, image, text):
        head = weightless(name)[0].head
        own = head.aggregator
        assert (count(own.parameters()), len(list(own.parameters()))) == (total, 128)
        assert tuple(count(one.parameters()) for one in head.enlarge) == enlarge
        assert count(own.image_projection.parameters()) == image
        assert count(own.text_projection.parameters()) == text
        assert count(own.embed.parameters()) == 6_400
        for layer in own.layers:
            assert count(layer.parameters()) == 677_120
            assert count(layer.spatial.parameters()) == 462_336
            assert count(layer.classwise.parameters()) == 214_784
        decoder = own.decoder
        assert count(decoder.projections.parameters()) == 92_208
        assert [count(stage.parameters()) for stage in decoder.stages] == [160_096, 40_112]
        assert count(decoder.head.parameters()) == 289
        groups = [m.num_groups for m in decoder.modules() if isinstance(m, torch.nn.GroupNorm)]
        assert groups == [4, 4, 2, 2]
        assert own.layers[0].spatial.blocks[1].mask_MAA.shape == (4, 144, 144)

    @pytest.mark.parametrize(("name", "embed"), [("cat_seg_vitb", 512), ("cat_seg_vitl", 768)])
    def test_shapes(self, name, embed):
        model, _ = weightless(name)
        head, width = model.head, model.clip.width
        tokens = torch.empty(2, embed, 24, 24, device="meta")
        text = torch.empty(171, 1, embed, device="meta")
        layers = [torch.empty(2, width, 24, 24, device="meta")] * 2
        enlarged = [one(layer) for one, layer in zip(head.enlarge, layers, strict=True)]
        assert [one.shape for one in enlarged] == [(2, 256, 48, 48), (2, 128, 96, 96)]
        cost = cost_volume(tokens, text)
        assert cost.shape == (2, 1, 171, 24, 24)
        assert head.aggregator._embed(cost).shape == (2, 128, 171, 24, 24)
        logits = head(tokens, tokens, layers, text, pooling=(2, 2))
        assert logits.shape == (2, 171, 96, 96)


class TestCost:
    def test_is_the_cosine(self):
        tokens, _, text = inputs(5, templates=2)
        found = cost_volume(3 * tokens, 0.1 * text)
        expected = functional.cosine_similarity(tokens[1, :, 2, 3], text[4, 1], dim=0)
        torch.testing.assert_close(found[1, 1, 4, 2, 3], expected)
        assert found.shape == (2, 2, 5, 8, 8) and float(found.abs().max()) <= 1

    def test_best_classes_are_those_with_the_greatest_cosine(self):
        cost = torch.rand(2, 30, 8, 8)
        greatest = cost.amax(dim=(0, 2, 3))
        found = best_classes(cost, 7)
        assert found.tolist() == sorted(greatest.argsort(descending=True)[:7].tolist())


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("pooling", [ONE, (2, 2)])
class TestAnyClasses:
    def test_order_does_not_matter(self, linear, pooling):
        model = make(linear_attention=linear)
        tokens, guidance, text = inputs(6)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        with torch.no_grad():
            found = model(tokens, tokens, guidance, text, pooling=pooling)
            moved = model(tokens, tokens, guidance, text[order], pooling=pooling)
        torch.testing.assert_close(moved, found[:, order], atol=1e-5, rtol=0)
        assert float((found[:, 0] - found[:, 1]).abs().max()) > 1e-3

    @pytest.mark.parametrize("classes", [1, 4, 256])
    def test_any_number(self, linear, pooling, classes):
        model = make(linear_attention=linear)
        with torch.no_grad():
            found = run(model, classes, pooling)
        assert found.shape == (2, classes, 32, 32) and found.isfinite().all()
        assert float(found.min()) > NOT_CONSIDERED

    def test_more_than_are_considered(self, linear, pooling):
        model = make(linear_attention=linear)
        tokens, guidance, text = inputs(847)
        with torch.no_grad():
            found = model(tokens, tokens, guidance, text, pooling=pooling, chunk=32)
            greatest = cost_volume(tokens, text).amax(dim=(1, 3, 4))
        considered = found.amax(dim=(2, 3)) > NOT_CONSIDERED
        assert considered.sum(dim=1).tolist() == [256, 256]
        assert not torch.equal(considered[0], considered[1])  # each image has its own
        for row in range(2):
            best = greatest[row].argsort(descending=True)[:256].sort().values
            assert torch.equal(considered[row].nonzero()[:, 0], best)
            assert (found[row][~considered[row]] == -100).all()
            alone = model(
                tokens[row : row + 1],
                tokens[row : row + 1],
                [part[row : row + 1] for part in guidance],
                text[best],
                pooling=pooling,
            )
            torch.testing.assert_close(found[row][best], alone[0], atol=1e-4, rtol=1e-4)
        assert float(torch.tensor(NOT_CONSIDERED).sigmoid()) == 0.0

    def test_in_parts(self, linear, pooling):
        model = make(linear_attention=linear)
        with torch.no_grad():
            whole = run(model, 5, pooling)
            for chunk in (1, 2, 5):
                part = run(model, 5, pooling, chunk=chunk)
                torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-5)

    def test_a_batch_is_its_images(self, linear, pooling):
        model = make(linear_attention=linear)
        tokens, guidance, text = inputs(5)
        with torch.no_grad():
            both = model(tokens, tokens, guidance, text, pooling=pooling)
            for row in range(2):
                one = slice(row, row + 1)
                parts = [part[one] for part in guidance]
                alone = model(tokens[one], tokens[one], parts, text, pooling=pooling)
                torch.testing.assert_close(alone[0], both[row], atol=1e-5, rtol=1e-5)


def test_poolings_have_the_same_weights():
    model = make()
    with torch.no_grad():
        fine, coarse = run(model, pooling=ONE), run(model, pooling=(2, 2))
    assert fine.shape == coarse.shape and not torch.allclose(fine, coarse)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("classes", [5, 256, 300])
def test_every_tensor_gets_a_gradient(linear, classes):
    """Of 256 classes and more none is padding; processes wait for its gradient all the same."""
    model = make(linear_attention=linear)
    logits = run(model, classes, (2, 2))
    logits.square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    of_padding = [p for n, p in model.named_parameters() if n.endswith(("_token", "_guidance"))]
    assert len(of_padding) == 4
    assert all(bool(p.grad.any()) == (classes < 256) for p in of_padding)


def test_guidance_has_an_effect():
    model = make()
    tokens, guidance, text = inputs(4)
    with torch.no_grad():
        plain = model(tokens, tokens, guidance, text, pooling=ONE)
        for number in (0, 1):
            other = list(guidance)
            other[number] = other[number] + torch.randn_like(other[number])
            assert not torch.allclose(model(tokens, tokens, other, text, pooling=ONE), plain)
        assert not torch.allclose(model(tokens, -tokens, guidance, text, pooling=ONE), plain)


def test_a_further_cost():
    model = make(extra_costs=1)
    extra = torch.randn(2, 1, 4, 8, 8)
    with torch.no_grad():
        # Nothing at first.
        one, two = run(model, 4, extra_BXTGG=extra), run(model, 4, extra_BXTGG=2 * extra)
        torch.testing.assert_close(one, two)
        model.embed.weight[:, 1:].normal_()
        one, two = run(model, 4, extra_BXTGG=extra), run(model, 4, extra_BXTGG=2 * extra)
    assert not torch.allclose(one, two, atol=1e-3)


class TestClassAttention:
    """As CAT-Seg computes it: with all padding classes, and every sum written out."""

    def parts(self, linear, classes=5, padded_to=9):
        torch.manual_seed(0)
        layer = ClassAggregation(16, 8, 2, linear=linear, padded_to=padded_to).double()
        with torch.no_grad():
            layer.padding_token.normal_()
            layer.padding_guidance.normal_()
        x, guidance = torch.randn(2, 3, classes, 16).double(), torch.randn(2, classes, 8).double()
        missing = max(padded_to - classes, 0)
        all_x = torch.cat([x, layer.padding_token.expand(2, 3, missing, -1)], dim=2)
        all_g = torch.cat([guidance, layer.padding_guidance.expand(2, missing, -1)], dim=1)
        normed = layer.norm1(all_x)
        seen = torch.cat([normed, all_g[:, None].expand(-1, 3, -1, -1)], dim=-1)
        q = functional.linear(seen, layer.query.weight, layer.query.bias)
        k = functional.linear(seen, layer.key.weight, layer.key.bias)
        found = layer._attention(layer.norm1(x), guidance)
        return found, q[:, :, :classes], k, layer.value(normed)

    @pytest.mark.parametrize("classes", [1, 5, 9, 12])
    def test_linear(self, classes):
        found, q, k, v = self.parts(True, classes)
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            weight = torch.einsum("bntc,bnsc->bnts", q[..., head], k[..., head])
            shared = weight / (weight.sum(dim=-1, keepdim=True) + 1e-6)
            heads.append(shared @ v[..., head])
        torch.testing.assert_close(found, torch.cat(heads, dim=-1))

    @pytest.mark.parametrize("classes", [1, 5, 9, 12])
    def test_softmax(self, classes):
        found, q, k, v = self.parts(False, classes)
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            weight = torch.einsum("bntc,bnsc->bnts", q[..., head], k[..., head]) / 8**0.5
            heads.append(weight.softmax(dim=-1) @ v[..., head])
        torch.testing.assert_close(found, torch.cat(heads, dim=-1))

    @pytest.mark.parametrize("linear", [True, False])
    def test_constant_values_stay(self, linear):
        torch.manual_seed(0)
        layer = ClassAggregation(16, 8, 2, linear=linear, padded_to=9).double()
        with torch.no_grad():
            layer.value.weight.zero_()
        found = layer._attention(torch.randn(2, 3, 5, 16).double(), torch.randn(2, 5, 8).double())
        torch.testing.assert_close(found, layer.value.bias.expand_as(found), atol=1e-5, rtol=0)

    def test_the_residual_stands_twice(self):
        """As in the weights that were released: x + (x + ..)."""
        layer = ClassAggregation(16, 8, 2)
        with torch.no_grad():
            for part in (layer.value, layer.mlp[2]):
                part.weight.zero_()
                part.bias.zero_()
        x = torch.randn(2, 16, 5, 8, 8)
        torch.testing.assert_close(layer(x, torch.randn(2, 5, 8), ONE), 2 * x)
        constant = x.mean(dim=(3, 4), keepdim=True).expand_as(x)
        torch.testing.assert_close(layer(constant, torch.randn(2, 5, 8), (2, 2)), 2 * constant)


class TestWindows:
    def test_a_linear_layer_of_both_is_one_of_its_parts(self):
        layer = GuidedLinear(6, 4, 5)
        x, guidance = torch.randn(3, 6), torch.randn(3, 4)
        whole = functional.linear(torch.cat([x, guidance], dim=1), layer.weight, layer.bias)
        torch.testing.assert_close(layer(x, layer.of_guidance(guidance)), whole)

    @pytest.mark.parametrize("shift", [0, 2])
    def test_windows_and_back(self, shift):
        block = WindowBlock(16, 8, 2, grid=8, window=4, shift=shift)
        x = torch.randn(2, 3, 64, 16)
        assert torch.equal(block._whole(block._windows(x), x.shape), x)
        assert block._windows(x).shape == (2 * 3 * 4, 2, 16, 8)

    def test_what_patches_see(self):
        """Without a shift their window; with it, of a window at the edge, their own side."""
        for shift in (0, 2):
            torch.manual_seed(0)
            block = WindowBlock(16, 8, 2, grid=8, window=4, shift=shift)
            x = torch.randn(1, 1, 64, 16, requires_grad=True)
            out = block(x, torch.randn(1, 64, 8))
            out[0, 0, 0].sum().backward()
            seen = x.grad[0, 0].abs().sum(dim=-1).reshape(8, 8) > 1e-12
            expected = torch.zeros(8, 8, dtype=torch.bool)
            side = 4 if shift == 0 else 2
            expected[:side, :side] = True
            assert torch.equal(seen, expected), shift

    def test_the_mask(self):
        mask = shifted_mask(24, 12, 6)
        assert mask.shape == (4, 144, 144) and set(mask.unique().tolist()) == {-100.0, 0.0}
        assert not mask[0].any()
        assert (mask[3] == 0).float().mean() == 0.25

    def test_each_class_by_itself(self):
        torch.manual_seed(0)
        block = WindowBlock(16, 8, 2, grid=8, window=4, shift=2)
        x, guidance = torch.randn(2, 3, 64, 16), torch.randn(2, 64, 8)
        both = block(x, guidance)
        torch.testing.assert_close(block(x[1:, 2:], guidance[1:]), both[1:, 2:])


def test_the_decoder_takes_classes_one_by_one():
    torch.manual_seed(0)
    decoder = Decoder(16, (16, 16), (4, 4), (8, 8))
    x = torch.randn(2, 3, 16, 8, 8)
    guidance = decoder.project([torch.randn(2, 4, side, side) for side in (16, 32)])
    found = decoder(x, guidance)
    assert found.shape == (2, 3, 32, 32)
    torch.testing.assert_close(decoder(x[:, 1:2], guidance), found[:, 1:2], atol=1e-5, rtol=1e-5)


def test_a_stage_of_the_decoder_is_its_convolutions_on_both():
    """What it makes of the guidance is computed once for all classes, and is the same."""
    torch.manual_seed(0)
    stage = Decoder(16, (16, 16), (4, 4), (8, 8)).stages[0]
    x, guidance = torch.randn(2, 3, 16, 8, 8), torch.randn(2, 8, 16, 16)
    larger = stage.up(x.flatten(0, 1))
    shown = guidance.repeat_interleave(3, dim=0)
    expected = stage.convolutions(torch.cat([larger, shown], dim=1)).unflatten(0, (2, 3))
    torch.testing.assert_close(stage(x, guidance), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooling", [(1, 1), (2, 2)])
def test_patches_meet_some_at_a_time(pooling):
    torch.manual_seed(0)
    layer = ClassAggregation(16, 8, 2, padded_to=9)
    met = []
    layer.norm2.register_forward_pre_hook(lambda module, given: met.append(given[0].shape[1]))
    x, guidance = torch.randn(2, 16, 5, 8, 8), torch.randn(2, 5, 8)
    whole = layer(x, guidance, pooling)
    patches = 64 // (pooling[0] * pooling[1])
    assert met == [patches]
    met.clear()
    torch.testing.assert_close(layer(x, guidance, pooling, chunk=1), whole)
    assert sum(met) == patches and max(met) == patches // 5


def test_the_layer_at_a_third_guides_the_first_stage():
    """As CAT-Seg's code has it; its paper says the reverse."""
    model = toy_model().eval()
    assert model.taps == (0, 1)
    seen = []
    for one in model.head.enlarge:
        one.register_forward_hook(lambda module, given, out: seen.append((given[0], out.shape)))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = model.clip.encode_image(pixels, model.taps)
        model.compare_features(features, ("sky",), ONE)
    (first, small), (second, large) = seen
    assert torch.equal(first, features.taps[0]) and torch.equal(second, features.taps[1])
    assert (small[-1], large[-1]) == (16, 32)

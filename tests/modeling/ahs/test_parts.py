"""AHS-Seg's parts by themselves: sizes, figures, gradients."""

import math

import pytest
import torch
from ahs_toy import count, disturb
from torch.nn import functional

from detecture.errors import ConfigError
from detecture.modeling.ahs.boundary import boundary_loss
from detecture.modeling.ahs.class_projection import ClassProjection
from detecture.modeling.ahs.distillation import distillation_loss, distillation_weight
from detecture.modeling.ahs.patch_labels import class_means, patch_labels, patch_purity
from detecture.modeling.ahs.prototypes import Prototypes
from detecture.modeling.ahs.rectification import Rectification
from detecture.modeling.ahs.spherical_fpn import SphericalFpn

IGNORE = 255


def halves(size=16):
    labels = torch.zeros(1, size, size, dtype=torch.int64)
    labels[:, :, size // 2 :] = 1
    return labels


class TestSizes:
    """As published, and the gate that stands for its fixed half."""

    @pytest.mark.parametrize(
        ("width", "out", "fusion", "published"),
        [
            (768, 512, "weighted", 4_614_150),
            # Published of a last level that has 768 channels already, and so no first layer.
            (1024, 768, "weighted", 9_278_214 + 1024 * 768 + 3 * 768),
            (768, 512, "attention", 4_618_758),
        ],
    )
    def test_of_the_fpn(self, width, out, fusion, published):
        with torch.device("meta"):
            fpn = SphericalFpn(width, out, 3, fusion)
        assert count(fpn.parameters()) == published + 1
        if width == 768:
            assert count(fpn.levels[0].parameters()) == 663_553

    @pytest.mark.parametrize(("width", "published"), [(512, 99_619), (768, 223_155)])
    def test_of_rectification(self, width, published):
        with torch.device("meta"):
            assert count(Rectification(width).parameters()) == published

    def test_of_prototypes(self):
        assert count(Prototypes(171, 512).parameters()) == 171


class TestBoundary:
    def test_edges_where_labels_meet(self):
        labels = halves()
        right = torch.stack([labels == 0, labels == 1], dim=1).float() * 20 - 10
        flat = torch.zeros_like(right)
        wrong = right.roll(4, dims=-1)
        good, none, bad = (float(boundary_loss(x, labels, IGNORE)) for x in (right, flat, wrong))
        assert good < 0.01 and none > 1 and bad > 1

    def test_class_numbers_do_not_matter(self):
        logits = torch.randn(1, 12, 16, 16)
        near, far = halves(), halves() * 11
        order = [0, 11, *range(2, 11), 1]
        one = boundary_loss(logits, near, IGNORE)
        assert torch.equal(one, boundary_loss(logits[:, order], far, IGNORE))

    def test_unknown_pixels_are_no_edge(self):
        labels = torch.full((1, 16, 16), IGNORE)
        logits = torch.randn(1, 2, 16, 16, requires_grad=True)
        loss = boundary_loss(logits, labels, IGNORE)
        loss.backward()
        assert float(loss.detach()) == 0 and not logits.grad.any()
        labels[:, :8] = 0  # edges of known and unknown do not count: there is none
        flat = boundary_loss(torch.zeros(1, 2, 16, 16), labels, IGNORE)
        assert float(flat) < 1e-5


class TestPatches:
    def test_labels_are_those_of_the_middle(self):
        labels = torch.arange(64).reshape(1, 8, 8)
        expected = torch.tensor([[18, 22], [50, 54]])
        assert torch.equal(patch_labels(labels, 2)[0], expected)

    def test_purity(self):
        labels = torch.zeros(1, 8, 8, dtype=torch.int64)
        labels[0, :4, :1] = 3
        labels[0, 4:, 4:] = IGNORE
        purity, known = patch_purity(labels, 2, IGNORE)
        torch.testing.assert_close(purity, torch.tensor([[[0.75, 1.0], [1.0, 1.0]]]))
        assert known.tolist() == [[[True, True], [True, False]]]

    def test_means(self):
        features = torch.randn(2, 5, 4, 4)
        labels = torch.randint(0, 3, (2, 4, 4))
        labels[0, 0] = IGNORE
        means, counts = class_means(features, labels, 4, IGNORE)
        chosen = features.movedim(1, -1)[labels == 1]
        torch.testing.assert_close(means[1], chosen.mean(dim=0))
        assert counts.tolist() == [int((labels == n).sum()) for n in range(4)]
        assert not means[3].any()


class TestDistillation:
    @pytest.mark.parametrize(
        ("iteration", "weight"),
        [(0, 0.0), (2_500, 0.25), (5_000, 0.5), (42_500, 0.3), (80_000, 0.1), (99_999, 0.1)],
    )
    def test_schedule(self, iteration, weight):
        assert distillation_weight(iteration, 5_000, 80_000) == pytest.approx(weight)

    def test_alike_is_nothing(self):
        student = torch.randn(2, 5, 4, 4, requires_grad=True)
        loss = distillation_loss(student, 3 * student.detach())
        loss.backward()
        assert float(loss.detach()) < 1e-6 and float(student.grad.abs().max()) < 1e-3

    @pytest.mark.parametrize("angle", [0.001, 0.5, math.pi / 2, 3.0])
    def test_is_the_angle(self, angle):
        teacher = torch.zeros(1, 2, 3, 3)
        teacher[:, 0] = 2
        turned = torch.tensor([math.cos(angle), math.sin(angle)])
        student = turned[None, :, None, None].expand(1, 2, 3, 3).clone().requires_grad_()
        loss = distillation_loss(student, teacher)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(angle, rel=1e-3)
        assert student.grad.isfinite().all() and student.grad.any()


class TestRectification:
    def test_changes_nothing_at_first(self):
        part, tokens = Rectification(32), torch.randn(2, 32, 4, 4)
        assert torch.equal(part(tokens), tokens)
        disturb(part.parameters())
        assert not torch.allclose(part(tokens), tokens)

    def test_certainty_is_taught(self):
        torch.manual_seed(0)
        part, tokens = Rectification(32), torch.randn(1, 32, 4, 4)
        labels = halves()
        labels[:, ::2, :4] = 7  # the first column of patches is mixed
        optimizer = torch.optim.Adam(part.parameters(), lr=0.02)
        first = float(part.loss(tokens, labels, IGNORE).detach())
        for _ in range(60):
            optimizer.zero_grad()
            loss = part.loss(tokens, labels, IGNORE)
            loss.backward()
            optimizer.step()
        certainty = part.certainty(tokens)[0, 0]
        assert float(loss.detach()) < first
        assert certainty[:, 0].mean() < certainty[:, 1:].mean() - 0.2

    def test_nothing_known(self):
        part, tokens = Rectification(32), torch.randn(1, 32, 4, 4)
        loss = part.loss(tokens, torch.full((1, 16, 16), IGNORE), IGNORE)
        loss.backward()
        assert float(loss.detach()) == 0


class TestPrototypes:
    def parts(self, momentum=0.9):
        torch.manual_seed(0)
        text = functional.normalize(torch.randn(3, 2, 8), dim=-1)
        labels = torch.tensor([[[0, 0, 1], [0, 1, IGNORE]]])[:, :, :2].repeat(1, 1, 1)
        return Prototypes(3, 8, momentum), torch.randn(1, 8, 2, 2), text, labels

    def test_begin_at_the_names_and_move(self):
        part, tokens, text, labels = self.parts()
        start = functional.normalize(text.mean(dim=1), dim=-1)
        loss = part.loss(tokens, text, labels, IGNORE)
        unit = functional.normalize(tokens, dim=1).movedim(1, -1)
        logits = unit.reshape(-1, 8) @ start.T / 0.07
        torch.testing.assert_close(loss, functional.cross_entropy(logits, labels.flatten()))
        mean = unit[labels == 0].mean(dim=0)
        expected = functional.normalize(0.9 * start[0] + 0.1 * mean, dim=-1)
        torch.testing.assert_close(part.points_TE[0], expected)
        torch.testing.assert_close(part.points_TE[2], start[2])  # was not there
        before = part.points_TE.clone()
        part.loss(tokens, -text, labels, IGNORE)
        assert not torch.allclose(part.points_TE[2], -start[2])
        assert not torch.equal(part.points_TE[0], before[0])

    def test_temperatures_and_patches_learn(self):
        part, tokens, text, labels = self.parts()
        tokens.requires_grad_()
        part.loss(tokens, text, labels, IGNORE).backward()
        assert part.temperature.grad.any() and tokens.grad.any()

    def test_nothing_known(self):
        part, tokens, text, labels = self.parts()
        loss = part.loss(tokens, text, torch.full_like(labels, IGNORE), IGNORE)
        loss.backward()
        assert float(loss.detach()) == 0 and part.temperature.grad is not None

    def test_other_classes_are_refused(self):
        part, tokens, text, labels = self.parts()
        with pytest.raises(ConfigError, match=r"2 classes .* made for 3"):
            part.loss(tokens, text[:2], labels, IGNORE)


class TestClassProjection:
    def test_begins_as_the_cosine(self):
        part, tokens = ClassProjection(24, 4), torch.randn(2, 24, 4, 4)
        text = torch.randn(5, 1, 24)
        expected = functional.cosine_similarity(tokens[1, :, 2, 3], text[4, 0], dim=0)
        found = part(tokens, text)
        assert found.shape == (2, 1, 5, 4, 4)
        torch.testing.assert_close(found[1, 0, 4, 2, 3], expected)
        disturb(part.parameters())
        assert not torch.allclose(part(tokens, text), found)

    def test_complexity_scales_what_is_added(self):
        part, text = ClassProjection(24, 4), torch.randn(5, 1, 24)
        disturb(part.parameters())
        before = part.names(text)
        with torch.no_grad():
            part.complexity[-1].bias.fill_(-100.0)
        plain = functional.normalize(part.text(functional.normalize(text[:, 0], dim=-1)), dim=-1)
        torch.testing.assert_close(part.names(text), plain)
        assert not torch.allclose(before, plain, atol=1e-4)

    def test_contrast(self):
        part = ClassProjection(24, 4)
        text = torch.eye(24)[:3, None]
        labels = halves()
        right = text[patch_labels(labels, 4), 0].movedim(-1, 1)
        good = float(part.contrast(right, text, labels, IGNORE).detach())
        bad = float(part.contrast(right.flip(-1), text, labels, IGNORE).detach())
        # Two are present; logits are 10 and 0.
        assert good == pytest.approx(math.log(1 + math.exp(-10)), rel=1e-2)
        assert bad == pytest.approx(10, rel=1e-2)

    def test_fewer_than_two_classes(self):
        part, tokens = ClassProjection(24, 4), torch.randn(1, 24, 4, 4)
        loss = part.contrast(tokens, torch.randn(3, 1, 24), halves() * 0, IGNORE)
        loss.backward()
        assert float(loss.detach()) == 0 and part.text.weight.grad is not None


@pytest.mark.parametrize("fusion", ["weighted", "attention", "concat"])
@pytest.mark.parametrize("levels", [1, 2, 4])
class TestFpn:
    def parts(self, fusion, levels):
        torch.manual_seed(0)
        tokens = torch.randn(2, 24, 4, 4)
        return SphericalFpn(32, 24, levels, fusion), tokens, list(torch.randn(levels, 2, 32, 4, 4))

    def test_changes_nothing_at_first(self, fusion, levels):
        fpn, tokens, layers = self.parts(fusion, levels)
        assert torch.equal(fpn(tokens, layers), tokens)
        disturb([fpn.gate])
        found = fpn(tokens, layers)
        assert not torch.allclose(found, tokens)
        for number in range(levels):
            other = [-layer if n == number else layer for n, layer in enumerate(layers)]
            assert not torch.allclose(fpn(tokens, other), found)

    def test_all_of_it_learns(self, fusion, levels):
        fpn, tokens, layers = self.parts(fusion, levels)
        disturb([fpn.gate])
        fpn(tokens, layers).square().sum().backward()
        lacking = [n for n, p in fpn.named_parameters() if p.grad is None]
        assert lacking == []

    def test_levels_lie_on_spheres(self, fusion, levels):
        fpn, _, layers = self.parts(fusion, levels)
        length = fpn.levels[0](layers[0]).norm(dim=1)
        torch.testing.assert_close(length, torch.full_like(length, 24**0.5))
        with torch.no_grad():
            fpn.levels[0].radius.mul_(2)
        torch.testing.assert_close(fpn.levels[0](layers[0]).norm(dim=1), 2 * length)

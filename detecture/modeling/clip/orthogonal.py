"""Orthogonal fine-tuning of CLIP: the weights stay, their inputs and outputs are turned.

H-CLIP (Peng et al. 2024, arXiv 2405.18840): in every attention of both encoders the inputs of the
query, key and value projections, and the output of the last one, are multiplied by block-diagonal
matrices; those of the text encoder are orthogonal by Cayley's transform, those of the image encoder
are free ("partial orthogonality"), and two relation operators mix the generators of all blocks of a
layer, across both encoders, and of all layers.

As published the matrices themselves are parameters, so that weight decay pulls them towards zero;
here every parameter is a deviation from the identity and starts at zero, so decay pulls towards
CLIP as it was. Published code fixes 4 and 6 blocks and 12 layers; here they follow from the model,
and where the encoders differ in depth each text layer goes with the visual layers beside it.

HA-HEM (AHS-Seg) on top, see `Modulation`: how far each layer of each encoder is turned is learnt.

Legend: M layers, J = 4 projections (query, key, value, out), K blocks, d side of a block,
C = K*d channels of a layer, I, O its inputs and outputs (either is C), R some rows of its weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detecture.errors import ConfigError
from detecture.modeling.clip.encoder import ClipEncoder

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
_ENERGY_ROWS = 64


def cayley(skew: Tensor) -> Tensor:
    """Orthogonal matrices (1 + S)^-1 (1 - S) of skew-symmetric ones, (..,d,d) to (..,d,d).

    In float32 at least. A rotation by twice the arc tangent of the entries; the identity for S = 0.
    """
    wide = skew.to(torch.promote_types(skew.dtype, torch.float32))
    one = torch.eye(wide.shape[-1], device=wide.device, dtype=wide.dtype)
    with torch.autocast(wide.device.type, enabled=False):
        turned: Tensor = torch.linalg.solve(one + wide, one - wide)
    return turned


def turn_blocks(x: Tensor, blocks_Kdd: Tensor) -> Tensor:
    """Multiply the channels of x by a block-diagonal matrix: (..,C) to (..,C)."""
    count, side = blocks_Kdd.shape[0], blocks_Kdd.shape[1]
    parts = x.unflatten(-1, (count, side))
    return torch.einsum("...kc,kdc->...kd", parts, blocks_Kdd.to(x.dtype)).flatten(-2)


class _Slot:
    """Where a turned layer finds its blocks (K,d,d) while a pass runs."""

    blocks: Tensor | None = None


class TurnedLinear(nn.Module):
    """A frozen linear layer whose input or output is turned."""

    def __init__(self, base: nn.Linear, slot: _Slot, *, output: bool) -> None:
        """Wrap a layer; `output`: its output is turned, and its bias added behind that."""
        super().__init__()
        self.base = base
        self.output = output
        self._slot = slot

    @property
    def weight(self) -> Tensor:
        """Of the layer (O,I), not turned."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """x (..,I) to (..,O)."""
        blocks = self._slot.blocks
        if blocks is None:
            plain: Tensor = self.base(x)
            return plain
        if not self.output:
            turned: Tensor = self.base(turn_blocks(x, blocks))
            return turned
        projected = nn.functional.linear(x, self.base.weight)
        return turn_blocks(projected, blocks) + self.base.bias


@dataclass(frozen=True)
class Rotations:
    """The blocks of both encoders, (M,J,K,d,d) each."""

    text: Tensor
    image: Tensor

    def of(self, encoder: str) -> Tensor:
        """Those of `text` or `image`, (M,J,K,d,d)."""
        return self.text if encoder == "text" else self.image


class Modulation(nn.Module):
    """HA-HEM: layer-wise and modality-wise strength of the rotations, with an energy term.

    As published: R' = (1 - a b) I + a b R with a = sigmoid of a logit of the layer, from 0.3 on,
    and b = sigmoid of a logit of the encoder, 1.0 for images and 0.7 for text; the loss is the sum
    over layers of w_l ||R'^T R' - I||^2 - 0.1 Var(a) + 0.05 mean((a_{l+1} - a_l)^2), w from 1 down
    to 0.3. The published code never builds it: its loss is a constant zero, b of images sits at
    sigmoid(18), where nothing is learnt, and ||R'^T R' - I||^2 is no hyperspherical energy: for an
    orthogonal R it vanishes at a b = 0 and a b = 1 and pushes there.

    Here it acts, b starts at 0.9 and 0.7, and the energy can be chosen: `ortho` as published (the
    mean over blocks and projections), or `mhe`, by how much the hyperspherical energy of the turned
    weights, sum over i != j of 1 / ||w_i/|w_i| - w_j/|w_j|||, exceeds that of CLIP's (Liu et al.
    2018), on some of the rows. `cayley` turns by a b times the generator instead of mixing with the
    identity: exactly orthogonal, for text, at any strength.
    """

    def __init__(self, layers: dict[str, int], energy: str = "mhe") -> None:
        """Make the parameters.

        Args:
            layers: M of `text` and of `image`.
            energy: `ortho` or `mhe`.
        """
        super().__init__()
        self.energy = energy
        start = {"text": 0.7, "image": 0.9}
        self.layer_logits = nn.ParameterDict(
            {
                name: nn.Parameter(torch.full((count,), _logit(0.3)))
                for name, count in layers.items()
            }
        )
        self.encoder_logits = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(_logit(start[name]))) for name in layers}
        )

    def strength(self, encoder: str) -> Tensor:
        """a b of each layer of an encoder, (M,), 0..1."""
        return self.layer_logits[encoder].sigmoid() * self.encoder_logits[encoder].sigmoid()

    def loss(self, rotations: Rotations, rows: dict[str, Tensor]) -> Tensor:
        """The energy term, a scalar.

        Args:
            rotations: as they act.
            rows: for `mhe`: some rows of CLIP's weights of each encoder, (M,J,R,K*d).
        """
        total = rotations.text.new_zeros(())
        for encoder in self.layer_logits:
            blocks_MJKdd = rotations.of(encoder)
            if self.energy == "ortho":
                one = torch.eye(blocks_MJKdd.shape[-1], device=blocks_MJKdd.device)
                gap = blocks_MJKdd.mT @ blocks_MJKdd - one
                energy_M = gap.square().sum(dim=(-1, -2)).mean(dim=(1, 2))
            else:
                energy_M = _excess_energy(rows[encoder], blocks_MJKdd)
            weight_M = torch.linspace(1.0, 0.3, len(energy_M), device=energy_M.device)
            strength_M = self.layer_logits[encoder].sigmoid()
            steps = strength_M.diff().square().mean() if len(strength_M) > 1 else 0.0
            spread = strength_M.var(correction=0)
            total = total + (weight_M * energy_M).sum() - 0.1 * spread + 0.05 * steps
        return total


class OrthogonalAdapter(nn.Module):
    """The turning matrices of a CLIP, which they are put into here.

    Attributes:
        modulation: HA-HEM; None: every layer turns as far as its blocks say.
    """

    def __init__(
        self,
        clip: ClipEncoder,
        *,
        block: int = 128,
        text_cayley: bool = True,
        image_cayley: bool = False,
        relation: bool = True,
        modulation: Modulation | None = None,
        interpolation: str = "linear",
    ) -> None:
        """Wrap the projections of all attentions of `clip` (in place), and make the parameters.

        Args:
            clip: the encoder; frozen.
            block: d.
            text_cayley: text blocks are orthogonal.
            image_cayley: image blocks are orthogonal too.
            relation: mix the generators across blocks, encoders and layers.
            modulation: HA-HEM.
            interpolation: of the modulation, see there; `cayley` only where blocks are orthogonal.

        Raises:
            ConfigError: a width of CLIP is no multiple of `block`.
        """
        super().__init__()
        self.block, self.interpolation = block, interpolation
        self.modulation = modulation
        self._cayley = {"text": text_cayley, "image": image_cayley}
        self._attentions = {
            "text": [layer.self_attn for layer in clip.model.text_model.encoder.layers],
            "image": [layer.self_attn for layer in clip.model.vision_model.encoder.layers],
        }
        widths = {"text": clip.text_width, "image": clip.width}
        for encoder, width in widths.items():
            if width % block:
                raise ConfigError(
                    f"MODEL.CLIP.ORTHOGONAL.BLOCK {block}: the {encoder} encoder is {width} wide; "
                    "give a divisor of both encoders' widths"
                )
        self.depths = {name: len(found) for name, found in self._attentions.items()}
        self.deviations = nn.ParameterDict(
            {
                name: nn.Parameter(torch.zeros(self.depths[name], 4, width // block, block, block))
                for name, width in widths.items()
            }
        )
        blocks = sum(width // block for width in widths.values())
        self.block_relation = self.layer_relation = None
        if relation:
            self.block_relation = nn.Parameter(torch.zeros(self.depths["image"], blocks, blocks))
            sizes = dict.fromkeys(self.depths) if len(set(self.depths.values())) > 1 else ["both"]
            self.layer_relation = nn.ParameterDict(
                {
                    name: nn.Parameter(torch.zeros(4 * depth, 4 * depth))
                    for name in sizes
                    for depth in [self.depths.get(name, self.depths["image"])]
                }
            )
        self._turning: Rotations | None = None
        self._slots = {
            name: [self._wrap(attention) for attention in found]
            for name, found in self._attentions.items()
        }

    def rotations(self) -> Rotations:
        """The matrices of all layers, as they act."""
        mixed = self._mixed()
        return Rotations(*(self._blocks(name, mixed[name]) for name in ("text", "image")))

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Inside, CLIP's attentions are turned; the matrices are computed once."""
        with self._turned_by(self.rotations()):
            yield

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Inside, CLIP is as it was, also within `acting`."""
        with self._turned_by(None):
            yield

    @contextmanager
    def _turned_by(self, rotations: Rotations | None) -> Iterator[None]:
        before = self._turning
        self._turn(rotations)
        try:
            yield
        finally:
            self._turn(before)

    def _turn(self, rotations: Rotations | None) -> None:
        self._turning = rotations
        for encoder, slots in self._slots.items():
            found = None if rotations is None else rotations.of(encoder)
            for layer, of_layer in enumerate(slots):
                for projection, slot in enumerate(of_layer):
                    slot.blocks = None if found is None else found[layer, projection]

    def energy_loss(self) -> Tensor:
        """The term of HA-HEM, a scalar; 0 without it."""
        rotations = self._turning or self.rotations()
        if self.modulation is None:
            return rotations.text.new_zeros(())
        rows = self._rows() if self.modulation.energy == "mhe" else {}
        return self.modulation.loss(rotations, rows)

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the matrices into CLIP's weights and take the wrappers out (in place)."""
        rotations = self.rotations()
        for encoder, attentions in self._attentions.items():
            for layer, attention in enumerate(attentions):
                for projection, name in enumerate(PROJECTIONS):
                    turned = getattr(attention, name)
                    base: nn.Linear = turned.base
                    blocks_Kdd = rotations.of(encoder)[layer, projection]
                    if turned.output:  # diag(R) W: each column is turned
                        base.weight.copy_(turn_blocks(base.weight.T, blocks_Kdd).T)
                    else:  # W diag(R): each row, by the transposed blocks
                        base.weight.copy_(turn_blocks(base.weight, blocks_Kdd.mT))
                    setattr(attention, name, base)

    def _wrap(self, attention: nn.Module) -> list[_Slot]:
        slots = []
        for name in PROJECTIONS:
            slot = _Slot()
            base = getattr(attention, name)
            setattr(attention, name, TurnedLinear(base, slot, output=name == "out_proj"))
            slots.append(slot)
        return slots

    def _mixed(self) -> dict[str, Tensor]:
        """Generators (M,J,K,d,d) of both encoders after the relation operators."""
        text, image = self.deviations["text"], self.deviations["image"]
        if self.block_relation is None or self.layer_relation is None:
            return {"text": text, "image": image}
        own = text.shape[2]
        # The text layer that goes with each visual one.
        beside = torch.arange(len(image), device=image.device) * len(text) // len(image)
        both = torch.cat([text[beside], image], dim=2)
        added = torch.einsum("mnk,mjkcd->mjncd", self.block_relation, both)
        share = torch.bincount(beside, minlength=len(text)).to(text.dtype)
        to_text = torch.zeros_like(text).index_add(0, beside, added[:, :, :own])
        mixed = {
            "text": text + to_text / share[:, None, None, None, None],
            "image": image + added[:, :, own:],
        }
        for name, found in mixed.items():
            relation = self.layer_relation[name if name in self.layer_relation else "both"]
            flat = found.flatten(0, 1)
            mixed[name] = found + torch.einsum("ij,jkcd->ikcd", relation, flat).reshape(found.shape)
        return mixed

    def _blocks(self, encoder: str, deviation_MJKdd: Tensor) -> Tensor:
        """Matrices (M,J,K,d,d) of an encoder."""
        strength = None if self.modulation is None else self.modulation.strength(encoder)
        one = torch.eye(self.block, device=deviation_MJKdd.device)
        if self._cayley[encoder]:
            skew = 0.5 * (deviation_MJKdd - deviation_MJKdd.mT)
            if strength is None:
                return cayley(skew)
            if self.interpolation == "cayley":
                return cayley(strength[:, None, None, None, None] * skew)
            turned = cayley(skew)
        else:
            turned = one + deviation_MJKdd
            if strength is None:
                return turned
        return one + strength[:, None, None, None, None] * (turned - one)

    def _rows(self) -> dict[str, Tensor]:
        """Some rows (M,J,R,K*d) of CLIP's weights, those that the blocks multiply."""
        found = {}
        for encoder, attentions in self._attentions.items():
            layers = []
            for attention in attentions:
                parts = []
                for name in PROJECTIONS:
                    turned = getattr(attention, name)
                    weight = turned.weight.T if turned.output else turned.weight
                    step = max(len(weight) // _ENERGY_ROWS, 1)
                    parts.append(weight[::step][:_ENERGY_ROWS].detach())
                layers.append(torch.stack(parts))
            found[encoder] = torch.stack(layers)
        return found


def hyperspherical_energy(rows: Tensor) -> Tensor:
    """Sum over i != j of 1 / distance of the directions of rows (..,R,C): (..,)."""
    unit = nn.functional.normalize(rows, dim=-1)
    gaps = (2.0 - 2.0 * unit @ unit.mT).clamp(min=1e-8)
    others = ~torch.eye(rows.shape[-2], dtype=torch.bool, device=rows.device)
    return (gaps.rsqrt() * others).sum(dim=(-1, -2))


def _excess_energy(rows_MJRC: Tensor, blocks_MJKdd: Tensor) -> Tensor:
    """By how much turning raises the energy of CLIP's weights, for a pair of rows, (M,)."""
    side = blocks_MJKdd.shape[-1]
    parts = rows_MJRC.unflatten(-1, (-1, side))
    turned = torch.einsum("mjrkd,mjkdc->mjrkc", parts, blocks_MJKdd).flatten(-2)
    excess = hyperspherical_energy(turned) - hyperspherical_energy(rows_MJRC)
    count = rows_MJRC.shape[-2]
    return excess.clamp(min=0.0).mean(dim=1) / (count * (count - 1))


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))

"""CLIP (Radford et al. 2021) for dense prediction, on the modules of transformers' `CLIPModel`.

transformers is what this project stands on anyway, and it keeps query, key and value apart, so that
queries and values alone can train. Its forward is not used: the last visual block runs in the dense
form of CAT-Seg (Cho et al. 2024, after MaskCLIP), and blocks in between are returned.

Legend: B images, S side of the square input in pixels, N = G*G patches, G grid, L = 1 + N tokens,
W visual width, E width of the common space, C either of the two, T texts, A tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import CLIPModel

# For colours in 0..255.
PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_DEVIATION = (68.5005327, 66.6321579, 70.323163)
"""OpenAI's mean and deviation of each channel."""


@dataclass(frozen=True)
class DenseFeatures:
    """An image as CLIP sees it.

    Attributes:
        tokens_BEGG: patch tokens in the common space, not normalised.
        taps: patch tokens (B,W,G,G) of each block that was asked for, by its number.
        last_BWGG: those of the last block, in its dense form, before projection.
    """

    tokens_BEGG: Tensor
    taps: dict[int, Tensor]
    last_BWGG: Tensor


class ClipEncoder(nn.Module):
    """Image and text encoder; its sizes are read from the model.

    Attributes:
        width: W.
        embed_width: E.
        depth: visual blocks.
        patch_size: in pixels.
        grid: G.
        image_size: S, `grid` patches.
        context_length: most tokens of a text.
        vocabulary_size: number of different tokens.
    """

    def __init__(self, model: CLIPModel, grid: int = 24) -> None:
        """Wrap a model, without changing it.

        Args:
            model: of transformers.
            grid: G; the positional embedding is resized to it.
        """
        super().__init__()
        self.model = model
        vision, text = model.config.vision_config, model.config.text_config
        self.width = int(vision.hidden_size)
        self.embed_width = int(model.config.projection_dim)
        self.depth = int(vision.num_hidden_layers)
        self.patch_size = int(vision.patch_size)
        self.grid = grid
        self.image_size = grid * self.patch_size
        self.text_width = int(text.hidden_size)
        self.text_depth = int(text.num_hidden_layers)
        self.context_length = int(text.max_position_embeddings)
        self.vocabulary_size = int(text.vocab_size)
        self.mean_311: Tensor
        self.deviation_311: Tensor
        self.register_buffer(
            "mean_311", torch.tensor(PIXEL_MEAN).reshape(3, 1, 1), persistent=False
        )
        deviation = torch.tensor(PIXEL_DEVIATION).reshape(3, 1, 1)
        self.register_buffer("deviation_311", deviation, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where images and texts go."""
        weight: Tensor = self.model.visual_projection.weight
        return weight.device

    def idle_parameters(self) -> set[str]:
        """Names of parameters that have no part in any output, or were given and stay."""
        last = f"model.vision_model.encoder.layers.{self.depth - 1}.self_attn."
        stem = self.model.vision_model.embeddings.patch_embedding
        given = "model.vision_model.embeddings.patch_embedding.trunk."
        idle = [f"{last}q_proj.", f"{last}k_proj.", "model.logit_scale"]
        idle += [given] if getattr(stem, "is_given", False) else []
        return {n for n, _ in self.named_parameters() if n.startswith(tuple(idle))}

    def default_taps(self) -> tuple[int, int]:
        """The blocks, from 0, after a third and two thirds of the depth: 3 and 7 of 12."""
        return max(self.depth // 3 - 1, 0), max(2 * self.depth // 3 - 1, 0)

    def preprocess(self, images: Sequence[Tensor]) -> Tensor:
        """Normalise and resize images: bilinear, corners not aligned, without their aspect.

        Args:
            images: B uint8 or float (3,H,W) in 0..255, of any sizes.

        Returns:
            float (B,3,S,S).
        """
        squares = []
        for image in images:
            pixels_3HW = (image.to(self.device).float() - self.mean_311) / self.deviation_311
            size = (self.image_size, self.image_size)
            squares.append(functional.interpolate(pixels_3HW[None], size, mode="bilinear")[0])
        return torch.stack(squares)

    def encode_image(self, pixels_B3SS: Tensor, taps: Sequence[int] = ()) -> DenseFeatures:
        """Dense features: every patch in the common space, with the value path of the last block.

        The last block: z = out(value(ln1(x))) + x[CLS], then z + mlp(ln2(z)); its queries and keys
        are not computed. (The residual is the class token's for all patches, as in the weights that
        CAT-Seg released.)

        Args:
            pixels_B3SS: from `preprocess`.
            taps: visual blocks, from 0, whose output is returned too.
        """
        vision = self.model.vision_model
        hidden_BLW = vision.pre_layrnorm(self._embed(pixels_B3SS))
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(vision.encoder.layers[:-1]):
            hidden_BLW = _hidden(block(hidden_BLW, None))
            if number in taps:
                kept[number] = hidden_BLW
        last_BLW = self._dense_block(vision.encoder.layers[-1], hidden_BLW)
        kept[self.depth - 1] = last_BLW
        tokens_BLE = self.model.visual_projection(vision.post_layernorm(last_BLW))
        return DenseFeatures(
            self._patches(tokens_BLE),
            {number: self._patches(kept[number]) for number in taps},
            self._patches(last_BLW),
        )

    def forward(self, pixels_B3SS: Tensor) -> DenseFeatures:
        """See `encode_image`."""
        return self.encode_image(pixels_B3SS)

    def encode_text(self, ids_TA: Tensor) -> Tensor:
        """Texts (T,A) as token ids, padded behind their end token, to (T,E), not normalised.

        The text is read at its end token, the greatest id; what stands behind it is not seen, so
        that ids may be cut to the longest text.
        """
        ids_TA = ids_TA.to(self.device)
        text = self.model.text_model
        hidden_TAW = text(input_ids=ids_TA).last_hidden_state
        ends_T = ids_TA.argmax(dim=1)
        rows_T = torch.arange(len(ids_TA), device=ids_TA.device)
        features_TE: Tensor = self.model.text_projection(hidden_TAW[rows_T, ends_T])
        return features_TE

    def _embed(self, pixels_B3SS: Tensor) -> Tensor:
        """Class token and patches (B,L,W) with their positions."""
        embeddings = self.model.vision_model.embeddings
        patches_BWGG = embeddings.patch_embedding(pixels_B3SS)
        patches_BNW = patches_BWGG.flatten(2).transpose(1, 2)
        first_B1W = embeddings.class_embedding.expand(len(patches_BNW), 1, -1)
        return torch.cat([first_B1W, patches_BNW], dim=1) + self._positions(patches_BWGG.shape[-1])

    def _positions(self, grid: int) -> Tensor:
        """Positional embedding (L,W): that of the class token as it is, the others resized."""
        table: Tensor = self.model.vision_model.embeddings.position_embedding.weight
        native = round((len(table) - 1) ** 0.5)
        if native == grid:
            return table
        square = table[1:].T.reshape(1, self.width, native, native)
        resized = functional.interpolate(square, (grid, grid), mode="bicubic")
        return torch.cat([table[:1], resized.reshape(self.width, grid * grid).T])

    def _dense_block(self, block: Any, hidden_BLW: Tensor) -> Tensor:
        attention = block.self_attn
        values_BLW = attention.out_proj(attention.v_proj(block.layer_norm1(hidden_BLW)))
        values_BLW = values_BLW + hidden_BLW[:, :1]
        if torch.is_grad_enabled():
            for unused in (*attention.q_proj.parameters(), *attention.k_proj.parameters()):
                if unused.requires_grad:
                    # Its gradient is zero, not absent: processes wait for all that train.
                    values_BLW = values_BLW + 0.0 * unused.sum()
        dense_BLW: Tensor = values_BLW + block.mlp(block.layer_norm2(values_BLW))
        return dense_BLW

    def _patches(self, hidden_BLC: Tensor) -> Tensor:
        """Tokens (B,L,C) without the class token, as (B,C,G,G)."""
        patches_BCN = hidden_BLC[:, 1:].transpose(1, 2)
        side = round(patches_BCN.shape[2] ** 0.5)
        return patches_BCN.reshape(*patches_BCN.shape[:2], side, side)


def _hidden(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The output (B,L,W) in what a block returns: (B,L,W), or, in older transformers, several."""
    return output[0] if isinstance(output, tuple) else output

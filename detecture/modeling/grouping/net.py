"""A small convolutional net that gives every pixel an embedding; one texture, one direction.

Legend: B images, H, W image size, h, w grid at stride 4, C embedding channels, c any channels,
N positions of the coarsest grid.
"""

from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4
"""Of the embeddings, in pixels."""

DEEPEST = 16
"""Stride of the coarsest stage, in pixels."""

_GROUPS = 8


class _Residual(nn.Module):
    """Two 3x3 convolutions with group normalisation around a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm_first = nn.GroupNorm(_GROUPS, width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm_second = nn.GroupNorm(_GROUPS, width)
        same = width_in == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(width_in, width, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B,c,h,w) to (B,d,h/s,w/s), d being the width of the block and s its stride."""
        inner = functional.relu(self.norm_first(self.first(features)))
        inner = self.norm_second(self.second(inner))
        return functional.relu(inner + self.shortcut(features))


class _Attention(nn.Module):
    """A transformer block over all positions of the coarsest grid."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens_BNc: Tensor) -> Tensor:
        """Tokens to tokens (B,N,c)."""
        batch, count, width = tokens_BNc.shape
        qkv = self.qkv(self.norm_attention(tokens_BNc))
        query, key, value = qkv.reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        tokens_BNc = tokens_BNc + self.out(seen.transpose(1, 2).reshape(batch, count, width))
        return tokens_BNc + self.mlp(self.norm_mlp(tokens_BNc))


class ConvTrunk(nn.Module):
    """Residual stages at strides 2, 4, 8 and 16."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        """Make the layers, with torch's default initialisation.

        Args:
            widths: channels of the four stages; multiples of 8.
        """
        super().__init__()
        first, second, third, fourth = widths
        self.stem = nn.Conv2d(3, first, 5, 2, 2)
        self.stage_2 = nn.Conv2d(first, first, 3, 1, 1)
        self.stage_4 = nn.Sequential(_Residual(first, second, 2), _Residual(second, second))
        self.stage_8 = nn.Sequential(_Residual(second, third, 2), _Residual(third, third))
        self.stage_16 = nn.Sequential(_Residual(third, fourth, 2), _Residual(fourth, fourth))

    def bottom_up(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of images, fine to coarse.

        Args:
            images_B3HW: sRGB in 0..1, float; sides of any length from 16 on.

        Returns:
            (B,c,h,w), (B,c,h/2,w/2) and (B,c,h/4,w/4), at strides 4, 8 and 16 of the images padded
            to multiples of 16 on the right and below; c are the last three widths.
        """
        height, width = images_B3HW.shape[-2:]
        # Reflected and not black, so that the border is no texture of its own.
        pad = (0, -width % DEEPEST, 0, -height % DEEPEST)
        padded = functional.pad(2.0 * images_B3HW - 1.0, pad, mode="replicate")
        at_2 = functional.relu(self.stage_2(functional.relu(self.stem(padded))))
        at_4 = self.stage_4(at_2)
        at_8 = self.stage_8(at_4)
        return at_4, at_8, self.stage_16(at_8)


class GroupingNet(ConvTrunk):
    """The stages of `ConvTrunk`, attention at stride 16, a top-down path to stride 4."""

    def __init__(
        self,
        widths: tuple[int, int, int, int] = (24, 48, 96, 160),
        channels: int = 48,
        attention_blocks: int = 2,
    ) -> None:
        """Make the layers, with torch's default initialisation.

        Args:
            widths: channels of the four stages; multiples of 8.
            channels: C.
            attention_blocks: transformer blocks at stride 16.
        """
        super().__init__(widths)
        self.channels = channels
        _, second, third, fourth = widths
        joint = max(64, second)
        self.attention = nn.ModuleList(_Attention(fourth) for _ in range(attention_blocks))
        self.down_16 = nn.Conv2d(fourth, third, 1)
        self.merge_8 = _Residual(third, third)
        self.down_8 = nn.Conv2d(third, joint, 1)
        self.lateral_4 = nn.Conv2d(second, joint, 1)
        self.merge_4 = _Residual(joint, joint)
        self.out = nn.Conv2d(joint, channels, 1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Embed the pixels of images.

        Args:
            images_B3HW: sRGB in 0..1, float; sides of any length from 16 on.

        Returns:
            (B,C,h,w) float32 of unit length over C, h and w being H and W over 4, rounded up.
        """
        height, width = images_B3HW.shape[-2:]
        at_4, at_8, at_16 = self.bottom_up(images_B3HW)
        tokens_BNc = at_16.flatten(2).transpose(1, 2)
        for block in self.attention:
            tokens_BNc = block(tokens_BNc)
        at_16 = tokens_BNc.transpose(1, 2).reshape(at_16.shape)
        at_8 = self.merge_8(at_8 + _double(self.down_16(at_16)))
        at_4 = self.merge_4(self.lateral_4(at_4) + _double(self.down_8(at_8)))
        embedding = self.out(at_4)[..., : -(-height // STRIDE), : -(-width // STRIDE)]
        # Directions need more than bfloat16's three digits.
        return functional.normalize(embedding.float(), dim=1)


def _double(features: Tensor) -> Tensor:
    """Features (B,c,h,w) to (B,c,2*h,2*w)."""
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

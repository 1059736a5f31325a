"""Decoder: aggregated cost to four times the grid, each class by itself, guided by the image.

What a stage makes of the image's guidance is the same for all classes and is computed once.
Where channels lie last in memory, as they come from the aggregation, convolutions of so few are
faster on a CPU.

Legend: B images, T classes, G grid, C channels, O channels that go out, D channels of a guidance,
H = 2*G side of the guidance of a stage.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class DecoderStage(nn.Module):
    """Twice the size: a transposed convolution, the guidance beside it, two convolutions."""

    def __init__(self, width: int, out: int, guidance: int) -> None:
        """Make the layers.

        Args:
            width: channels that come in.
            out: channels that go out.
            guidance: channels of the guidance.
        """
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width - guidance, 2, stride=2)
        self.convolutions = nn.Sequential(*_convolution(width, out), *_convolution(out, out))

    def forward(self, x_BTCGG: Tensor, guidance_BDHH: Tensor) -> Tensor:
        """(B,T,C,G,G) and the image's guidance (B,D,H,H) to (B,T,O,H,H)."""
        batch, classes = x_BTCGG.shape[:2]
        larger = self.up(x_BTCGG.flatten(0, 1))
        first, *others = self.convolutions
        weight, width = first.get_parameter("weight"), larger.shape[1]
        own = functional.conv2d(larger, weight[:, :width], padding=1)
        shown = functional.conv2d(guidance_BDHH, weight[:, width:], padding=1)
        done = (own.unflatten(0, (batch, classes)) + shown[:, None]).flatten(0, 1)
        for layer in others:
            done = layer(done)
        return done.unflatten(0, (batch, classes))


class Decoder(nn.Module):
    """Two stages and a head of one channel."""

    def __init__(
        self,
        width: int,
        widths: Sequence[int],
        guidance: Sequence[int],
        guidance_widths: Sequence[int],
    ) -> None:
        """Make the layers.

        Args:
            width: channels of the cost.
            widths: channels after each stage.
            guidance: channels of the guidance that comes in, of each stage.
            guidance_widths: channels that it is projected to.
        """
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, out, 3, padding=1), nn.ReLU())
            for given, out in zip(guidance, guidance_widths, strict=True)
        )
        ins = (width, *widths[:-1])
        self.stages = nn.ModuleList(
            DecoderStage(*sizes) for sizes in zip(ins, widths, guidance_widths, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def project(self, guidance: Sequence[Tensor]) -> list[Tensor]:
        """Guidance of each stage, once for all classes.

        Args:
            guidance: (B,D,2*G,2*G) and (B,D,4*G,4*G).

        Returns:
            The same shapes, with the channels that they are projected to.
        """
        return [one(given) for one, given in zip(self.projections, guidance, strict=True)]

    def forward(self, x_BTCGG: Tensor, projected: Sequence[Tensor]) -> Tensor:
        """Cost (B,T,C,G,G) and what `project` gave to logits (B,T,4*G,4*G)."""
        for stage, guidance in zip(self.stages, projected, strict=True):
            x_BTCGG = stage(x_BTCGG, guidance)
        logits: Tensor = self.head(x_BTCGG.flatten(0, 1))
        return logits[:, 0].unflatten(0, x_BTCGG.shape[:2])


def _convolution(width: int, out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(width, out, 3, padding=1, bias=False),
        nn.GroupNorm(max(out // 16, 1), out),
        nn.ReLU(),
    )

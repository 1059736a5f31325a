"""What Detecture is set up with, and what passes between its two halves.

Legend: B images, K regions, D hidden size of the VLM.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from detecture.d2 import CfgNode
from detecture.modeling.bridge.grouping_term import GroupingTerm
from detecture.modeling.encoding.encoders import Encoding


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses and settings of two of them; see the LOSS keys."""

    mask: float = 1.0
    dice: float = 3.0
    lm: float = 0.1
    lm_cliff: str = "shifted_zero"
    lm_alpha: float = 2.0
    grouping: GroupingTerm = field(default_factory=GroupingTerm)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "LossWeights":
        """Those of a config."""
        loss, grouping = cfg.LOSS, cfg.LOSS.GROUPING
        return cls(
            loss.MASK_WEIGHT,
            loss.DICE_WEIGHT,
            loss.LM_WEIGHT,
            loss.LM_CLIFF,
            loss.LM_ALPHA,
            GroupingTerm(
                loss.GROUPING_WEIGHT,
                grouping.PIXELS,
                grouping.TEMPERATURE,
                grouping.CONTRAST_WEIGHT,
            ),
        )


@dataclass(frozen=True)
class RegionStates:
    """What the VLM says of a batch of images, and the states at which it says it.

    Attributes:
        encoding: of the images.
        states_BKD: at the `<|seg|>` of each region; rows past the count hold anything.
        count_B: int64, regions of each image.
        descriptions: of each region of each image.
        texts: whole answers.
    """

    encoding: Encoding
    states_BKD: Tensor
    count_B: Tensor
    descriptions: list[list[str]]
    texts: list[str]


def prefixed(prefix: str, named: Iterator[tuple[str, nn.Parameter]]) -> dict[str, nn.Parameter]:
    """Parameters by their names behind `prefix` and a dot."""
    return {f"{prefix}.{name}": parameter for name, parameter in named}

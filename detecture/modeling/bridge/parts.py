"""What passes between the two halves of Detecture.

Legend: B images, K regions, D hidden size of the VLM.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from detecture.modeling.encoding.encoders import Encoding


@dataclass(frozen=True)
class DetectureBatch:
    """A training batch with what its losses and their normalizers both need.

    Attributes:
        samples: B mapped dicts.
        descriptions: of each, those of the regions that have a line, K texts.
        answers: of each, the token ids of the true answer.
    """

    samples: list[dict[str, Any]]
    descriptions: list[list[str]]
    answers: list[list[int]]

    @property
    def images(self) -> list[Tensor]:
        """B uint8 (3,H,W)."""
        return [sample["image"] for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)


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

"""What a registered meta-arch is, and what it may offer besides.

Every model maps mapped dicts to standard outputs (`TextureModel`). Each further protocol is
optional: a model offers it by having its methods, and whoever wants them asks with `isinstance`.
What checkpoints keep of a model is in `detecture.checkpoint.protocol`.

Legend: K regions, H, W size that is asked for.
"""

from typing import Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor


class StandardOutput(TypedDict):
    """The answer of a texture model for one image; a method may add entries of its own.

    Keys:
        sem_seg: float (K+1,H,W) at the mapped dict's `height` and `width`: the K textures, then the
            dustbin. The label map is its argmax, ties to the lowest channel.
        descriptions: K texts, empty ones where the method has no words; K counts empty regions too.
        status: `ok`, or what the method has to say of itself.
    """

    sem_seg: Tensor
    descriptions: list[str]
    status: str


@runtime_checkable
class TextureModel(Protocol):
    """A texture model in evaluation; in training mode it returns losses by name (`Trains`)."""

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[StandardOutput]:
        """Mapped dicts (`image` uint8 (3,H,W), `height`, `width`, `k_hint`) to standard outputs."""


@runtime_checkable
class EncodesImages(Protocol):
    """Encodes an image once for all questions about it."""

    def encode_image(self, sample: dict[str, Any]) -> Any:
        """What does not depend on K, of a mapped dict's `image` (uint8 (3,H,W)).

        It is given back in the mapped dict, under `encoding`.
        """


@runtime_checkable
class PreparesBatches(Protocol):
    """Computes of a training batch once what its losses and their normalizers both need."""

    def prepare(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """The batch as `forward` and `loss_normalizers` then take it, instead of mapped dicts."""


@runtime_checkable
class NormalizesLosses(Protocol):
    """Returns sums, which the trainer divides by counts over all processes and micro-batches.

    Its `forward` takes `normalizers`, the sums of those of all micro-batches.
    """

    def loss_normalizers(self, batch: Any) -> dict[str, float]:
        """What the sums of a batch are to be divided by, from the data alone.

        Args:
            batch: mapped dicts, or what `PreparesBatches.prepare` made of them.
        """


@runtime_checkable
class GroupsParameters(Protocol):
    """Names parts that train with learning rates of their own (SOLVER.LR_FACTOR)."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups with `name`, `params` and `names`; together all that trains in some stage."""


@runtime_checkable
class HasStages(Protocol):
    """Trains in two stages (SOLVER.CURRICULUM)."""

    def set_stage(self, stage: int) -> None:
        """Let train what trains in a stage, 1 or 2."""

"""What a registered meta-arch is, and what it may offer besides.

There are two kinds. A texture model finds the regions of an image (`TextureModel`); a semantic
model is asked for classes by their names (`SemanticModel`). Each further protocol is optional: a
model offers it by having its methods, and whoever wants them asks with `isinstance`. What
checkpoints keep of a model is in `detecture.checkpoint.protocol`.

Legend: K regions, T classes, H, W size that is asked for.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor

from detecture.data.vocabulary import Vocabulary


class OutputBeliefs(TypedDict, total=False):
    """What a method that can tell adds to its standard output; others leave it out.

    Keys:
        alternatives: (number of regions, its probability) for each number that was considered,
            likeliest first, the chosen one among them; of a told number too, where they are known.
            See `detecture.modeling.grouping.proposals.Alternative`.
        confidence: K numbers 0..1: how probable it is that a region overlaps a true one with an IoU
            of 0.5 or more.
    """

    alternatives: Sequence[tuple[int, float]]
    confidence: Sequence[float]


class StandardOutput(OutputBeliefs):
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


class SemanticEntries(TypedDict):
    """The answer of a semantic model for one image.

    The first three take memory for (H,W), not for T of them. There is no dustbin: every pixel has
    one of the T classes, unless a background is asked for.

    Keys:
        label_map: int16 (H,W) at the mapped dict's `height` and `width`, the index of each pixel's
            class in `classes`; ties to the lowest.
        score: float (H,W), 0..1, of that class. Scores are of each class by itself: they do not add
            up to 1.
        classes: T names, in the order of the vocabulary; behind them `background`, where a
            threshold is set.
        background_threshold: pixels whose `score` is below it are background; 0: there is none.
        status: `ok`, or what the method has to say of itself.
        sem_seg: float (T,H,W), one score a class, whose argmax is `label_map`; with a background
            one plane more. It is made when it is read, `output["sem_seg"]`, not before; its size is
            said in the log, and refused beyond TEST.SEMANTIC.MAX_SCORE_GB.
    """

    label_map: Tensor
    score: Tensor
    classes: list[str]
    background_threshold: float
    status: str
    sem_seg: Tensor


@runtime_checkable
class SemanticModel(Protocol):
    """A semantic model in evaluation; in training mode it returns losses by name."""

    def __call__(self, batched_inputs: list[dict[str, Any]]) -> list[SemanticEntries]:
        """Mapped dicts to one answer each.

        A mapped dict has `image` uint8 (3,H,W), `height`, `width`, and may have `vocabulary` (else
        the model's own) and `background_threshold` (else TEST.SEMANTIC.BACKGROUND_THRESHOLD).
        """

    def read_classes(self, vocabulary: Vocabulary | None = None) -> Vocabulary:
        """Read the names, so that what is wrong with them is said before the first image.

        What was read is kept for the images that follow, as long as the weights stay the same.

        Args:
            vocabulary: None: the model's own, of its config.

        Returns:
            The vocabulary that images will be asked for.

        Raises:
            ConfigError: there is none, it has too many names, or one is too long for the model.
        """


@runtime_checkable
class EncodesImages(Protocol):
    """Encodes an image once for all questions about it."""

    def encode_image(self, sample: dict[str, Any]) -> Any:
        """What does not depend on K or classes, of a mapped dict's `image` (uint8 (3,H,W)).

        It is given back in the mapped dict, under `encoding`.
        """


@runtime_checkable
class ChoosesGranularity(Protocol):
    """Chooses among proposed divisions, coarser or finer ones where it is asked.

    A mapped dict without a number of regions may then hold `granularity`, -1 (coarsest) over 0 (its
    own choice, as without) to 1 (finest). The number of regions never falls when it rises.
    """

    def proposals(self, encoded: Any) -> Sequence[Any]:
        """The `Proposal`s of an image, any number of them, computed once for each encoding.

        Args:
            encoded: of the image, see `EncodesImages`.
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
        """Groups with `name`, `params` and `names`; together all that trains in some stage.

        With `decays` False a group has SOLVER.WEIGHT_DECAY_NORM. Several may have one name.
        """


@runtime_checkable
class HasStages(Protocol):
    """Trains in two stages (SOLVER.CURRICULUM)."""

    def set_stage(self, stage: int) -> None:
        """Let train what trains in a stage, 1 or 2."""

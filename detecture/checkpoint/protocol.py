"""How a model may define what a checkpoint keeps of it."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class KeepsState(Protocol):
    """A model of which a checkpoint keeps only a part; for others, the whole state dict is kept."""

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All tensors that train in some stage, by name, of any shapes."""

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `checkpoint_state` returned: tensors of any shapes, by name.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """


@runtime_checkable
class KeepsHeader(Protocol):
    """A model that depends on more than the tensors that a checkpoint holds."""

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must record about the parts that it does not hold: plain values."""

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Adopt what a checkpoint was trained with.

        Raises:
            CheckpointError: it does not match the parts of this model.
        """

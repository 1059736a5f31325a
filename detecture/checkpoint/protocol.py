"""What a model may say of what a checkpoint keeps of it."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class KeepsState(Protocol):
    """A model of which a checkpoint keeps a part; of any other it is the whole state dict."""

    def checkpoint_state(self) -> dict[str, Tensor]:
        """All that trains in some stage, by name, of any shapes."""

    def load_checkpoint_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `checkpoint_state` gave, tensors of any shapes by name.

        Raises:
            CheckpointError: tensors are missing, left over or of another shape; all are named.
        """


@runtime_checkable
class KeepsHeader(Protocol):
    """A model that depends on more than the tensors that a checkpoint holds."""

    def checkpoint_header(self) -> dict[str, Any]:
        """What a checkpoint must say of the parts that it does not hold: plain values."""

    def load_checkpoint_header(self, header: dict[str, Any]) -> None:
        """Take over what a checkpoint was trained with.

        Raises:
            CheckpointError: it does not go with the parts of this model.
        """

"""What loading weights by transformers has in common, whatever the model."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError

from detecture.errors import CheckpointError

LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    HfHubHTTPError,
    SafetensorError,
    StrictDataclassError,
)
"""What transformers raises for a folder or hub id that it cannot load, network errors included."""


def check_loaded(info: Mapping[str, Any], base: str, kind: str) -> None:
    """Refuse weights that did not all find their place: transformers would only log it.

    Args:
        info: what `from_pretrained(output_loading_info=True)` tells.
        base: where the weights are.
        kind: what they should have been.

    Raises:
        CheckpointError: weights are missing, left over or of another shape; all are named.
    """
    faults = [
        f"{name.split('_')[0]}: {', '.join(sorted(map(str, info[name])))}"
        for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info.get(name)
    ]
    if faults:
        raise CheckpointError(
            f"the weights in {base} are not those of {kind} ({'; '.join(faults)})"
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

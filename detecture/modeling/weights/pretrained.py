"""What loading weights by transformers has in common, whatever the model."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError

from detecture.errors import CheckpointError, DetectureError

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


def import_parts(module: str, kind: str) -> Any:
    """A module that imports a model of transformers; importing it takes seconds.

    So it is imported where a model is built: most methods need none of it.

    Args:
        module: full name of ours.
        kind: of model, for the error.

    Raises:
        DetectureError: transformers is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DetectureError(
            f"{kind} needs transformers ({error}); install it: pip install 'transformers>=5.20'"
        ) from error


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


def cannot_load(
    base: str, error: BaseException, key: str, *, kind: str, files: str, origin: str
) -> str:
    """Why a hub id or folder could not be loaded, and what to do.

    Args:
        base: value of the config key `key`.
        error: what transformers raised.
        key: named in the text.
        kind: of model.
        files: what a folder of it must hold.
        origin: a sentence that says where its weights are and on what terms.
    """
    reason = first_line(error)
    if Path(base).is_dir():
        return f"folder {base} ({key}) cannot be loaded as {kind}: {reason} It must hold {files}"
    return (
        f"{key} {base!r} cannot be loaded: {reason} It is neither a folder nor a file here, and as "
        f"a hub id it could not be fetched. {origin} Without a network, download them elsewhere "
        f"and give the local folder as {key}, or set HF_HUB_OFFLINE=1 where they are in the cache "
        "already"
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

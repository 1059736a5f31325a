"""Keys and values of a VLM, handed to whichever transformers is installed."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import Cache

_NAMES = ("cache", "past_key_values")  # the second one in older ones; it ends with 5.40


def cache_argument(module: nn.Module, cache: Cache | None) -> dict[str, Any]:
    """The cache as keyword argument of `module`, by the name that its `forward` has for it.

    Args:
        module: of transformers, such as `Qwen3VLModel` or its text model.
        cache: of keys and values, or none.

    Raises:
        TypeError: `forward` has neither name.
    """
    kind: Any = type(module)
    return {_name_of(kind): cache}


@lru_cache
def _name_of(kind: Any) -> str:
    parameters = inspect.signature(kind.forward).parameters
    for name in _NAMES:
        if name in parameters:
            return name
    raise TypeError(f"{kind.__name__}.forward takes none of {', '.join(_NAMES)}")

"""A vector that is added to all embeddings of a text, prompt and answer.

transformers calls the embedding with ids alone, so the vector waits beside it: in the context of
the call and not in the module, because threads may share a model.

Legend: B texts, L tokens, D hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_HINT: ContextVar[Tensor | None] = ContextVar("_HINT", default=None)


@contextmanager
def hinted(hint_BD: Tensor | None) -> Iterator[None]:
    """Inside, `SegEmbedding` adds each text's vector to those of its ids (B,L); None adds nothing.

    Every VLM that is called inside gets it.
    """
    token = _HINT.set(hint_BD)
    try:
        yield
    finally:
        _HINT.reset(token)


def current_hint() -> Tensor | None:
    """What to add: (B,D) or nothing."""
    return _HINT.get()

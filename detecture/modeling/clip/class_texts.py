"""Classes as CLIP reads them: each name in each template, encoded once while it stays the same.

Legend: T names, P templates, A tokens of a text, M = T*P texts, E width of
the common space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from detecture.errors import ConfigError, brief
from detecture.untrusted import read_json

_FILE = Path(__file__).resolve().parents[2] / "assets" / "clip" / "templates.json"
_CHUNK = 256  # texts at a time where no gradient is kept
_MOST_KEPT = 8  # vocabularies
_NAME = "{}"  # what a name stands for in a template


@cache
def template_sets() -> dict[str, tuple[str, ...]]:
    """The sets of templates by name: `single` is CAT-Seg's, `imagenet` CLIP's 80."""
    content = read_json(_FILE, ConfigError)
    return {name: tuple(texts) for name, texts in content.items()}


class ClassTexts:
    """Text features of classes, kept by names, templates and the state of the text encoder.

    What is kept is right after each step of a training, too: any change in place of a weight that
    the features depend on makes them due again.
    """

    def __init__(
        self,
        tokenize: Callable[[Sequence[str]], Tensor],
        encode: Callable[[Tensor], Tensor],
        weights: Callable[[], Iterable[nn.Parameter]],
        templates: Sequence[str],
    ) -> None:
        """Join the parts.

        Args:
            tokenize: texts to token ids (M,A).
            encode: ids (M,A) to features (M,E).
            weights: all that `encode` depends on.
            templates: P texts with one `{}` for the name.

        Raises:
            ConfigError: a template has no `{}`.
        """
        for template in templates:
            if template.count(_NAME) != 1:
                raise ConfigError(f"template {brief(template)}: must hold {_NAME} once")
        if not templates:
            raise ConfigError("no template is given; one such as 'A photo of a {}' is needed")
        self._tokenize, self._encode, self._weights = tokenize, encode, weights
        self.templates = tuple(templates)
        self._ids: dict[tuple[str, ...], Tensor] = {}
        self._kept: dict[tuple[str, ...], Tensor] = {}
        self._state: tuple[tuple[int, int], ...] = ()

    def features(self, names: Sequence[str]) -> Tensor:
        """Of length 1, (T,P,E); with gradients where they are on, else from what is kept."""
        key = tuple(names)
        if torch.is_grad_enabled():
            return self._compute(key)
        state = tuple((parameter.data_ptr(), parameter._version) for parameter in self._weights())
        if state != self._state:
            self._kept.clear()
            self._state = state
        if key not in self._kept:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._compute(key)
        return self._kept[key]

    def _compute(self, names: tuple[str, ...]) -> Tensor:
        """See `features`: of length 1, (T,P,E)."""
        if names not in self._ids:
            if len(self._ids) >= _MOST_KEPT:
                self._ids.pop(next(iter(self._ids)))
            texts = [template.replace(_NAME, name) for name in names for template in self.templates]
            self._ids[names] = self._tokenize(texts)
        ids_MA = self._ids[names]
        parts = [ids_MA] if torch.is_grad_enabled() else ids_MA.split(_CHUNK)
        features_ME = torch.cat([self._encode(part) for part in parts])
        return functional.normalize(features_ME.float(), dim=-1).unflatten(0, (len(names), -1))

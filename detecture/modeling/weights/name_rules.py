"""Rules that turn the names of one publisher's weights into those of another.

A rule is a pair of patterns. In them `#` stands for a number, `@` for `weight` or `bias`, and `?`,
where a tensor is query, key and value in one, for q, k or v.
"""

import re
from collections.abc import Mapping

from torch import Tensor

NameRules = tuple[tuple[str, str], ...]
"""Pairs of patterns, see above: a name that fits the first becomes the second."""


def swap(rules: NameRules) -> NameRules:
    """The same rules in the other direction."""
    return tuple((target, source) for source, target in rules)


def rename(name: str, rules: NameRules) -> str | None:
    """The name that the first fitting rule makes of `name`; None where none fits."""
    for source, target in rules:
        pattern = re.escape(source).replace(r"\#", r"(\d+)").replace("@", "(weight|bias)")
        match = re.fullmatch(pattern.replace(r"\?", "[qkv]"), name)
        if match:
            for value in match.groups():
                target = re.sub("[#@]", value, target, count=1)
            return target
    return None


def strip_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries under `prefix` without it; everything where no name begins with it.

    Args:
        state: tensors of any shapes, by name.
        prefix: of names.
    """
    inside = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    return inside or dict(state)

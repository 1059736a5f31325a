"""What a procedural texture may be called: its family's nouns, and plain words for what it is like.

The plain words, in `lexicon/nouns.json`, are those that people use for such surfaces; they were
written down from the families, with no image at hand.
"""

from functools import cache
from pathlib import Path

from detecture.data.synthetic.families import get_family
from detecture.data.synthetic.named_mosaics import Kind
from detecture.untrusted import read_own_json

_FILE = Path(__file__).resolve().parents[1] / "lexicon" / "nouns.json"
_EMPTY = frozenset({"of", "on", "and", "pattern", "surface", "texture"})


@cache
def plain_nouns() -> dict[str, tuple[str, ...]]:
    """Plain words by family."""
    found = read_own_json(_FILE)
    return {family: tuple(words) for family, words in found.items()}


@cache
def kind_of_family(family: str) -> Kind:
    """What a texture of a family may be called; plain words first."""
    known = get_family(family)
    return Kind(family, (*plain_nouns().get(family, ()), *known.nouns), known.oriented)


def content_words(nouns: tuple[str, ...]) -> frozenset[str]:
    """The words of nouns that say what it is, without plural; kinds that share one are alike."""
    words = {word.removesuffix("s") for noun in nouns for word in noun.lower().split()}
    return frozenset(words - _EMPTY)

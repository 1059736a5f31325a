"""Two-way matching: which generated sentence belongs to which region's published sentence.

For an image of two described regions: a and b are the published sentences, g and h those of the
predicted regions that the evaluation matched with them. The image is right where
s(g,a) + s(h,b) > s(g,b) + s(h,a), counts one half where both are equal (within 1e-9), and is wrong
otherwise. A sentence that is missing is like nothing: its s is 0. Sentences that say nothing of
their region are right one time in two.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from detecture.data.datasets.description_order import order_of_descriptions
from detecture.evaluation.summary import bootstrap_intervals
from detecture.evaluation.words.image import WordsImage
from detecture.evaluation.words.parser import parse_sentence
from detecture.evaluation.words.vocabulary import IRREGULAR_FORMS, color_basic

_TIE = 1e-9
_EMPTY_WORDS = frozenset(
    [
        "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "into", "is", "it", "its",
        "of", "on", "or", "over", "that", "the", "this", "to", "under", "with", "texture",
        "textured", "tone", "tones", "toned", "shade", "shades", "hue", "hues", "color", "colors",
        "colour", "colours", "colored", "coloured", "region", "part", "side", "area", "portion",
        "section",
    ]
)  # fmt: skip
# Depth is not in the generator's words; what is in front is mostly in the middle, what is behind
# mostly around it. Decided before any model's sentences were matched.
_DEPTH = {"foreground": "position:centre", "background": "position:surrounding",
          "backdrop": "position:surrounding"}  # fmt: skip


@lru_cache(maxsize=65536)
def matching_words(text: str) -> tuple[str, ...]:
    """What two sentences are compared by.

    Colours become their names and their names without `dark` and `light`; patterns their families,
    beside the words themselves; positions, orientations, scales, regularities and contrasts their
    values; all other words their stems, without those that carry no meaning of their own.
    """
    sentence = parse_sentence(text)
    words = [_DEPTH.get(word, stem(word)) for word in sentence.rest if word not in _EMPTY_WORDS]
    for attribute, claims in sentence.claims.items():
        if attribute == "noun":
            continue
        values = sorted(frozenset[str]().union(*claims))
        words += [f"{attribute}:{value}" for value in values]
        if attribute == "color":
            words += [f"color of:{basic}" for basic in sorted(set(map(color_basic, values)))]
    return tuple(words)


def stem(word: str) -> str:
    """A word without its usual endings, so that `stripes` and `striped` are one."""
    word = IRREGULAR_FORMS.get(word, word)
    for ending in ("ings", "ing", "ies", "ied", "ed", "es", "ly", "s", "y", "en"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    word = re.sub(r"([bdgklmnprt])\1$", r"\1", word)
    return word.removesuffix("e") if len(word) > 3 else word


class Similarity:
    """Cosine of tf-idf vectors of `matching_words`.

    The weight of a word that stands in n of the N published sentences of the run's images is
    ln((1 + N) / (1 + n)) + 1, times how often it stands in the sentence. Nothing else is fitted:
    neither generated sentences nor any other text, so that two models are measured alike.
    """

    def __init__(self, published: Iterable[str]) -> None:
        """Args: `published`: the published sentences of all images that are matched."""
        texts = list(published)
        self._count = len(texts)
        self._containing = Counter(word for text in texts for word in set(matching_words(text)))

    def __call__(self, first: str, second: str) -> float:
        """Similarity 0..1; 0 where a text is empty or nothing is shared."""
        a, b = self._vector(first), self._vector(second)
        lengths = math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))
        return sum(x * b[word] for word, x in a.items() if word in b) / lengths if lengths else 0.0

    def _vector(self, text: str) -> dict[str, float]:
        return {
            word: times * (math.log((1 + self._count) / (1 + self._containing[word])) + 1.0)
            for word, times in Counter(matching_words(text)).items()
        }


Pair = tuple[list[str], list[str]]
"""The two generated sentences of an image, and the two published ones in the same order."""


def matched_pair(image: WordsImage) -> Pair | None:
    """The two generated sentences in the order of the published ones, and these.

    None where the image does not have two true regions, both described. A sentence is empty
    where no predicted region matches.
    """
    published = [text.strip() for text in image.true_sentences]
    if len(published) != 2 or not all(published):
        return None
    generated = ["", ""]
    for predicted, true in image.matches.items():
        generated[true] = image.sentences[predicted].strip()
    return generated, published


def reordered(dataset: str, image_id: str, pair: Pair) -> Pair | None:
    """The pair with each published sentence at the mask that it was read to be of.

    None where `order_of_descriptions` does not know which.
    """
    generated, published = pair
    order = order_of_descriptions(dataset, image_id, published)
    return (generated, [published[i] for i in order]) if order is not None else None


def score_matching(pairs: Sequence[Pair], bootstrap_samples: int) -> dict[str, Any]:
    """Accuracy of two-way matching.

    Args:
        pairs: of `matched_pair`, at least one.
        bootstrap_samples: resamples of the images behind the interval.

    Returns:
        `accuracy`, `ci95`, `chance`, `n_images`, `n_ties`, `n_incomplete` (images with fewer
        than two generated sentences; they are in the accuracy).
    """
    similarity = Similarity(text for _, published in pairs for text in published)
    right = np.array([_right(similarity, *pair) for pair in pairs])
    return {
        "accuracy": float(right.mean()),
        "ci95": bootstrap_intervals({"accuracy": right}, bootstrap_samples)["accuracy"],
        "chance": 0.5,
        "n_images": len(pairs),
        "n_ties": int((right == 0.5).sum()),
        "n_incomplete": sum(not all(generated) for generated, _ in pairs),
    }


def _right(similarity: Similarity, generated: list[str], published: list[str]) -> float:
    straight = sum(similarity(g, p) for g, p in zip(generated, published, strict=True))
    crossed = sum(similarity(g, p) for g, p in zip(generated, published[::-1], strict=True))
    if abs(straight - crossed) <= _TIE:
        return 0.5
    return 1.0 if straight > crossed else 0.0

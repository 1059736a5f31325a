"""Precision and recall of what sentences claim, against the generator's truth.

Per image four counts for each row: claims that are true of the region, claims, true values that
are named, true values. Over images they are summed: precision is the first over the second,
recall the third over the fourth.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from detecture.data.synthetic import RegionAttributes
from detecture.evaluation.words.image import WordsImage
from detecture.evaluation.words.parser import Claims, parse_sentence
from detecture.evaluation.words.ratios import ratio, ratio_intervals
from detecture.evaluation.words.vocabulary import (
    ATTRIBUTES,
    Claim,
    color_basic,
    near_families,
    split_words,
)

EXTRA_ROWS = ("color (basic)", "pattern (exact noun)", "pattern (near family)")
"""Looser and stricter readings of two attributes; they are not in the micro average."""

ROWS = (*ATTRIBUTES, *EXTRA_ROWS)

_TRUE_CLAIMS, _CLAIMS, _NAMED, _TRUE_VALUES = range(4)


def true_values(region: RegionAttributes) -> dict[str, frozenset[str]]:
    """The values of every row of `ROWS` that are true of a region; often one, or none."""
    colors = frozenset(region.colors)
    values = {
        "color": colors,
        "pattern": frozenset({region.family}),
        "orientation": frozenset({region.orientation}),
        "scale": frozenset({region.scale}),
        "regularity": frozenset({region.regularity}),
        "contrast": frozenset({region.contrast}),
        "position": frozenset({region.position}),
        "color (basic)": frozenset(map(color_basic, colors)),
        "pattern (exact noun)": frozenset({" ".join(split_words(region.noun))}),
        "pattern (near family)": frozenset({region.family}),
    }
    return {row: value - {"none"} for row, value in values.items()}


def claims_by_row(claims: Claims) -> dict[str, list[Claim]]:
    """The claims of a sentence for every row of `ROWS`, each once."""
    rows = {attribute: list(claims.get(attribute, ())) for attribute in ATTRIBUTES}
    rows["color (basic)"] = _changed(claims.get("color", ()), lambda v: frozenset({color_basic(v)}))
    rows["pattern (exact noun)"] = list(claims.get("noun", ()))
    rows["pattern (near family)"] = _changed(claims.get("pattern", ()), near_families)
    return rows


def _changed(claims: Sequence[Claim], change: Callable[[str], Claim]) -> list[Claim]:
    changed = [frozenset[str]().union(*map(change, claim)) for claim in claims]
    return list(dict.fromkeys(changed))


def count_image(
    sentences: Sequence[str],
    matches: dict[int, int],
    regions: Sequence[RegionAttributes],
) -> np.ndarray:
    """Counts of one image.

    A claim of a sentence whose region matches no true one is not true; the values of a true region
    that nothing matches are not named.

    Args:
        sentences: of the K predicted regions.
        matches: predicted region -> true region.
        regions: the M true regions.

    Returns:
        int64 (R,4), R rows as in `ROWS`: true claims, claims, named values, true values.
    """
    counts = np.zeros((len(ROWS), 4), np.int64)
    truth = [true_values(region) for region in regions]
    for number, row in enumerate(ROWS):
        counts[number, _TRUE_VALUES] = sum(len(values[row]) for values in truth)
    for index, sentence in enumerate(sentences):
        claims = claims_by_row(parse_sentence(sentence).claims)
        values = truth[matches[index]] if index in matches else None
        for number, row in enumerate(ROWS):
            counts[number, _CLAIMS] += len(claims[row])
            if values is not None:
                counts[number, _TRUE_CLAIMS] += sum(bool(c & values[row]) for c in claims[row])
                named = frozenset[str]().union(*claims[row])
                counts[number, _NAMED] += len(values[row] & named)
    return counts


def score_attributes(images: Sequence[WordsImage], bootstrap_samples: int) -> dict[str, Any]:
    """Precision and recall of every attribute over the images of a procedural set.

    Args:
        images: each with `regions`.
        bootstrap_samples: resamples of the images behind each interval.

    Returns:
        For each row of `ROWS` and `micro` (the attributes without the extra rows): `precision` and
        `recall`; `ci95` of both; `claims` and `true_values`, how many; `recall_of_true_sentences`,
        what the generator's own sentences reach, since they do not name everything;
        `precision_rotated` and `recall_rotated`, the same sentences each at the next region.
        Precision is None where nothing is claimed.
    """
    own = _counts(images, [p.sentences for p in images])
    rotated = _counts(images, rotate([p.sentences for p in images]))
    perfect = np.stack(
        [
            count_image(p.true_sentences, {i: i for i in range(len(p.regions))}, p.regions)
            for p in images
        ]
    )
    table = {}
    for name, rows in [
        *((row, [i]) for i, row in enumerate(ROWS)),
        ("micro", [*range(len(ATTRIBUTES))]),
    ]:
        a, b, c = (counts[:, rows].sum(axis=1) for counts in (own, rotated, perfect))
        pairs = {
            "precision": (a[:, _TRUE_CLAIMS], a[:, _CLAIMS]),
            "recall": (a[:, _NAMED], a[:, _TRUE_VALUES]),
        }
        table[name] = {
            **{key: ratio(*pair) for key, pair in pairs.items()},
            "ci95": ratio_intervals(pairs, bootstrap_samples),
            "claims": int(a[:, _CLAIMS].sum()),
            "true_values": int(a[:, _TRUE_VALUES].sum()),
            "recall_of_true_sentences": ratio(c[:, _NAMED], c[:, _TRUE_VALUES]),
            "precision_rotated": ratio(b[:, _TRUE_CLAIMS], b[:, _CLAIMS]),
            "recall_rotated": ratio(b[:, _NAMED], b[:, _TRUE_VALUES]),
        }
    return table


def rotate(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    """Give every region the sentence of the one before it, in this image or the one before.

    What the moved sentences reach is what sentences of the same style reach that do not look at
    their region.
    """
    flat = [text for texts in sentences for text in texts]
    moved = iter(flat[-1:] + flat[:-1])
    return [[next(moved) for _ in texts] for texts in sentences]


def _counts(images: Sequence[WordsImage], sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """Counts (N,R,4) of N images with these sentences, see `count_image`."""
    return np.stack(
        [
            count_image(texts, image.matches, image.regions)
            for image, texts in zip(images, sentences, strict=True)
        ]
    )

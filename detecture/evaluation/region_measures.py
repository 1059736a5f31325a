"""The standard measures of BSDS500 between two divisions of an image into regions.

All are computed from one contingency table, the pixels by predicted and true region:

* covering (Arbelaez et al. 2011, section 3.1.3): the greatest IoU of each true region with any
  predicted one, averaged over the true regions with their areas as weights. It has a direction: the
  true regions are covered by the predicted ones.
* PRI, the probabilistic Rand index (Unnikrishnan et al. 2007): the share of the pairs of pixels
  that both divisions put together, or both apart; averaged over annotators.
* VI, the variation of information (Meila 2005), in bits: H(predicted | true) + H(true | predicted).
  0 for equal divisions, at most the logarithm of the number of pixels; lower is better.

They are computed on the image's own pixels. On reduced maps the values differ: PRI on maps of a
tenth of the size came to .41, where the maps themselves have .8.

Every value of a map is one region, whether in one piece or not. This includes 0, the pixels that a
method gives to no texture, since a division has no gaps.

Legend: H, W size of an image, A annotators, P predicted and T true regions, N pairs of a predicted
and a true region that have a pixel in common.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import label

from detecture.evaluation.metrics import pairs_within


@dataclass(frozen=True)
class RegionMeasures:
    """Covering and PRI, 0 to 1, higher is better; VI in bits, lower is better."""

    covering: float
    pri: float
    vi: float


@dataclass(frozen=True)
class RegionMap:
    """An image divided into regions.

    Attributes:
        labels_HW: int64, the regions numbered from 0 without gaps.
        count: how many there are.
    """

    labels_HW: np.ndarray
    count: int

    @classmethod
    def of(cls, labels: np.ndarray) -> "RegionMap":
        """The division of a label map (H,W) of whole numbers, which may skip numbers.

        Raises:
            ValueError: it is not a map (H,W), has no pixel, or its values are not whole numbers.
        """
        if labels.ndim != 2 or not labels.size or labels.dtype.kind not in "ui":
            raise ValueError(f"no label map (H,W): {labels.dtype} of shape {labels.shape}")
        values, index = np.unique(labels, return_inverse=True)
        return cls(index.reshape(labels.shape).astype(np.int64), len(values))

    def parts(self) -> "RegionMap":
        """The same, with every connected part of a region as a region of its own.

        Pixels are connected where they have a side in common (4-connected).
        """
        return RegionMap.of(label(self.labels_HW, background=-1, connectivity=1))


@dataclass(frozen=True)
class Contingency:
    """Pixels of two divisions of one image, by predicted and true region.

    Attributes:
        pixels_N: of each pair, more than 0.
        predicted_N, true_N: numbers of the regions of each pair.
        predicted_P, true_T: pixels of each region.
    """

    pixels_N: np.ndarray
    predicted_N: np.ndarray
    true_N: np.ndarray
    predicted_P: np.ndarray
    true_T: np.ndarray

    @classmethod
    def of(cls, predicted: RegionMap, true: RegionMap) -> "Contingency":
        """The table of two divisions.

        Raises:
            ValueError: they are of images of different sizes.
        """
        if predicted.labels_HW.shape != true.labels_HW.shape:
            raise ValueError(
                f"divisions of {predicted.labels_HW.shape} and {true.labels_HW.shape} pixels"
            )
        # Only the pairs that occur: for thousands of small regions a whole table is too large.
        codes = predicted.labels_HW * true.count + true.labels_HW
        pairs, pixels_N = np.unique(codes, return_counts=True)
        predicted_N, true_N = np.divmod(pairs, true.count)
        return cls(
            pixels_N=pixels_N,
            predicted_N=predicted_N,
            true_N=true_N,
            predicted_P=np.bincount(predicted_N, weights=pixels_N, minlength=predicted.count),
            true_T=np.bincount(true_N, weights=pixels_N, minlength=true.count),
        )

    def transposed(self) -> "Contingency":
        """The same with predicted and true exchanged."""
        return Contingency(
            self.pixels_N, self.true_N, self.predicted_N, self.true_T, self.predicted_P
        )


def covering(table: Contingency) -> float:
    """How well the predicted regions cover the true ones, 0 to 1."""
    areas_N = table.predicted_P[table.predicted_N] + table.true_T[table.true_N]
    best_T = np.zeros(len(table.true_T))
    np.maximum.at(best_T, table.true_N, table.pixels_N / (areas_N - table.pixels_N))
    return float((best_T * table.true_T).sum() / table.true_T.sum())


def rand_index(table: Contingency) -> float:
    """Share of the pairs of pixels on which both agree, 0 to 1; for a single pixel it is 1."""
    pairs = float(pairs_within(table.true_T.sum()))
    together = float(pairs_within(table.pixels_N.astype(np.float64)).sum())
    in_either = float(pairs_within(table.predicted_P).sum() + pairs_within(table.true_T).sum())
    return 1.0 - (in_either - 2.0 * together) / pairs if pairs else 1.0


def variation_of_information(table: Contingency) -> float:
    """In bits."""
    pixels_N = table.pixels_N.astype(np.float64)
    of_predicted_N = np.log2(pixels_N / table.predicted_P[table.predicted_N])
    of_true_N = np.log2(pixels_N / table.true_T[table.true_N])
    # Not as a difference of entropies: for equal divisions this is 0 to the last digit.
    return float(-(pixels_N * (of_predicted_N + of_true_N)).sum() / pixels_N.sum()) + 0.0


def measures(table: Contingency) -> RegionMeasures:
    """All of them."""
    return RegionMeasures(covering(table), rand_index(table), variation_of_information(table))


def score_regions(predicted: RegionMap, truths: Sequence[RegionMap]) -> RegionMeasures:
    """The measures of a division against those of A annotators, averaged over these.

    Raises:
        ValueError: there is no annotator, or sizes differ.
    """
    return _mean([measures(Contingency.of(predicted, true)) for true in truths])


def human_agreement(truths: Sequence[RegionMap]) -> RegionMeasures | None:
    """The measures of each annotator against each of the others, averaged over the A (A - 1) pairs.

    None where there is only one annotator. PRI and VI are the same both ways, covering is not.
    """
    if len(truths) < 2:
        return None
    found = []
    for one, other in itertools.combinations(truths, 2):
        table = Contingency.of(one, other)
        found += [measures(table), measures(table.transposed())]
    return _mean(found)


def _mean(found: Sequence[RegionMeasures]) -> RegionMeasures:
    if not found:
        raise ValueError("no annotator")
    values = np.array([[one.covering, one.pri, one.vi] for one in found]).mean(axis=0)
    return RegionMeasures(*map(float, values))

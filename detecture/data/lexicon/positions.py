"""Where in an image a region is, in a word."""

import numpy as np


def position(mask: np.ndarray) -> str:
    """Where a region is, from its centroid and extent.

    `whole`: at least 85 % of the image. `surrounding`: touches all four sides and covers at most
    35 % of the middle (the central third in both directions). Otherwise the centroid decides: left
    of 0.42 or right of 0.58 of the width, above 0.42 or below 0.58 of the height, but not in a
    direction in which the region reaches over 90 % of the image and the centroid is within 0.15
    of its middle. What is left is `most` from half of the image on, `centre` where at least 30 %
    of the middle is covered and the region does not reach over 90 % of the image in both
    directions, else `spread`.

    Args:
        mask: bool (H,W), not empty.
    """
    height, width = mask.shape
    rows, columns = mask.mean(axis=1), mask.mean(axis=0)
    area = float(mask.mean())
    if area >= 0.85:
        return "whole"
    middle = mask[height // 3 : height - height // 3, width // 3 : width - width // 3]
    covered = float(middle.mean())
    if rows[0] and rows[-1] and columns[0] and columns[-1] and covered <= 0.35:
        return "surrounding"
    words = []
    wide = []
    for profile, low, high in ((rows, "top", "bottom"), (columns, "left", "right")):
        length = len(profile)
        centroid = float(np.sum(profile * (np.arange(length) + 0.5)) / np.sum(profile)) / length
        used = np.nonzero(profile)[0]
        wide.append((used[-1] - used[0] + 1) / length > 0.9)
        if wide[-1] and abs(centroid - 0.5) < 0.15:
            words.append("")
        else:
            words.append(low if centroid < 0.42 else high if centroid > 0.58 else "")
    vertical, horizontal = words
    if vertical and horizontal:
        return f"{'upper' if vertical == 'top' else 'lower'} {horizontal}"
    if vertical or horizontal:
        return vertical or horizontal
    if area >= 0.5:
        return "most"
    return "centre" if covered >= 0.3 and not all(wide) else "spread"

"""A semantic model's answer: the class of each pixel, and its exports.

Legend: H, W size of the image, T classes, including the background if there is one, A height of
an overlay: H, and its legend's below it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detecture.data.vocabulary import Vocabulary
from detecture.engine.exports import annotation, areas_of, header_of, is_index, save_files
from detecture.errors import DetectureError, brief
from detecture.visualize import draw_overlay, label_map_image, region_colors


@dataclass(frozen=True)
class SemanticResult:
    """Where the requested classes are in one image.

    Attributes:
        image: uint8 (H,W,3) RGB, the image itself.
        label_map: int16 (H,W), each pixel's class as its index in `classes`.
        score: float32 (H,W), 0..1, each pixel's score for that class.
        classes: T names; the last one is `background` where a threshold is set.
        vocabulary: the requested classes, with synonyms.
        background_threshold: pixels with a lower score are background; 0: there is none.
        scores: float32 (T,H,W), one score per class, if requested; otherwise None.
        status: `ok`, or what the method reports about itself.
        name: of the image, such as its path.
        source: absolute path of the image's file; empty if it did not come from a file.
    """

    image: np.ndarray
    label_map: np.ndarray
    score: np.ndarray
    classes: list[str]
    vocabulary: Vocabulary
    background_threshold: float = 0.0
    scores: np.ndarray | None = None
    status: str = "ok"
    name: str = ""
    source: str = ""

    @property
    def background(self) -> int | None:
        """Label of the background; None if there is none."""
        return len(self.classes) - 1 if self.background_threshold else None

    @property
    def areas(self) -> np.ndarray:
        """int64 (T,) pixels of each class."""
        return areas_of(self.label_map, len(self.classes))

    def found(self) -> list[int]:
        """Labels of the classes that were found, the largest first, the background last."""
        areas = self.areas
        order = np.argsort(-areas, kind="stable").tolist()
        present = [label for label in order if areas[label] and label != self.background]
        has_background = self.background is not None and areas[self.background]
        return [*present, len(self.classes) - 1] if has_background else present

    def mask(self, which: str | int) -> np.ndarray:
        """bool (H,W) mask of a class, by its name or label.

        Raises:
            DetectureError: there is no such class.
        """
        if isinstance(which, str) and which in self.classes:
            which = self.classes.index(which)
        if not is_index(which, len(self.classes)):
            raise DetectureError(
                f"{self.name}: {brief(which)} is no class of this result; it has "
                f"{brief(self.classes)}, or their labels, from 0"
            )
        return self.label_map == which

    @property
    def region_map(self) -> np.ndarray:
        """int32 (H,W) as texture models have it: 0 background, i+1 class i."""
        regions = self.label_map.astype(np.int32) + 1
        if self.background is not None:
            regions[self.label_map == self.background] = 0
        return regions

    def overlay(self, opacity: float = 0.45, legend: bool = True) -> np.ndarray:
        """uint8 (A,W,3): image under coloured classes, the names of those found below."""
        found = self.found()
        return draw_overlay(
            self.image,
            self.region_map,
            self.captions() if legend else (),
            opacity,
            [0 if label == self.background else label + 1 for label in found],
        )

    def captions(self) -> list[str]:
        """A line for each class that was found: its name and its share of the image."""
        shares = 100.0 * self.areas / max(self.label_map.size, 1)
        return [f"{self.shown(label)} ({shares[label]:.0f} %)" for label in self.found()]

    def shown(self, label: int) -> str:
        """A class's name; the background's includes its threshold."""
        if label != self.background:
            return self.classes[label]
        return f"{self.classes[label]}: score below {self.background_threshold:g}"

    def to_coco(self, image_id: int = 0, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations, one for each class that was found, with masks as compressed RLE.

        Args:
            image_id: goes into each annotation.
            first_id: `id` of the first one; the others count up from it, see
                `TextureResult.to_coco`.

        Returns:
            Dicts as of `TextureResult.to_coco`; `category_id` is the label, and beyond COCO there
            are `name` and `score`, the mean of its pixels.
        """
        return [
            annotation(mask := self.label_map == label, number, image_id, label)
            | {"name": self.classes[label], "score": round(float(self.score[mask].mean()), 4)}
            for number, label in enumerate(self.found(), start=first_id)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything except the pixels, as plain values: what `save` writes as JSON.

        `classes` lists everything requested, each with the `names` used to look for it;
        `background` is None, or its label and threshold.
        """
        areas = self.areas.tolist()
        background = self.background
        return header_of(self.image, self.source or self.name, self.status) | {
            "classes": [
                {"label": label, "name": item.shown, "names": list(item.names)}
                | {"area": areas[label]}
                for label, item in enumerate(self.vocabulary.items)
            ],
            "background": None
            if background is None
            else {
                "label": background,
                "threshold": self.background_threshold,
                "area": areas[background],
            },
            "regions": self.to_coco(),
        }

    def save(
        self, folder: str | Path, stem: str | None = None, *, overwrite: bool = False
    ) -> dict[str, Path]:
        """Write overlay, label map and JSON; for which files are replaced, see
        `TextureResult.save`.

        Args:
            folder: created if it does not exist.
            stem: beginning of the file names; by default the name of the image's file.
            overwrite: also replace files that others wrote.

        Returns:
            `overlay` (JPEG, with a legend), `labels` (PNG whose values are the labels, from 0 on)
            and `json`.

        Raises:
            OutputError: one of the files exists and belongs to somebody else, or cannot be written.
        """
        colors = region_colors(256)[1:]
        if self.background is not None and self.background < len(colors):
            colors[self.background] = 0
        return save_files(
            folder,
            stem or "",
            overlay=self.overlay(),
            labels=label_map_image(self.label_map, colors),
            values=self.to_dict(),
            name=self.name,
            is_file=bool(self.source),
            overwrite=overwrite,
        )

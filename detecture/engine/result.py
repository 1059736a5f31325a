"""A prediction: a label map with one description per region, and its exports."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detecture.engine.exports import annotation, areas_of, header_of, is_index, save_files
from detecture.errors import DetectureError, brief
from detecture.modeling.grouping.proposals import Alternative
from detecture.visualize import draw_overlay, label_map_image

_DIGITS = 4  # of a probability that is written


@dataclass(frozen=True)
class TextureResult:
    """Regions of one image of height H and width W; K of them, empty ones included.

    Attributes:
        image: uint8 (H,W,3) RGB, the image itself.
        label_map: int32 (H,W); 0 no texture (dustbin), i+1 region i.
        descriptions: K texts, empty where the method has no words.
        status: `ok`, or what the method reports about itself.
        name: of the image, such as its path.
        source: absolute path of the image's file; empty if it did not come from a file.
        alternatives: the numbers of regions that the method considered, with their probabilities,
            likeliest first, the chosen one among them. (In rare cases a region of it comes out
            empty and is left out.) Another granularity leaves them as they are.
            Where the number was told: what the method would have given each, if it has been
            computed (`set_image`). Empty where the method cannot tell.
        confidence: for each region how probable it is, 0..1, that it overlaps a true one with an
            IoU of 0.5 or more; empty where the method cannot tell.
    """

    image: np.ndarray
    label_map: np.ndarray
    descriptions: list[str]
    status: str = "ok"
    name: str = ""
    source: str = ""
    alternatives: tuple[Alternative, ...] = ()
    confidence: tuple[float, ...] = ()

    @property
    def num_regions(self) -> int:
        """K."""
        return len(self.descriptions)

    @property
    def count_probability(self) -> float | None:
        """Probability of the number of regions that there are; None where it is not known."""
        found = (one.probability for one in self.alternatives if one.count == self.num_regions)
        return next(found, None)

    @property
    def masks(self) -> np.ndarray:
        """bool (K,H,W), all masks at once; K * H * W bytes, so prefer `mask` for large images."""
        labels = np.arange(1, self.num_regions + 1)[:, None, None]
        return self.label_map[None] == labels

    def mask(self, region: int) -> np.ndarray:
        """bool (H,W) mask of one region, counted from 0.

        Raises:
            DetectureError: there is no such region, or `region` is not a whole number.
        """
        if not is_index(region, self.num_regions):
            raise DetectureError(
                f"{self.name}: region {brief(region)} of {self.num_regions} (from 0)"
            )
        return self.label_map == region + 1

    @property
    def areas(self) -> np.ndarray:
        """int64 (K,) pixels of each region."""
        return areas_of(self.label_map, self.num_regions + 1)[1:]

    def overlay(self, opacity: float = 0.45, legend: bool = True) -> np.ndarray:
        """uint8 (H+L,W,3): image under coloured regions, L rows below with a line for each."""
        return draw_overlay(self.image, self.label_map, self.captions() if legend else (), opacity)

    def to_coco(self, image_id: int = 0, first_id: int = 1) -> list[dict[str, Any]]:
        """COCO annotations, one per region, with masks as compressed RLE.

        Args:
            image_id: goes into each annotation.
            first_id: `id` of the first one; the others count up from it. A COCO file of several
                images needs distinct ids: `annotations += result.to_coco(n, len(annotations) + 1)`.

        Returns:
            Dicts with `id`, `image_id`, `category_id` (the label), `segmentation` (`size` [H,W],
            `counts` text), `area` in pixels, `bbox` [x,y,width,height], `iscrowd` 0, `score` (the
            confidence, as in COCO's results) where there is one, and, beyond COCO, `description`.
        """
        return [
            one if value is None else one | {"score": value}
            for one, value in zip(
                self._regions(image_id, first_id), self._each_confidence(), strict=True
            )
        ]

    def _regions(self, image_id: int = 0, first_id: int = 1) -> Iterator[dict[str, Any]]:
        # One mask at a time: two hundred of them would not fit in memory.
        for region, description in enumerate(self.descriptions):
            found = annotation(self.mask(region), first_id + region, image_id, region + 1)
            yield found | {"description": description}

    def _each_confidence(self) -> list[float | None]:
        """Of each region, to the digits that mean something."""
        if not self.confidence:
            return [None] * self.num_regions
        return [round(value, _DIGITS) for value in self.confidence]

    def to_supervision(self) -> Any:
        """`supervision.Detections` of the regions that are not empty.

        `xyxy`, `mask`, `class_id` (region from 0), `confidence` where there is one, and
        `data["description"]`.

        Raises:
            DetectureError: the package supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise DetectureError("to_supervision needs: pip install supervision") from error
        present = np.flatnonzero(self.areas).tolist()
        if not len(present):
            return Detections.empty()
        boxes = np.array([annotation["bbox"] for annotation in self.to_coco()])[present]
        return Detections(
            xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1),
            mask=np.stack([self.mask(region) for region in present]),
            class_id=np.array(present),
            confidence=np.array(self.confidence)[present] if self.confidence else None,
            data={"description": np.array([self.descriptions[region] for region in present])},
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything except the pixels, as plain values: what `save` writes as JSON.

        `name` is the absolute path of the image if it came from a file; `image_sha256` covers its
        size and pixels. `alternatives` is a list of `count` and `probability`; a region has a
        `confidence` where the method has one.
        """
        return header_of(self.image, self.source or self.name, self.status) | {
            "num_regions": self.num_regions,
            "alternatives": [
                {"count": one.count, "probability": round(one.probability, _DIGITS)}
                for one in self.alternatives
            ],
            "regions": [
                one if value is None else one | {"confidence": value}
                for one, value in zip(self._regions(), self._each_confidence(), strict=True)
            ],
        }

    def save(
        self, folder: str | Path, stem: str | None = None, *, overwrite: bool = False
    ) -> dict[str, Path]:
        """Write overlay, label map and JSON.

        Only files that this program wrote are replaced. If another is in the way (an image of your
        own, another program's JSON, a result that you have edited), nothing is written.

        Args:
            folder: is made where it does not exist.
            stem: beginning of the file names. By default the name of the image's file, with a
                number if another image in this folder already has that name: `leaf__2`. The same
                image, saved again, replaces its own files.
            overwrite: also replace files that others wrote.

        Returns:
            `overlay` (JPEG), `labels` (palette PNG whose values are the labels) and `json`.

        Raises:
            OutputError: one of the files exists and belongs to somebody else, or cannot be written.
        """
        return save_files(
            folder,
            stem or "",
            overlay=self.overlay(),
            labels=label_map_image(self.label_map),
            values=self.to_dict(),
            name=self.name,
            is_file=bool(self.source),
            overwrite=overwrite,
        )

    def captions(self) -> list[str]:
        """A line for each region: its description, or a number, and its share of the image."""
        shares = 100.0 * self.areas / max(self.label_map.size, 1)
        return [
            f"{text or f'region {i + 1}'} ({share:.0f} %)"
            for i, (text, share) in enumerate(zip(self.descriptions, shares, strict=True))
        ]

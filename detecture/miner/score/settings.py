"""Settings of the score, and where its two modes differ."""

from dataclasses import dataclass

from detecture.errors import require_choice

MODES = ("ours", "published")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What the score of an annotation depends on, apart from kinds.

    `published` gives the published figures; it measures boundaries in pixels, and in two ways.
    `ours` measures them in one way, as shares of the image: an image and its enlargement have the
    same score.

    A boundary is strong from a share of the image's perimeter 2(H+W) on, as both are lengths and
    grow alike. The default is what the published 40 pixels are of 512x683, the most frequent size
    of ADE20K: 40 / 2390 = 1/60.

    Attributes:
        mode: one of `MODES`.
        large_region: share of the image from which a region is large.
        strong_boundary: share of the perimeter from which a boundary is strong (`ours`).
        strong_boundary_pixels: the same in pixels (`published`).
        pass_geometry: s_geom that an image needs, with two large regions, to pass the first stage.
        selected_min: review score from which an image is selected.
        borderline_min: the same for borderline.
        most_segments: of a list of segments, how many are drawn, the largest first.
        long_side: pixels of the raster that they are drawn on, at most.
        pair_floor: share of the perimeter below which two segments do not touch.
        dense_floor: the same of maps of regions.
        dense_segment: share of the image from which a region of a map counts.
        dense_segment_pixels: least number of its pixels (`published`).
        dense_texture: share of the image from which it is a texture.
        dense_texture_fallback: the same where fewer than two are.
        dense_most: textures of a map, at most.
        dense_large: share from which it is large.
    """

    mode: str = "ours"
    large_region: float = 0.08
    strong_boundary: float = 1 / 60
    strong_boundary_pixels: int = 40
    pass_geometry: float = 55.0
    selected_min: float = 65.0
    borderline_min: float = 50.0
    most_segments: int = 80
    long_side: int = 960
    pair_floor: float = 0.012
    dense_floor: float = 0.03
    dense_segment: float = 0.0006
    dense_segment_pixels: int = 64
    dense_texture: float = 0.04
    dense_texture_fallback: float = 0.02
    dense_most: int = 6
    dense_large: float = 0.04

    def __post_init__(self) -> None:
        require_choice("MINER.SCORE.MODE", self.mode, MODES)

    @classmethod
    def published(cls) -> "ScoreSettings":
        """Those of the published run."""
        return cls(mode="published", selected_min=60.0, borderline_min=50.0)

    @property
    def is_published(self) -> bool:
        """Whether the published figures are wanted."""
        return self.mode == "published"

    def strong_length(self, height: int, width: int) -> float:
        """Length in pixels from which a boundary of an image of this size is strong."""
        if self.is_published:
            return float(self.strong_boundary_pixels)
        return self.strong_boundary * 2 * (height + width)

    def floor_length(self, share: float, height: int, width: int) -> float:
        """Length in pixels below which a boundary does not count, for a share of the perimeter."""
        length = share * 2 * (height + width)
        return float(max(1, round(length))) if self.is_published else length

"""The stages of the miner: what their results rest on, a section for each."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, section
from detecture.config.sections.miner import require_numbers
from detecture.errors import ConfigError

_SCORE_MODES = ("ours", "published")
_SELECTIONS = ("review", "generalized", "ultra_strict", "natural_views")
_KIND_TABLES = ("reviewed", "published")
_EXTRACT_MODES = ("texture", "published")
_DESCRIBERS = ("offline", "local_vlm", "openai", "anthropic")
_MOST_REGIONS = 20  # colours of an overlay


@section("MINER.SCORE", "How well an image's annotation suits a set of textures.")
@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """What the score of an annotation depends on.

    `published` gives the published figures; it measures boundaries in pixels, and in two ways.
    `ours` measures them in one way, as shares of the image: an image and its enlargement have the
    same score.

    A boundary is strong from a share of the image's perimeter 2(H+W) on, as both are lengths and
    grow alike. The default is what the published 40 pixels are of 512x683, the most frequent size
    of ADE20K: 40 / 2390 = 1/60.
    """

    mode: str = key(
        "ours",
        "`ours`: lengths are shares of the image; `published`: the published figures to the digit.",
        choices=_SCORE_MODES,
    )
    kinds: str = key(
        "reviewed",
        "Which classes are textures: by the `reviewed` table, or by the `published` rule.",
        choices=_KIND_TABLES,
    )
    selection: str = key(
        "review",
        "How an image is judged: by its `review` score; or, as published for COCO, with what its "
        "panoptic annotation says of things, people, sky and buildings: `generalized`, and its "
        "stricter profiles `ultra_strict` and `natural_views`, which bring their own thresholds.",
        choices=_SELECTIONS,
    )
    large_region: float = key(
        0.08, "Share of the image from which a region is large.", above=0, greatest=1
    )
    strong_boundary: float = key(
        1 / 60, "Share of the perimeter from which a boundary is strong (`ours`).", above=0
    )
    strong_boundary_pixels: int = key(
        40, "Pixels from which a boundary is strong (`published`).", least=1
    )
    pass_geometry: float = key(
        55.0, "Geometry that an image needs, with two large regions, to pass the first stage."
    )
    selected_min: float = key(
        65.0, "Review score from which an image is selected.", least=0, greatest=100
    )
    borderline_min: float = key(
        50.0, "Review score from which an image is borderline.", least=0, greatest=100
    )
    most_segments: int = key(80, "Segments of a list that are drawn, the largest first.", least=1)
    long_side: int = key(960, "Pixels of the raster that they are drawn on, at most.", least=16)
    pair_floor: float = key(
        0.012, "Share of the perimeter below which two segments do not touch.", least=0
    )
    dense_floor: float = key(0.03, "The same of maps of regions.", least=0)
    dense_segment: float = key(
        0.0006, "Share of the image from which a region of a map counts.", least=0
    )
    dense_segment_pixels: int = key(64, "Least number of its pixels (`published`).", least=1)
    dense_texture: float = key(
        0.04, "Share of the image from which a region of a map is a texture.", least=0
    )
    dense_texture_fallback: float = key(0.02, "The same where fewer than two are.", least=0)
    dense_most: int = key(6, "Textures of a map, at most.", least=1)
    dense_large: float = key(0.04, "Share from which a region of a map is large.", least=0)

    def check(self) -> None:
        """Refuse thresholds in the wrong order."""
        if self.borderline_min > self.selected_min:
            raise ConfigError(
                f"MINER.SCORE.BORDERLINE_MIN {self.borderline_min:g} is above SELECTED_MIN "
                f"{self.selected_min:g}; use one that is not"
            )

    @classmethod
    def published(cls) -> "ScoreSettings":
        """Those of the published run."""
        return cls(mode="published", selected_min=60.0, borderline_min=50.0)


@section("MINER.CLIP", "How near an image is to words for textures, by CLIP; part of the score.")
@dataclass(frozen=True, kw_only=True)
class ClipScoreSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Whether CLIP is asked; its weights are needed.")
    base: str = key("openai/clip-vit-base-patch32", "Weights: a hub id or folder of transformers.")
    positive: tuple[str, ...] = key(
        (
            "a close-up photo of a textured surface",
            "a photo of two different textures that meet at a clear boundary",
            "a photo of grass next to pavement",
            "a photo of a shoreline where sand meets water",
            "a photo of a stone wall",
            "a photo of concrete ground",
            "a close-up photo of fabric",
            "a close-up photo of wood grain",
            "a photo of dense foliage",
        ),
        "Queries for what is wanted.",
    )
    negative: tuple[str, ...] = key(
        (
            "a photo of a person",
            "a portrait of a face",
            "a product photo of an object on a table",
            "a photo of a car",
            "a photo of a dog",
            "a photo of a plate of food",
            "a poster with text",
            "a logo",
            "a screenshot of a user interface",
            "a cartoon or computer graphic",
        ),
        "Queries for what is not.",
    )
    alpha: float = key(0.7, "Weight of the nearest negative query.")
    threshold: float = key(0.20, "Score from which an image passes.")
    top_k: int = key(
        2000, "Images that pass for each positive query, whatever their score.", least=0
    )
    batch_size: int = key(32, "Images at a time.", least=1)
    least_side: int = key(
        256, "Pixels of the shorter side from which an image is asked about (`published`).", least=0
    )

    def check(self) -> None:
        """Refuse an empty list of queries."""
        if not self.positive or not self.negative:
            raise ConfigError("MINER.CLIP.POSITIVE and MINER.CLIP.NEGATIVE need a query each")


@section("MINER.ASK", "What MODEL.VLM says of an image when asked; part of the score.")
@dataclass(frozen=True, kw_only=True)
class AskSettings(Settings):
    """What a VLM is asked, and the rules that overrule its points."""

    enabled: bool = key(False, "Whether the VLM is asked; MODEL.VLM.BASE names its weights.")
    overlay: bool = key(False, "Also ask about the image with its regions drawn in.")
    batch_size: int = key(4, "Images at a time.", least=1)
    force_object: bool = key(False, "An image about one object is no match.")
    object_cap: int = key(59, "Most points of such an image.")
    force_salient: bool = key(True, "An image with people, animals or vehicles is no match.")
    salient_cap: int = key(45, "Most points of such an image.")
    overlay_required: bool = key(
        False,
        "An image whose regions were not looked at is no match. The published run asks for that "
        "and draws them only afterwards, so that no image ever matches.",
    )
    overlay_min: int = key(65, "Points of the overlay that are enough.")
    fail_cap: int = key(55, "Most points where they are not.")
    fail_penalty: int = key(24, "Taken off then.")
    missing_cap: int = key(45, "Most points where the overlay is required and missing.")
    bonus: int = key(6, "Points where the overlay is enough.")

    @classmethod
    def published(cls) -> "AskSettings":
        """Those of the published run."""
        return cls(object_cap=55, overlay_required=True)


@section("MINER.EXTRACT", "What makes a region.")
@dataclass(frozen=True, kw_only=True)
class ExtractSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    mode: str = key(
        "texture",
        "`texture`: each coherent part of a class that is a texture; `published`: each class, "
        "whatever it is, in however many parts.",
        choices=_EXTRACT_MODES,
    )
    min_share: float = key(
        0.01, "A region with less of the annotation's pixels is dropped.", least=0, greatest=1
    )
    max_regions: int = key(5, "The largest are kept.", least=1, greatest=_MOST_REGIONS)
    min_regions: int = key(2, "An image with fewer gives none.", least=1)
    merge_gap: int = key(
        3,
        "Pixels between two parts of one class that still are one region (`texture`); with 0 only "
        "parts that touch, at a corner perhaps.",
        least=0,
    )

    def check(self) -> None:
        """Refuse a range of regions that is none."""
        if self.min_regions > self.max_regions:
            raise ConfigError(
                f"MINER.EXTRACT.MIN_REGIONS {self.min_regions} and MAX_REGIONS {self.max_regions}: "
                f"use 1 <= MIN_REGIONS <= MAX_REGIONS <= {_MOST_REGIONS}"
            )


@section("MINER.EXPAND", "Variants that share the regions of an image, such as other degrees.")
@dataclass(frozen=True, kw_only=True)
class ExpandSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    which: str = key(
        "stronger",
        "`stronger` adds what is more textured than the image, as the published tool does; `all` "
        "adds the rest too.",
        choices=("stronger", "all"),
    )
    degrees: tuple[float, ...] = key(
        (), "Only these are added, and it is told where one has no image; empty: all there are."
    )
    reuse_descriptions: bool = key(
        False, "Variants get the descriptions of that image too, and are not described anew."
    )

    def check(self) -> None:
        """Refuse degrees that are no numbers."""
        require_numbers("MINER.EXPAND.DEGREES", self.degrees)


@section("MINER.DESCRIBE", "Who writes the descriptions of regions, and how it is asked.")
@dataclass(frozen=True, kw_only=True)
class DescribeSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    describer: str = key(
        "offline",
        "`offline` measures and needs nothing; `local_vlm` is MODEL.VLM; `openai` is any endpoint "
        "of that protocol; `anthropic`.",
        choices=_DESCRIBERS,
    )
    send_images: bool = key(False, "Images may leave this machine.")
    model: str = key("", "Name of the model; empty: the describer's own.")
    base_url: str = key("", "Of the endpoint; empty: the describer's own.")
    key_variable: str = key(
        "",
        "Environment variable with the key of the endpoint; empty: the describer's own; `none`: "
        "the endpoint wants no key.",
    )
    overlay: bool = key(True, "Also show the image with its regions in colours.")
    max_side: int = key(
        1024, "Longer side in pixels at which images are shown; larger ones are shrunk.", least=64
    )
    jpeg_quality: int = key(90, "Of images that are sent.", least=1, greatest=100)
    max_tokens: int = key(1024, "Of an answer.", least=16)
    offline_model: bool = key(
        True, "Whether the small model that ships writes offline sentences where it can."
    )
    batch_size: int = key(4, "Images that a local VLM describes at a time.", least=1)
    attempts: int = key(2, "Answers asked for about an image, until one can be used.", least=1)
    retries: int = key(5, "Of a call that failed, beyond the first.", least=0)
    timeout: float = key(120.0, "Of a call, seconds.", least=0.001)
    backoff: float = key(
        1.0, "Wait before the first retry, seconds; each further one is twice as long.", least=0
    )
    most_wait: float = key(
        300.0, "Longest wait, seconds; who asks for a longer one is not asked again.", least=0
    )
    requests_per_minute: float = key(0.0, "At most; 0: no limit.", least=0)
    concurrency: int = key(4, "Calls at a time.", least=1)
    price_in: float = key(0.0, "USD for a million tokens read; 0: not known.", least=0)
    price_out: float = key(0.0, "USD for a million tokens written; 0: not known.", least=0)
    max_cost: float = key(
        0.0,
        "USD after which nothing more is asked, counted over all runs in OUTPUT_DIR; 0: no limit.",
        least=0,
    )
    pixels_per_token: float = key(750.0, "Of an image, for estimates of cost.", least=1)
    seed: int = key(0, "Of the random part of waits.")

    def check(self) -> None:
        """Refuse a limit of cost where nobody knows the price."""
        if self.max_cost and not (self.price_in and self.price_out):
            raise ConfigError(
                "MINER.DESCRIBE.MAX_COST needs the prices of the model: set "
                "MINER.DESCRIBE.PRICE_IN and MINER.DESCRIBE.PRICE_OUT (USD for a million tokens)"
            )

    def cost(self, tokens: tuple[int, int]) -> float:
        """USD for tokens read and written."""
        return (tokens[0] * self.price_in + tokens[1] * self.price_out) / 1e6


@section("MINER.VALIDATE", "What is fit for training.")
@dataclass(frozen=True, kw_only=True)
class ValidateSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    prefix: str = key(
        "Texture of ", "With which a description begins; words are counted behind it."
    )
    words: tuple[int, int] = key((10, 15), "Fewer or more words are a warning.", least=0)
    most_extreme_words: tuple[int, int] = key(
        (5, 25), "Fewer or more words are a problem.", least=0
    )
    offline_least_words: int = key(
        3, "Fewer are a problem of a description that no model wrote.", least=0
    )
    min_share: float = key(0.01, "Of the image, of each region.", least=0, greatest=1)
    regions: tuple[int, int] = key((2, 6), "Fewest and most of an image.", least=1)

    def check(self) -> None:
        """Refuse ranges that are none."""
        for name in ("words", "most_extreme_words", "regions"):
            if len(getattr(self, name)) != 2:
                raise ConfigError(
                    f"MINER.VALIDATE.{name.upper()} {getattr(self, name)}: must be two numbers, "
                    "the least and the most"
                )
        (least, low), (most, high) = zip(self.most_extreme_words, self.words, strict=True)
        if not least <= low <= high <= most or self.regions[0] > self.regions[1]:
            raise ConfigError(
                f"MINER.VALIDATE: words {self.words} within {self.most_extreme_words}, regions "
                f"{self.regions}: write the lower number first, and the wider range around the "
                "other"
            )


@section("MINER.SPLIT", "Which images train and which measure.")
@dataclass(frozen=True, kw_only=True)
class SplitSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    val_share: float = key(
        0.1, "Of the groups of images that are not reserved.", least=0, greatest=1
    )
    test_share: float = key(0.0, "Likewise.", least=0, greatest=1)
    seed: int = key(0, "Another one gives another split.")
    reserve: bool = key(True, "What the source calls val or test is for `test` alone.")
    duplicate_distance: int = key(
        6,
        "Images whose perceptual hashes differ in so many of their 64 bits, or fewer, are on one "
        "side.",
        least=0,
        greatest=16,
    )

    def check(self) -> None:
        """Refuse shares that are more than all."""
        if self.val_share + self.test_share > 1:
            raise ConfigError(
                f"MINER.SPLIT.VAL_SHARE {self.val_share} and TEST_SHARE {self.test_share}: use "
                "shares of 0 to 1 that make no more than 1 together"
            )

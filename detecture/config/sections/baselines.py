"""Methods of others that are measured here: their variants and thresholds."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, section
from detecture.errors import ConfigError, brief


@section("MODEL.GROUNDED_SAM3", "GroundedSam3: Grounding DINO finds boxes, SAM 3 makes masks.")
@dataclass(frozen=True, kw_only=True)
class GroundedSam3Settings(Settings):
    """See `detecture.config.sections.declaring`."""

    detector_base: str = key(
        "",
        "Hub id or local folder of the detector's weights; empty: random weights, by "
        "DETECTOR_CONFIG.",
    )
    detector_config: str = key(
        "tiny",
        "Structure of a detector with random weights: the shipped one (tiny), or a json file.",
    )
    phrase: str = key(
        "texture regions", "What it looks for: a noun phrase, or several divided by dots."
    )
    box_threshold: float = key(0.2, "Boxes count whose score is above this.", least=0, greatest=1)
    text_threshold: float = key(
        0.2,
        "Of the phrase those words name a box whose own score is above this.",
        least=0,
        greatest=1,
    )
    box_nms: float = key(
        1.0,
        "A box whose IoU with a better one is greater than this is dropped; 1: none is (as "
        "published).",
        least=0,
        greatest=1,
    )
    variant: str = key(
        "exemplar",
        "`exemplar` (as published: each box is an example of a concept; by MODEL.SEGMENTER), "
        "`inverse` (that of the best box, and its complement; for two regions) or `box` (what lies "
        "inside the box, by SAM 3's interactive part).",
        choices=("exemplar", "inverse", "box"),
    )
    box_base: str = key(
        "",
        "Variant `box`: hub id or local folder of SAM 3 with its tracker; empty: random weights, "
        "by BOX_CONFIG.",
    )
    box_config: str = key(
        "tiny", "Variant `box`, random weights: the shipped structure (tiny), or a json file."
    )
    box_masks: str = key(
        "hard",
        "Variant `box`: `hard` (a pixel of two masks goes to the smaller one) or `soft` (to the "
        "surer one).",
        choices=("hard", "soft"),
    )


@section("MODEL.TEXTURE_SAM", "TextureSam: automatic masks of SAM 2, as regions.")
@dataclass(frozen=True, kw_only=True)
class TextureSamSettings(Settings):
    """See `detecture.config.sections.declaring`; the defaults are TextureSAM's as published.

    Of `points_per_batch` each takes 4 bytes for each pixel of the image, three times that with
    `multimask_output`.
    """

    base: str = key(
        "",
        "Hub id or folder in transformers' layout (facebook/sam2.1-hiera-small), or a .pt file in "
        "Meta's format (TextureSAM's sam2.1_hiera_small_0.3.pt); empty: random weights, by CONFIG.",
    )
    config: str = key(
        "sam2.1_hiera_small",
        "Structure for random weights and for a file in Meta's format: a shipped one "
        "(sam2.1_hiera_small, tiny), or a json file.",
    )
    points_per_side: int = key(
        64, "Points of the grid along each side of the image; each is a prompt.", above=0
    )
    points_per_batch: int = key(
        64,
        "Prompts at a time: bounds the memory, which is 4 bytes for each and each pixel of the "
        "image.",
        above=0,
    )
    pred_iou_thresh: float = key(
        0.8,
        "Masks must have a higher predicted IoU than this; 0: all are kept.",
        least=0,
        greatest=1,
    )
    stability_score_thresh: float = key(
        0.2,
        "Masks must have a higher stability than this: the IoU of the masks at the two thresholds "
        "of the logits; 0: all are kept.",
        least=0,
        greatest=1,
    )
    stability_score_offset: float = key(
        1.0, "Those two thresholds lie this far above and below 0.", least=0
    )
    box_nms_thresh: float = key(
        0.7,
        "Of two masks whose boxes have a greater IoU than this, the better stays.",
        least=0,
        greatest=1,
    )
    crop_n_layers: int = key(
        0,
        "Layers of overlapping crops that it runs on besides, of 4, 16, .. crops; 0: none.",
        least=0,
    )
    multimask_output: bool = key(False, "Three masks for each point instead of one.")
    dynamic_multimask: bool = key(
        False,
        "Take the best of three masks where the one is unstable. transformers does by default; "
        "TextureSAM was published without.",
    )
    duplicate_iou: float = key(
        0.9,
        "A mask whose IoU with a better one is greater than this is left out; 1: none is.",
        least=0,
        greatest=1,
    )
    smallest_on_top: bool = key(
        True,
        "Where masks overlap the smaller gets the pixel; False: the one with the higher predicted "
        "IoU.",
    )


@section("MODEL.DESCRIBE_THEN_SEGMENT", "DescribeThenSegment: what its VLM is asked.")
@dataclass(frozen=True, kw_only=True)
class DescribeThenSegmentSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    prompts: str = key(
        "describe_then_segment",
        "Wording of the questions: describe_then_segment, or a yaml file "
        "(detecture.data.questions).",
    )
    subject: str = key(
        "",
        "What the one region is where one region is known, such as `water surface`; empty: not "
        "said.",
    )


@section("MODEL.SA2VA", "Sa2VA: its weights and code, and what it is asked.")
@dataclass(frozen=True, kw_only=True)
class Sa2VASettings(Settings):
    """See `detecture.config.sections.declaring`."""

    base: str = key(
        "ByteDance/Sa2VA-4B",
        "Hub id or local folder of the weights and of the code that comes with them.",
    )
    revision: str = key(
        "b5ffed22",
        "Commit of that hub id, in 7 to 40 hexadecimal digits. Branches and tags are refused: they "
        "move, and with them the code that is run.",
    )
    trust_remote_code: bool = key(
        False, "Sa2VA is no class of transformers: True runs the Python code that comes with BASE."
    )
    prompts: str = key(
        "sa2va_caption",
        "Wording of the questions: sa2va_caption, sa2va_parts, or a yaml file "
        "(detecture.data.questions).",
    )
    subject: str = key(
        "",
        "What the one region is where one region is known, such as `water surface`; empty: not "
        "said.",
    )
    complement: bool = key(
        True,
        "Where two regions are known and one mask comes back, the rest of the image is the second.",
    )
    smallest_on_top: bool = key(
        True,
        "Where masks overlap, the smaller one keeps the pixels; False: the larger one, as "
        "published.",
    )


@section("MODEL.SAM3_TEXT", "Sam3Text: SAM 3 (MODEL.SEGMENTER, frozen) under phrases.")
@dataclass(frozen=True, kw_only=True)
class Sam3TextSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    variant: str = key(
        "semantic",
        "How channels come about: `semantic` (one phrase each), `inverse` (the first phrase, and "
        "what is not it; K must be 2) or `proposals` (single objects under the first phrase).",
        choices=("semantic", "inverse", "proposals"),
    )
    phrases: tuple[str, ...] = key(
        ("foreground texture", "background texture"),
        "What SAM 3 is asked for. Of `semantic`, the first K; the last one again where there are "
        "fewer.",
    )
    score_threshold: float = key(
        0.0,
        "Proposals must have a greater score than this; at most K of them, or MODEL.MAX_REGIONS "
        "where K is unknown (published: 0 with K known; with 0.5 their number tells nothing of K).",
        least=0,
        greatest=1,
    )
    duplicate_iou: float = key(
        1.0,
        "A proposal whose mask has a greater IoU than this with a better one is left out; 1: none "
        "is, as published.",
        least=0,
        greatest=1,
    )
    smallest_on_top: bool = key(
        False,
        "Where proposals overlap, the smaller wins; otherwise, as published, the surer at each "
        "pixel.",
    )

    def check(self) -> None:
        """Refuse phrases that say nothing."""
        if isinstance(self.phrases, str) or not self.phrases:
            raise ConfigError(
                f"MODEL.SAM3_TEXT.PHRASES is {brief(self.phrases)}; it needs a list of one phrase "
                'or more, such as ["texture"]'
            )
        for number, phrase in enumerate(self.phrases, 1):
            if not isinstance(phrase, str) or not phrase.strip():
                raise ConfigError(
                    f"MODEL.SAM3_TEXT.PHRASES {brief(list(self.phrases))}: phrase {number} is "
                    "empty or no text; say in words what SAM 3 is to find"
                )

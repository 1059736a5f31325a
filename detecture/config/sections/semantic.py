"""Open-vocabulary segmentation: CLIP, the aggregation of the cost, AHS-Seg's parts, windows."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, nested, section
from detecture.errors import ConfigError

_WIDEST, _LARGEST_GRID, _MOST_PIXELS = 16_384, 256, 16_384  # far beyond what any memory takes
FINETUNE = ("attention", "frozen", "full", "orthogonal")


@section("MODEL.CLIP.ORTHOGONAL", "Orthogonal fine-tuning of CLIP (H-CLIP).")
@dataclass(frozen=True, kw_only=True)
class OrthogonalSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    block: int = key(
        128, "Side of a block; divides the widths of both encoders.", least=2, greatest=_WIDEST
    )
    text_cayley: bool = key(True, "Blocks of the text encoder are orthogonal.")
    image_cayley: bool = key(False, "Blocks of the image encoder are orthogonal.")
    relation: bool = key(
        True, "Mix what blocks learn across blocks, encoders and layers (cross-relation)."
    )


@section("MODEL.CLIP", "CLIP, of open-vocabulary segmentation.")
@dataclass(frozen=True, kw_only=True)
class ClipSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    base: str = key(
        "",
        "Weights: a hub id or folder of transformers, or a file of OpenAI's (`ViT-B-16.pt`); "
        "empty: random ones, of MODEL.CLIP.CONFIG.",
    )
    config: str = key(
        "vit_b16", "Structure: `vit_b16`, `vit_l14_336`, `tiny`, or a json file of a `CLIPConfig`."
    )
    grid: int = key(
        24,
        "Patches a side; images are resized to as many patches.",
        least=4,
        greatest=_LARGEST_GRID,
    )
    finetune: str = key(
        "attention",
        "What trains: `attention` (queries and values), `orthogonal`, `full`, or `frozen`.",
        choices=FINETUNE,
    )
    templates: str = key(
        "single",
        "What names are put into: `single` (CAT-Seg's), `imagenet` (80), `imagenet_select` (8), "
        "`plain` (the name alone).",
        choices=("imagenet", "imagenet_select", "plain", "single"),
    )
    tokenizer: str = key(
        "clip",
        "`clip`, or a json file of a word tokenizer, as a shipped model has.",
    )
    stem_weights: str = key(
        "",
        "Checkpoint whose trunk is that of the stem, for structures that have one, and stays as it "
        "is: of TextureGrouping, or of TextureClassifier.",
    )
    orthogonal: OrthogonalSettings = nested(OrthogonalSettings)


@section("MODEL.COST_AGGREGATION", "From cosines of patches and names to masks (CAT-Seg).")
@dataclass(frozen=True, kw_only=True)
class CostAggregationSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    hidden: int = key(128, "Channels.", least=8, greatest=_WIDEST)
    layers: int = key(2, "Pairs of spatial and class aggregation.", least=1, greatest=64)
    heads: int = key(4, "Heads of the attention.", least=1, greatest=_WIDEST)
    window: int = key(
        12,
        "Side of a window of the spatial attention, in patches.",
        least=1,
        greatest=_LARGEST_GRID,
    )
    attention: str = key(
        "linear", "Between classes: `linear` or `full`.", choices=("full", "linear")
    )
    text_guidance: int = key(
        128, "Channels that names are projected to.", least=1, greatest=_WIDEST
    )
    image_guidance: int = key(
        128, "Channels that patches are projected to.", least=1, greatest=_WIDEST
    )
    decoder: tuple[int, int] = key(
        (64, 32), "Channels after each stage of the decoder.", least=8, greatest=_WIDEST
    )
    decoder_guidance: tuple[int, int] = key(
        (256, 128),
        "Channels of the enlarged CLIP features that guide it.",
        least=1,
        greatest=_WIDEST,
    )
    decoder_guidance_projected: tuple[int, int] = key(
        (32, 16), "Channels that they are projected to.", least=1, greatest=_WIDEST
    )
    pooling: tuple[int, int] = key(
        (2, 2),
        "Patches are averaged by this before class aggregation, in training.",
        least=1,
        greatest=_LARGEST_GRID,
    )
    most_classes: int = key(
        256,
        "Names that are aggregated at a time: of more, those that fit an image best; fewer are "
        "padded to it.",
        least=1,
        greatest=32000,
    )

    def check(self) -> None:
        """See `Settings.check`."""
        if self.hidden % self.heads:
            raise ConfigError(
                f"MODEL.COST_AGGREGATION.HIDDEN {self.hidden} must be a multiple of HEADS "
                f"{self.heads}"
            )
        if len(self.decoder) != 2 or any(width % 16 for width in self.decoder):
            raise ConfigError(
                f"MODEL.COST_AGGREGATION.DECODER {self.decoder}: give two multiples of 16"
            )


@section("MODEL.ADAPTIVE_ENERGY", "HA-HEM: how far each layer of CLIP is turned is learnt.")
@dataclass(frozen=True, kw_only=True)
class AdaptiveEnergySettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use it; needs MODEL.CLIP.FINETUNE `orthogonal`.")
    interpolation: str = key(
        "linear",
        "Between the identity and the blocks: `linear`, as published, or `cayley`, which stays "
        "orthogonal.",
        choices=("cayley", "linear"),
    )
    energy: str = key(
        "mhe",
        "`ortho`, the term as published; `mhe`, by how much the hyperspherical energy exceeds "
        "CLIP's.",
        choices=("mhe", "ortho"),
    )
    weight: float = key(0.01, "Weight of `loss_energy`.", least=0)


@section("MODEL.SPHERICAL_FPN", "MH-FPN: layers of CLIP, aligned on the sphere, as guidance.")
@dataclass(frozen=True, kw_only=True)
class SphericalFpnSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use it.")
    levels: tuple[int, ...] = key(
        (), "Visual layers, from 0; empty: those at one third, two thirds and the end."
    )
    fusion: str = key(
        "weighted",
        "Of the levels: `weighted` (learnt weights), `attention` (of each patch), `concat`.",
        choices=("attention", "concat", "weighted"),
    )
    boundary_weight: float = key(0.1, "Weight of `loss_boundary`; 0: none.", least=0)


@section("MODEL.CLASS_PROJECTION", "DC-HSP: names are projected by how complex their class is.")
@dataclass(frozen=True, kw_only=True)
class ClassProjectionSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use it.")
    rank: int = key(64, "Of the part that grows with the complexity.", least=1, greatest=_WIDEST)
    contrast_weight: float = key(0.05, "Weight of `loss_contrast`; 0: none.", least=0)


@section("MODEL.DISTILLATION", "SDR: patches stay near those of CLIP as it was.")
@dataclass(frozen=True, kw_only=True)
class DistillationSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use it; needs a CLIP that trains.")
    weight: float = key(0.1, "Weight of `loss_distill`, times a schedule.", least=0)
    warmup: int = key(5000, "Iterations in which the schedule rises to 0.5.", least=1)
    end: int = key(80000, "Iteration at which it has fallen to 0.1.", least=1)


@section("MODEL.RECTIFICATION", "AFR: patches are gated by channel, place and certainty.")
@dataclass(frozen=True, kw_only=True)
class RectificationSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use it.")
    weight: float = key(0.05, "Weight of `loss_rectify`; 0: none.", least=0)


@section("MODEL.PROTOTYPES", "HPA: patches are drawn to a running mean of their class.")
@dataclass(frozen=True, kw_only=True)
class PrototypeSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use it.")
    weight: float = key(0.1, "Weight of `loss_prototype`; 0: none.", least=0)
    momentum: float = key(0.99, "Of the running mean.", least=0, greatest=1)


@section("MODEL.REGION_MEANS", "Scores are averaged over regions that the grouping nets find.")
@dataclass(frozen=True, kw_only=True)
class RegionMeansSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    weights: str = key(
        "",
        "Checkpoint of TextureGrouping, of the form that MODEL.GROUPING says; empty: pixels keep "
        "their scores. In evaluation alone, and not with windows.",
    )
    count: str = key(
        "names",
        "Regions of an image: as many as `names`, 2 to MODEL.MAX_REGIONS; `most`, MODEL."
        "MAX_REGIONS; `chosen`, by the selector.",
        choices=("chosen", "most", "names"),
    )
    every_name: bool = key(
        False,
        "It is known that the image has what each name says: names and regions are paired one to "
        "one, so that their scores are best in all; a name or region that is left over has what "
        "it had.",
    )


@section("MODEL.VOCABULARY", "The classes of open-vocabulary segmentation.")
@dataclass(frozen=True, kw_only=True)
class VocabularySettings(Settings):
    """See `detecture.config.sections.declaring`."""

    train: str = key(
        "", "Class list for training: one that ships, or a json file; empty: the data set's own."
    )
    test: str = key("", "Class list for evaluation, likewise.")
    most_names: int = key(
        4096,
        "Names that an image may be asked for; the text encoder reads some dozens a second on a "
        "CPU.",
        least=1,
        greatest=32000,
    )


@section("TEST.SLIDING", "Windows that slide over an image (CAT-Seg).")
@dataclass(frozen=True, kw_only=True)
class SlidingSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    enabled: bool = key(False, "Use them; otherwise the whole image is seen once, small.")
    canvas: tuple[int, ...] = key(
        (640, 640), "Height and width that images are resized to; empty: they keep theirs."
    )
    kernel: int = key(
        384, "Side of a window, in pixels of the canvas.", least=8, greatest=_MOST_PIXELS
    )
    overlap: float = key(
        1 / 3, "Share of a window that the next one covers again.", least=0, greatest=0.95
    )
    global_weight: float = key(
        0.5, "Weight of the whole image beside its windows.", least=0, greatest=1
    )
    batch: int = key(1, "Windows that are seen at a time.", least=1, greatest=4096)

    def check(self) -> None:
        """See `Settings.check`."""
        if self.canvas and (len(self.canvas) != 2 or min(self.canvas) < self.kernel):
            raise ConfigError(
                f"TEST.SLIDING.CANVAS {self.canvas}: give a height and a width, each at least "
                f"KERNEL {self.kernel}, or ()"
            )
        if self.canvas and max(self.canvas) > _MOST_PIXELS:
            raise ConfigError(
                f"TEST.SLIDING.CANVAS {self.canvas}: {_MOST_PIXELS} pixels a side is the most"
            )


@section("TEST.SEMANTIC", "Evaluation of open-vocabulary segmentation.")
@dataclass(frozen=True, kw_only=True)
class SemanticTestSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    pooling: tuple[int, int] = key(
        (1, 1), "As MODEL.COST_AGGREGATION.POOLING, in evaluation.", least=1, greatest=_LARGEST_GRID
    )
    synonyms: str = key(
        "all",
        "Names that a class is looked for by: `all` (its best score counts), or `first`, as "
        "published.",
        choices=("all", "first"),
    )
    background_threshold: float = key(
        0.0,
        "A pixel whose best score is below it is background, a class of its own; 0: there is none.",
        least=0,
        greatest=1,
    )
    max_score_gb: float = key(
        8.0,
        "Where the scores of all classes at full size (sem_seg) would take more, they are refused; "
        "the label map takes none of it.",
        least=0,
    )
    miou_rule: str = key(
        "present",
        "Classes that mIoU averages over: `present` in the ground truth, or, as Detectron2 did "
        "until July 2022, `present_or_predicted`.",
        choices=("present", "present_or_predicted"),
    )
    vocabulary: str = key(
        "full",
        "What each image is asked for: `full`, all classes; `per_image`, those that it has (an "
        "oracle, and marked so).",
        choices=("full", "per_image"),
    )


@section("LOSS.SEMANTIC", "The loss of open-vocabulary segmentation.")
@dataclass(frozen=True, kw_only=True)
class SemanticLossSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    ignore: str = key(
        "mask",
        "Pixels without a label: `mask` leaves them out; `negative` says, as published, that they "
        "are of no class.",
        choices=("mask", "negative"),
    )

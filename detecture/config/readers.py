"""Which keys each registered model reads, so that unread ones can be reported."""

from typing import Any

from detecture.config.idle import changed_keys, get, is_of, switched_off, warn_of_idle_keys
from detecture.d2 import CfgNode

_SEMANTIC = ("CATSeg", "AHSSeg", "NameAlignment")
_SAM3 = ("Detecture", "DescribeThenSegment", "GroundedSam3", "Sam3Text")
_VLM = ("Detecture", "TextureGrouping", "RegionDescriber", "DescribeThenSegment")
_WITHOUT_TRAINING = (
    *("TextureClusters", "OneRegion", "HalfSplit"),
    *("DescribeThenSegment", "GroundedSam3", "Sa2VA", "Sam3Text", "TextureSam"),
)
_OTHERS = ("RegionDescriber", "TextureClassifier")

READERS: dict[str, tuple[str, ...]] = {
    "MODEL.DTYPE": (*_SAM3, "TextureGrouping", "RegionDescriber"),
    "MODEL.FEATURE_CACHE": ("Detecture",),
    # AHSSeg with the grouping nets (MODEL.REGION_MEANS).
    "MODEL.MAX_REGIONS": (
        *(*_SAM3, "TextureGrouping", "RegionDescriber"),
        *("AHSSeg", "NameAlignment", "Sa2VA", "TextureSam"),
    ),
    "MODEL.ADAPTIVE_ENERGY": ("AHSSeg", "NameAlignment"),
    "MODEL.BRIDGE": ("Detecture",),
    "MODEL.CLASS_PROJECTION": ("AHSSeg", "NameAlignment"),
    "MODEL.CLIP": _SEMANTIC,
    "MODEL.COST_AGGREGATION": _SEMANTIC,
    "MODEL.DESCRIBER": ("TextureGrouping", *_OTHERS),
    "MODEL.DESCRIBE_THEN_SEGMENT": ("DescribeThenSegment",),
    "MODEL.DISTILLATION": ("AHSSeg", "NameAlignment"),
    "MODEL.GROUNDED_SAM3": ("GroundedSam3",),
    "MODEL.GROUPING": ("TextureGrouping", "AHSSeg", "NameAlignment"),
    "MODEL.PROTOTYPES": ("AHSSeg", "NameAlignment"),
    "MODEL.RECTIFICATION": ("AHSSeg", "NameAlignment"),
    "MODEL.REFINEMENT": ("Detecture",),
    "MODEL.REGION_MEANS": ("AHSSeg", "NameAlignment"),
    "MODEL.SA2VA": ("Sa2VA",),
    "MODEL.SAM3_TEXT": ("Sam3Text",),
    "MODEL.SEGMENTER": _SAM3,
    "MODEL.SEGMENTER.TOKENIZER": ("DescribeThenSegment", "Sam3Text"),
    "MODEL.SEGMENTER.TRAIN": ("Detecture",),
    "MODEL.SEM_SEG_HEAD.NAME": ("Detecture", *_SEMANTIC),
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": _SEMANTIC,
    "MODEL.SPHERICAL_FPN": ("AHSSeg", "NameAlignment"),
    "MODEL.TEXTURE_CLUSTERS": ("TextureClusters",),
    "MODEL.TEXTURE_SAM": ("TextureSam",),
    "MODEL.VLM": _VLM,
    "MODEL.VLM.TRAIN": ("Detecture", "TextureGrouping", "RegionDescriber"),
    "MODEL.VLM.TRAIN_COUNT": ("Detecture",),
    "MODEL.VOCABULARY": _SEMANTIC,
    "LOSS": ("Detecture",),
    "LOSS.GROUPING": ("Detecture", "TextureGrouping"),
    "LOSS.LM_WEIGHT": ("Detecture", "RegionDescriber"),
    "LOSS.NORMALIZER": ("Detecture", "RegionDescriber"),
    "LOSS.SEMANTIC": _SEMANTIC,
    "TEST.AUG": _SEMANTIC,
    "TEST.DUSTBIN_LOGIT": (*_WITHOUT_TRAINING, "TextureGrouping"),
    "TEST.GRANULARITY": ("TextureGrouping",),
    "TEST.SEMANTIC": _SEMANTIC,
    "TEST.SLIDING": _SEMANTIC,
}
"""Keys and sections, and the models that read them; of several that fit a key the longest counts.

What is not here every model has to do with, or none: the loader, the loop or the evaluator.
"""

KNOWN = frozenset({*_SEMANTIC, *_SAM3, *_VLM, *_WITHOUT_TRAINING, *_OTHERS, "TextureGrouping"})
"""Models that the table is about; one of a user's own may read what it likes."""


def readers_of(key: str) -> tuple[str, ...] | None:
    """The models that read a key; None: it does not belong to any model."""
    fitting = [name for name in READERS if is_of(key, [name])]
    return READERS[max(fitting, key=len)] if fitting else None


NEEDS: tuple[tuple[tuple[str, ...], str, tuple[Any, ...]], ...] = (
    (("MODEL.CLIP.ORTHOGONAL",), "MODEL.CLIP.FINETUNE", ("orthogonal",)),
    (("MODEL.GROUNDED_SAM3.BOX_MASKS",), "MODEL.GROUNDED_SAM3.VARIANT", ("box",)),
    (
        tuple(
            f"MODEL.SAM3_TEXT.{name}"
            for name in ("SCORE_THRESHOLD", "DUPLICATE_IOU", "SMALLEST_ON_TOP")
        ),
        *("MODEL.SAM3_TEXT.VARIANT", ("proposals",)),
    ),
    (("MODEL.VLM.LORA",), "MODEL.VLM.TRAIN", ("lora",)),
)
"""Keys or sections, the key that they hang on, and its values under which they are read."""

NEEDS_SOME: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        tuple(f"MODEL.REFINEMENT.{name}" for name in ("DIMENSIONS", "WEIGHT", "IN_TRAINING")),
        "MODEL.REFINEMENT.STEPS",
    ),
    (("MODEL.REGION_MEANS.COUNT", "MODEL.REGION_MEANS.EVERY_NAME"), "MODEL.REGION_MEANS.WEIGHTS"),
    (("TEST.AUG.MIN_SIZES", "TEST.AUG.MAX_SIZE"), "TEST.SLIDING.ENABLED"),
)
"""Keys that are read where another one is not 0 and not empty."""


def warn_of_keys_without_effect(cfg: CfgNode) -> None:
    """Name the keys that are set but do not affect what MODEL.META_ARCHITECTURE answers.

    These are the keys that the model does not read, those in a section whose ENABLED is False, and
    those that another key's value leaves unread.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in KNOWN:
        return
    changed = changed_keys(cfg)
    readers = {key: readers_of(key) for key in changed}
    other = [key for key, models in readers.items() if models is not None and name not in models]
    warn_of_idle_keys(other, f"{name} does not read them")
    changed = [key for key in changed if key not in other]
    off = [key for key in switched_off(cfg, ("MODEL", "TEST")) if key in changed]
    off = [key for key in off if key != "TEST.AUG.MAX_SIZE"]  # read in any case
    warn_of_idle_keys(off, "ENABLED beside them is False")
    for keys, on, values in NEEDS:
        if (given := get(cfg, on)) not in values:
            idle = [key for key in changed if is_of(key, keys)]
            warn_of_idle_keys(idle, f"{on} is {given}, not {' or '.join(map(str, values))}")
    for keys, on in NEEDS_SOME:
        if not (given := get(cfg, on)):
            idle = [key for key in changed if key in keys]
            warn_of_idle_keys(idle, f"{on} is {given!r}")

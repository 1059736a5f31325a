"""Losses."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, nested, section


@section("LOSS.GROUPING", "The grouping loss: pixels of one region lie close in the embedding.")
@dataclass(frozen=True, kw_only=True)
class GroupingLossSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    pixels: int = key(160, "Pixels that are drawn of each image, evenly over its regions.", least=2)
    temperature: float = key(0.1, "What cosines are divided by.", least=1e-3)
    contrast_weight: float = key(
        0.5,
        "Weight of the contrastive term beside the cross-entropy to the regions' means.",
        least=0,
    )


@section("LOSS", "Losses and their weights.")
@dataclass(frozen=True, kw_only=True)
class LossSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    normalizer: str = key(
        "global",
        "What sums are divided by: `global` (counts over all processes and micro-batches) or "
        "`published` (the means of each micro-batch are averaged).",
        choices=("global", "published"),
    )
    mask_weight: float = key(1.0, "Weight of the mask loss.", least=0)
    dice_weight: float = key(3.0, "Weight of the Dice term in the mask loss.", least=0)
    lm_weight: float = key(0.1, "Weight of the language-model loss.", least=0)
    lm_cliff: str = key(
        "shifted_zero",
        "Weight of each answer token near `<|seg|>`.",
        choices=("cosine", "naive", "seg_only", "shifted_zero", "uniform"),
    )
    lm_alpha: float = key(2.0, "Steepness of that cliff, per token.", least=0)
    grouping_weight: float = key(
        0.0,
        "Weight of the grouping loss on the pixel embeddings that masks are read from; 0: none.",
        least=0,
    )
    grouping: GroupingLossSettings = nested(GroupingLossSettings)

"""Evaluation: what methods may know, what is kept, what is expected."""

from dataclasses import dataclass

from detecture.config.sections.declaring import Settings, key, section
from detecture.errors import ConfigError, brief

COUNT_WORDS = ("regime", "autonomous", "per_image", "ground_truth_top_k")
"""What TEST.COUNT may say besides an integer."""

MOST_REGIONS = 65_535
"""Regions of one image, as many as a label map's file has labels."""


@section("TEST", "Evaluation: what methods may know, what is kept, when training evaluates.")
@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    count: str = key(
        "regime",
        "What a method may know of K, the number of regions: `regime` (what the data set's regime "
        "grants), `autonomous` (nothing), `per_image` (the true number of each image), an integer, "
        "or `ground_truth_top_k` (as `per_image`, for a published cell in which one method alone "
        "is told).",
    )
    granularity: float = key(
        0.0,
        "Where the number of regions is not told: from the coarsest answer that a method offers "
        "(-1) over its own choice (0) to the finest (1). For TextureGrouping.",
        least=-1,
        greatest=1,
    )
    oracle: bool = key(
        False,
        "Tell methods the true descriptions, to measure segmentation apart from describing; every "
        "record is marked as oracle.",
    )
    oracle_in_training: bool = key(
        False,
        "ORACLE in the evaluations that a training runs, and in no others: the best weights are "
        "then chosen by teacher-forced answers, as published.",
    )
    limit: int = key(0, "Evaluate only the first images of each data set; 0: all.", least=0)
    dustbin_logit: float = key(
        0.0, "Constant score of the dustbin, for methods that have none of their own."
    )
    bootstrap_samples: int = key(
        2000, "Resamples of the images behind every 95 % bootstrap interval.", least=1
    )
    max_failures_in_a_row: int = key(
        10, "Give up after this many images in a row on which the method failed.", least=1
    )
    max_score_pixels: int = key(
        4_000_000,
        "The predictor asks for scores at no more than about this many pixels, and upsamples them.",
        least=1,
    )
    save_label_maps: bool = key(
        True, "Write the label map of every image beside the records, as a palette PNG."
    )
    best_metric: str = key(
        "",
        "Scalar whose best value is kept as model_best, such as texture/mIoU; less is better where "
        'its name holds "loss" or "MAE". Empty: none.',
    )
    early_stopping_patience: int = key(
        0,
        "Training ends after so many evaluations in a row that did not better BEST_METRIC; 0: "
        "never.",
        least=0,
    )
    validation_images: int = key(
        0,
        "Images of so many samples of the first test set, truth beside prediction, go to "
        "tensorboard at every evaluation.",
        least=0,
    )

    def check(self) -> None:
        """Refuse a COUNT that is neither a word nor a possible number, or one with GRANULARITY."""
        count = self.count
        if count in COUNT_WORDS:
            return
        if is_count(count):
            if self.granularity:
                raise ConfigError(
                    f"TEST.COUNT {brief(count)} tells the number of regions, and TEST.GRANULARITY "
                    f"{self.granularity:g} asks the method to choose it: set one of them"
                )
            return
        raise ConfigError(
            f"TEST.COUNT {brief(self.count)}: use {', '.join(COUNT_WORDS)} or a positive integer "
            f"up to {MOST_REGIONS:,}"
        )


def is_count(text: str) -> bool:
    """Whether a text is a number of regions, 1 to `MOST_REGIONS`."""
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    return 0 < len(digits) <= len(str(MOST_REGIONS)) and int(digits) <= MOST_REGIONS

"""The miner: where its images come from, how it runs, what it writes.

Each stage has a section of its own, MINER.<STAGE>. What is said there is part of the stage's hash:
where it changes, the stage is done again. What only says how to run stands in MINER.RUNNING.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detecture.config.sections.declaring import Settings, key, section
from detecture.errors import ConfigError, brief

EXPORT_FORMATS = (
    *("published_layout", "coco", "fiftyone", "label_studio", "cvat", "webdataset", "parquet"),
)
"""Names of formats; `detecture.miner.export` has what writes them."""

_FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
TEXTURED_ENDS = ("high", "low")


def require_numbers(key: str, values: Sequence[Any]) -> None:
    """Check a list that is empty by default, so that nothing else says what may be in it.

    Args:
        key: its name, for the error.
        values: of the list.

    Raises:
        ConfigError: one is no finite number.
    """
    for value in values:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ConfigError(f"{key}: {brief(value)} is no number; write it as (0.0, 0.5)")


@section("MINER.SOURCE", "Images that are mined; see tools/mine.py.")
@dataclass(frozen=True, kw_only=True)
class MinerSourceSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    name: str = key(
        "folder", "Layout of the images, by its name in MINER_SOURCE_REGISTRY, such as `ade20k`."
    )
    root: str = key(
        "",
        "Folder that holds them, or address of a store such as `s3://bucket/folder` or `gs://..`, "
        "with your own credentials; `~` and environment variables are expanded.",
    )
    copies: str = key(
        "",
        "Folder for what is fetched from a store, which stays until you remove it; empty: "
        "OUTPUT_DIR/source.",
    )
    parts: tuple[str, ...] = key(
        ("train", "val"),
        "Parts of the source that are mined, where it has parts; empty: all.",
    )
    annotation_root: str = key(
        "",
        "Folder of the annotations where they lie elsewhere: of `textured_ade20k`, the original "
        "ADEChallengeData2016; a folder or an address.",
    )
    degrees: tuple[float, ...] = key(
        (),
        "Degrees of the variants that are mined; others are added from them by MINER.EXPAND. "
        "Empty: all.",
    )
    textured_end: str = key(
        "high",
        "Which end of the degrees is the textured one: `high` (1.0 is pure texture) or `low`. The "
        "two releases contradict each other: look at the images.",
        choices=TEXTURED_ENDS,
    )
    regions_config: str = key(
        "",
        "Config of the model that finds the regions of images without labels, how many being its "
        "choice; empty: the one that ships.",
    )

    def check(self) -> None:
        """Refuse degrees that are no numbers."""
        require_numbers("MINER.SOURCE.DEGREES", self.degrees)


@section("MINER.RUNNING", "How the miner runs; none of it changes a result.")
@dataclass(frozen=True, kw_only=True)
class MinerRunningSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    engine: str = key(
        "local",
        "`local`: processes of this machine; `ray`: a Ray cluster, whose machines see the same "
        "folders under the same paths.",
        choices=("local", "ray"),
    )
    ray_address: str = key(
        "", "Of the cluster; empty: the one that this machine is part of, or a new one here."
    )
    store: str = key(
        "",
        "Where the mine is kept, such as `s3://bucket/mine` or `gs://..`, with your own "
        "credentials; OUTPUT_DIR is then a copy, which may be empty. Empty: in OUTPUT_DIR alone.",
    )
    workers: int = key(
        1, "Processes of the stages that compute, on a cluster in all; 1: this one alone.", least=1
    )
    failures_in_a_row: int = key(
        20, "A stage gives up after so many images in a row that failed.", least=1
    )


@section("MINER.SELECT", "Which scored images are taken.")
@dataclass(frozen=True, kw_only=True)
class MinerSelectSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    by: str = key(
        "score",
        "What is taken: by `score`, the selected images; `all` that can be read; or those of the "
        "list PICKED.",
        choices=("score", "all", "picked"),
    )
    borderline: bool = key(False, "By score, take the borderline images too.")
    picked: str = key("", "File with an id, or `source/id`, on each line, as the review saves it.")

    def check(self) -> None:
        """Refuse a choice by a list without one."""
        if self.by == "picked" and not self.picked:
            raise ConfigError("MINER.SELECT.BY is picked; name the list, MINER.SELECT.PICKED")


@section("MINER.REVIEW", "The page on which mined images are looked at and picked.")
@dataclass(frozen=True, kw_only=True)
class MinerReviewSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    limit: int = key(
        1500,
        "Images shown at most: 35 % selected, 25 % borderline, the others rejected; 0: all.",
        least=0,
    )
    side: int = key(960, "Longer side of the images on the page, in pixels.", least=64)
    seed: int = key(42, "Of the rejected images that are drawn by lot.")


@section("MINER.EXPORT", "The data set that is written.")
@dataclass(frozen=True, kw_only=True)
class MinerExportSettings(Settings):
    """See `detecture.config.sections.declaring`."""

    name: str = key(
        "ADE20K_textured_images",
        "Folder of the published layout in OUTPUT_DIR/export. With DETECTURE_DATASETS_ROOT set to "
        "that, this name is what detecture_train and detecture_val are.",
    )
    formats: tuple[str, ...] = key(
        (),
        "Further formats, each in a folder of its name in OUTPUT_DIR/export: `coco`, `fiftyone`, "
        "`label_studio`, `cvat`, `webdataset`, `parquet`, `published_layout`.",
    )

    def check(self) -> None:
        """Refuse what is no name of a folder in OUTPUT_DIR/export, and formats that are none."""
        for name in self.formats:
            if name not in EXPORT_FORMATS:
                raise ConfigError(
                    f"MINER.EXPORT.FORMATS: {brief(name)} is none; use some of "
                    f"{', '.join(EXPORT_FORMATS)}"
                )
        if not _FOLDER.fullmatch(self.name) or self.name in EXPORT_FORMATS:
            raise ConfigError(
                f"MINER.EXPORT.NAME {brief(self.name)}: use letters, digits and _-. for a folder, "
                f"and none of {', '.join(EXPORT_FORMATS)}"
            )

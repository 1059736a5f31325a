"""A CAT-Seg of a few thousand parameters and random weights, for tests of what is around it."""

from pathlib import Path

from detecture import SemanticPredictor

REPO = Path(__file__).parents[1]
CONFIG = str(REPO / "configs/ahs_seg/cat_seg_vitb.yaml")
_HEAD = "MODEL.COST_AGGREGATION."
OVERRIDES = [
    *(
        "DATASETS.TRAIN",
        "()",
        "DATASETS.TEST",
        "()",
        "MODEL.DEVICE",
        "cpu",
        "MODEL.CLIP.BASE",
        "",
        "MODEL.CLIP.CONFIG",
        "tiny",
    ),
    *("MODEL.CLIP.GRID", "8", f"{_HEAD}HIDDEN", "16", f"{_HEAD}HEADS", "2", f"{_HEAD}WINDOW", "4"),
    *(f"{_HEAD}DECODER", "(16,16)", f"{_HEAD}DECODER_GUIDANCE", "(16,16)"),
    *(f"{_HEAD}DECODER_GUIDANCE_PROJECTED", "(8,8)", f"{_HEAD}MOST_CLASSES", "16"),
]
"""Of `cat_seg_vitb.yaml`, windows included."""


def predictor(*more):
    return SemanticPredictor.from_config(CONFIG, [*OVERRIDES, *more])

"""What values of config keys make sense, and errors that say so."""

import difflib
import math
from collections.abc import Iterator
from typing import Any

from detecture.d2 import CfgNode
from detecture.errors import ConfigError

COUNT_WORDS = ("regime", "autonomous", "per_image", "ground_truth_top_k")
"""What TEST.COUNT may say besides an integer."""

# Least value that makes sense; below it, a run would fail late or do nothing.
_LEAST = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MAX_PIXELS": 1,
    "INPUT.TRAIN_SIZE": 1,
    "LOSS.DICE_WEIGHT": 0,
    "LOSS.GROUPING.CONTRAST_WEIGHT": 0,
    "LOSS.GROUPING.PIXELS": 2,
    "LOSS.GROUPING.TEMPERATURE": 1e-3,
    "LOSS.GROUPING_WEIGHT": 0,
    "LOSS.LM_ALPHA": 0,
    "LOSS.LM_WEIGHT": 0,
    "LOSS.MASK_WEIGHT": 0,
    "MODEL.BRIDGE.DROPOUT": 0,
    "MODEL.GROUNDED_SAM3.BOX_NMS": 0,
    "MODEL.GROUNDED_SAM3.BOX_THRESHOLD": 0,
    "MODEL.GROUNDED_SAM3.TEXT_THRESHOLD": 0,
    "MODEL.MAX_REGIONS": 1,
    "MODEL.REFINEMENT.DIMENSIONS": 1,
    "MODEL.REFINEMENT.STEPS": 0,
    "MODEL.REFINEMENT.WEIGHT": 0,
    "MODEL.VLM.IMAGE_SIZE": 16,
    "MODEL.VLM.LORA.ALPHA": 0,
    "MODEL.VLM.LORA.DROPOUT": 0,
    "MODEL.VLM.LORA.RANK": 1,
    "MODEL.VLM.MAX_NEW_TOKENS": 1,
    "SOLVER.ACCUMULATION": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0,
    "SOLVER.CURRICULUM.BRIDGE_FACTOR": 0,
    "SOLVER.CURRICULUM.STAGE2_EPOCH": 0,
    "SOLVER.CURRICULUM.STAGE2_ITER": 0,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.KEEP_CHECKPOINTS": 2,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.LR_FACTOR.BRIDGE": 0,
    "SOLVER.LR_FACTOR.DUSTBIN": 0,
    "SOLVER.LR_FACTOR.MASK_HEAD": 0,
    "SOLVER.LR_FACTOR.SEGMENTER": 0,
    "SOLVER.LR_FACTOR.SEG_ROWS": 0,
    "SOLVER.LR_FACTOR.TEXTURE": 0,
    "SOLVER.LR_FACTOR.TEXTURE_READOUT": 0,
    "SOLVER.LR_FACTOR.VLM": 0,
    "SOLVER.MAX_EPOCHS": 0,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.MIN_LR": 0,
    "SOLVER.RESTART.EPOCH": 0,
    "SOLVER.RESTART.FACTOR": 0,
    "SOLVER.RESTART.ITER": 0,
    "SOLVER.RESTART.WARMUP_EPOCHS": 0,
    "SOLVER.RESTART.WARMUP_ITERS": 0,
    "SOLVER.WARMUP_EPOCHS": 0,
    "SOLVER.WARMUP_FACTOR": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "TEST.BOOTSTRAP_SAMPLES": 1,
    "TEST.EARLY_STOPPING_PATIENCE": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.LIMIT": 0,
    "TEST.MAX_FAILURES_IN_A_ROW": 1,
    "TEST.MAX_SCORE_PIXELS": 1,
    "TEST.VALIDATION_IMAGES": 0,
}
_GREATEST = {
    "MODEL.BRIDGE.DROPOUT": 1,
    "MODEL.GROUNDED_SAM3.BOX_NMS": 1,
    "MODEL.GROUNDED_SAM3.BOX_THRESHOLD": 1,
    "MODEL.GROUNDED_SAM3.TEXT_THRESHOLD": 1,
    "MODEL.REFINEMENT.WEIGHT": 1,
    "MODEL.VLM.IMAGE_SIZE": 8192,
    "MODEL.VLM.LORA.DROPOUT": 1,
    "SEED": 2**63 - 1,  # random generators take no more
}
# The words that a key knows.
_CHOICES = {
    "LOSS.LM_CLIFF": ("cosine", "naive", "seg_only", "shifted_zero", "uniform"),
    "LOSS.NORMALIZER": ("global", "published"),
    "MODEL.DTYPE": ("bfloat16", "float32", "float64"),
    "MODEL.VLM.QUANTIZATION": ("none", "4bit", "8bit"),
    "SOLVER.AMP.PRECISION": ("bfloat16", "float16"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("full_model", "norm", "value"),
    "SOLVER.LR_SCHEDULER_NAME": (
        "CurriculumCosine",
        "WarmupCosineLR",
        "WarmupMultiStepLR",
        "WarmupStepWithFixedGammaLR",
    ),
    "SOLVER.OPTIMIZER": ("AdamW", "SGD"),
    "SOLVER.WARMUP_METHOD": ("constant", "linear"),
}


def check_values(cfg: CfgNode) -> None:
    """Refuse values that no part of the program can work with.

    Raises:
        ConfigError: names the key.
    """
    for key, least in _LEAST.items():
        if not (value := get_key(cfg, key, "")) >= least:  # NaN is refused too
            raise ConfigError(f"{key} is {value}; it must be at least {least}")
        if isinstance(value, float) and math.isinf(value):
            raise ConfigError(f"{key} is {value}; it must be a finite number")
    for key, greatest in _GREATEST.items():
        if not (value := get_key(cfg, key, "")) <= greatest:
            raise ConfigError(f"{key} is {value}; it must be at most {greatest}")
    for key, words in _CHOICES.items():
        if (value := get_key(cfg, key, "")) not in words:
            hint = did_you_mean(value, list(words))
            raise ConfigError(f"{key} is {value!r}; use one of {', '.join(words)}{hint}")
    vlm = cfg.MODEL.VLM
    if not vlm.BASE and (vlm.QUANTIZATION != "none" or vlm.DEVICE_MAP):
        raise ConfigError(
            "MODEL.VLM.QUANTIZATION and MODEL.VLM.DEVICE_MAP are for weights that are loaded: give "
            "MODEL.VLM.BASE too, or leave them out"
        )
    _check_count(cfg.TEST.COUNT)
    for row in cfg.TEST.EXPECTED_RESULTS:
        _check_expected(row)


def _check_count(count: str) -> None:
    if count not in COUNT_WORDS and not (count.isascii() and count.isdigit() and int(count) > 0):
        raise ConfigError(
            f"TEST.COUNT {count!r}: use {', '.join(COUNT_WORDS)} or a positive integer"
        )


def _check_expected(row: Any) -> None:
    finite = all(math.isfinite(v) for v in row if isinstance(v, (int, float)))
    kinds: tuple[Any, ...] = (str, str, (int, float), (int, float))
    if (
        not finite
        or len(row) != 4
        or not all(isinstance(*pair) for pair in zip(row, kinds, strict=True))
    ):
        raise ConfigError(
            f"TEST.EXPECTED_RESULTS holds {row!r}; each row is [task, metric, value, "
            'tolerance], such as ["texture", "mIoU", 0.83, 0.01]'
        )


def get_key(cfg: CfgNode, key: str, source: str) -> Any:
    """The value, or section, at a dotted key; `source` begins the error where there is none."""
    node: Any = cfg
    for name in key.split("."):
        if not isinstance(node, CfgNode) or name not in node:
            raise ConfigError(f"{source}unknown key {key}{did_you_mean(key, list(all_keys(cfg)))}")
        node = node[name]
    return node


def all_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys and sections."""
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, CfgNode):
            yield from all_keys(value, f"{prefix}{name}.")


def did_you_mean(word: str, candidates: list[str]) -> str:
    """ "; did you mean X?" where a candidate is near, else nothing."""
    close = difflib.get_close_matches(word, candidates, n=1)
    if not close:
        # A right name in a wrong or missing section.
        close = [c for c in candidates if c.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:1]
    return f"; did you mean {close[0]}?" if close else ""

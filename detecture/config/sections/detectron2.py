"""Detectron2's own keys that this project reads: their ranges, words, and what they mean here.

Their defaults are Detectron2's.
"""

from typing import Any

from detecture.config.sections.declaring import Declaration
from detecture.d2 import CfgNode
from detecture.errors import ConfigError, brief

DETECTRON2_KEYS = {
    "OUTPUT_DIR": Declaration("Folder of a run: checkpoints, metrics, records, its config.yaml."),
    "SEED": Declaration(
        "Of data, augmentation, dropout and new weights; below 0: another one in each run.",
        greatest=2**63 - 1,  # random generators take no more
    ),
    "VERSION": Declaration("Of the config's format."),
    "FLOAT32_PRECISION": Declaration(
        "Precision of float32 products on a GPU: empty, highest, high or medium."
    ),
    "CUDNN_BENCHMARK": Declaration("Let cuDNN search for the fastest convolution."),
    "DATALOADER.NUM_WORKERS": Declaration("Processes that load images, for each GPU.", least=0),
    "INPUT.CROP.ENABLED": Declaration("Train on random crops (sets of semantic segmentation)."),
    "INPUT.CROP.TYPE": Declaration(
        "What SIZE is in; `absolute`, pixels, is the one that is known here.",
        choices=("absolute", "absolute_range", "relative", "relative_range"),
    ),
    "INPUT.CROP.SIZE": Declaration("Height and width of a crop."),
    "INPUT.MAX_SIZE_TRAIN": Declaration(
        "Greatest longer side of a training image (sets of semantic segmentation).", least=1
    ),
    "INPUT.MIN_SIZE_TRAIN": Declaration(
        "Lengths that the shorter side of a training image is resized to (sets of semantic "
        "segmentation).",
        least=1,
    ),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": Declaration(
        "`choice`, one of them; `range`, any between the least and the greatest.",
        choices=("choice", "range"),
    ),
    "INPUT.RANDOM_FLIP": Declaration(
        "How training images are flipped, every second one (sets of semantic segmentation; those "
        "with descriptions never are, since a description may say left or right).",
        choices=("horizontal", "none", "vertical"),
    ),
    "DATASETS.TRAIN": Declaration("Registered data sets to train on."),
    "DATASETS.TEST": Declaration("Registered data sets to evaluate on."),
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": Declaration(
        "Label of pixels without a class, in training (semantic segmentation)."
    ),
    "MODEL.WEIGHTS": Declaration(
        "Checkpoint to start from: a path, or `detecture://NAME` for one that ships; empty: none."
    ),
    "SOLVER.AMP.ENABLED": Declaration("Train in mixed precision."),
    "SOLVER.BASE_LR": Declaration("Learning rate, before SOLVER.LR_FACTOR and schedule.", least=0),
    "SOLVER.BASE_LR_END": Declaration("Learning rate at the end of WarmupCosineLR.", least=0),
    "SOLVER.BIAS_LR_FACTOR": Declaration(
        "Factor on the learning rate of biases (SGD, of a model that does not name its parts).",
        least=0,
    ),
    "SOLVER.CHECKPOINT_PERIOD": Declaration("Iterations between two checkpoints.", least=1),
    "SOLVER.CLIP_GRADIENTS.ENABLED": Declaration("Clip gradients."),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": Declaration(
        "What is clipped: `value` and `norm` for each parameter, `full_model` the norm of all.",
        choices=("full_model", "norm", "value"),
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": Declaration("The greatest value or norm.", above=0),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": Declaration(
        "The order of the norm, above 0; infinity: the greatest value."
    ),
    "SOLVER.GAMMA": Declaration("Factor on the learning rate at each step of it.", least=0),
    "SOLVER.IMS_PER_BATCH": Declaration(
        "Images of one iteration, over all processes and micro-batches.", least=1
    ),
    "SOLVER.LR_SCHEDULER_NAME": Declaration(
        "The schedule.",
        choices=(
            "CurriculumCosine",
            "WarmupCosineLR",
            "WarmupMultiStepLR",
            "WarmupStepWithFixedGammaLR",
        ),
    ),
    "SOLVER.MAX_ITER": Declaration("Length in iterations.", least=1),
    "SOLVER.MOMENTUM": Declaration("Of SGD.", least=0, greatest=1),
    "SOLVER.NESTEROV": Declaration("Of SGD; MOMENTUM must be above 0."),
    "SOLVER.NUM_DECAYS": Declaration("Steps of WarmupStepWithFixedGammaLR.", least=0),
    "SOLVER.REFERENCE_WORLD_SIZE": Declaration(
        "Processes that batch and lengths are meant for, where Detectron2's own trainer scales "
        "them; 0: they stay.",
        least=0,
    ),
    "SOLVER.RESCALE_INTERVAL": Declaration(
        "Squeeze Detectron2's schedules behind the warm-up, instead of cutting their beginning off."
    ),
    "SOLVER.STEPS": Declaration(
        "Iterations at which WarmupMultiStepLR multiplies the learning rate by GAMMA, in "
        "ascending order."
    ),
    "SOLVER.WARMUP_FACTOR": Declaration(
        "Share of the peak that a warm-up begins at.", least=0, greatest=1
    ),
    "SOLVER.WARMUP_ITERS": Declaration("Warm-up in iterations.", least=0),
    "SOLVER.WARMUP_METHOD": Declaration(
        "Of Detectron2's schedules.", choices=("constant", "linear")
    ),
    "SOLVER.WEIGHT_DECAY": Declaration("Of the optimiser.", least=0),
    "SOLVER.WEIGHT_DECAY_BIAS": Declaration(
        "The same of biases, under SGD, of a model that does not name its parts; None: as all."
    ),
    "SOLVER.WEIGHT_DECAY_NORM": Declaration(
        "The same of normalisation layers, where a model tells them apart.", least=0
    ),
    "TEST.AUG.ENABLED": Declaration(
        "See each image several times and average (open-vocabulary segmentation)."
    ),
    "TEST.AUG.FLIP": Declaration("Also flipped."),
    "TEST.AUG.MIN_SIZES": Declaration(
        "Shorter sides of the canvases, with TEST.SLIDING.ENABLED.", least=1
    ),
    "TEST.AUG.MAX_SIZE": Declaration(
        "Greatest longer side of a canvas, with TEST.SLIDING.ENABLED, also where TEST.AUG.ENABLED "
        "is False.",
        least=1,
    ),
    "TEST.EVAL_PERIOD": Declaration(
        "Iterations between two evaluations in training; 0: at the end alone.", least=0
    ),
    "TEST.EXPECTED_RESULTS": Declaration(
        "Rows [task, metric, value, tolerance]; exit status 1 where one is missed."
    ),
}


_MOST_EXPECTED = 1e300  # so that it has a difference, as a float


def check_detectron2_keys(cfg: CfgNode) -> None:
    """Refuse values of Detectron2's keys that no part of the program can work with.

    Raises:
        ConfigError: names the key.
    """
    for name, declared in DETECTRON2_KEYS.items():
        node: Any = cfg
        for part in name.split("."):
            node = node.get(part) if isinstance(node, CfgNode) else None
        if node is not None:  # an older detectron2 may lack one
            declared.check(name, node)
    _check_solver(cfg.SOLVER)
    for row in cfg.TEST.EXPECTED_RESULTS:
        _check_expected(row)


def _check_solver(solver: CfgNode) -> None:
    """Refuse what no range of a number can say."""
    if not solver.CLIP_GRADIENTS.NORM_TYPE > 0:  # NaN is refused too
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.NORM_TYPE is {solver.CLIP_GRADIENTS.NORM_TYPE}; it must be "
            "above 0"
        )
    decay = solver.WEIGHT_DECAY_BIAS
    if decay is not None:
        if isinstance(decay, bool) or not isinstance(decay, (int, float)):
            raise ConfigError(
                f"SOLVER.WEIGHT_DECAY_BIAS is {brief(decay)}; use a number, or None for that of "
                "the others"
            )
        Declaration("", least=0).check("SOLVER.WEIGHT_DECAY_BIAS", decay)
    if solver.NESTEROV and solver.MOMENTUM == 0:
        raise ConfigError("SOLVER.NESTEROV needs SOLVER.MOMENTUM above 0")
    steps = list(solver.STEPS)
    if any(type(step) is not int or step < 1 for step in steps) or steps != sorted(set(steps)):
        raise ConfigError(
            f"SOLVER.STEPS is {brief(solver.STEPS)}; use iterations from 1 on, in ascending order"
        )


def _check_expected(row: Any) -> None:
    kinds: tuple[Any, ...] = (str, str, (int, float), (int, float))
    if (
        not isinstance(row, (list, tuple))
        or len(row) != 4
        or not all(isinstance(*pair) for pair in zip(row, kinds, strict=True))
        or any(isinstance(number, bool) for number in row[2:])
        or not all(abs(number) < _MOST_EXPECTED for number in row[2:])  # NaN is refused too
    ):
        raise ConfigError(
            f"TEST.EXPECTED_RESULTS holds {brief(row)}; each row is [task, metric, value, "
            'tolerance], such as ["texture", "mIoU", 0.83, 0.01]'
        )

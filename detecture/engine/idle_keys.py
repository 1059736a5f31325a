"""Keys that are set but that a training, with its data, optimiser and schedule, does not read."""

from torch import nn

from detecture.config.idle import changed_keys, is_of, switched_off, warn_of_idle_keys
from detecture.d2 import CfgNode, MetadataCatalog
from detecture.modeling.meta_arch.protocol import GroupsParameters

_FROM_BANK = ("MosaicMapper", "SwatchMapper", "OpenVocabularyMapper")
_MASKS = ("TextureMapper", "SyntheticMapper")
READERS_OF_IMAGES: dict[str, tuple[str, ...]] = {
    "INPUT.TRAIN_SIZE": (*_MASKS, *_FROM_BANK, "CombinationMapper"),
    "INPUT.MICRO_CROP": _MASKS,
    "INPUT.UNRULY": _FROM_BANK,
    "INPUT.TEXTURE_BANK": _FROM_BANK,
    "INPUT.CROP": ("SemanticMapper",),
    "INPUT.COLOR_AUG_SSD": ("SemanticMapper",),
    "INPUT.MIN_SIZE_TRAIN": ("SemanticMapper",),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("SemanticMapper",),
    "INPUT.MAX_SIZE_TRAIN": ("SemanticMapper",),
    "INPUT.RANDOM_FLIP": ("SemanticMapper",),
}
"""Keys of training images, and the mappers that read them."""

_KNOWN_MAPPERS = {name for names in READERS_OF_IMAGES.values() for name in names}
_CURRICULUM = "CurriculumCosine"
_STEPS, _GAMMA, _COSINE = "WarmupMultiStepLR", "WarmupStepWithFixedGammaLR", "WarmupCosineLR"
READERS_OF_RATES: dict[str, tuple[str, ...]] = {
    "SOLVER.MIN_LR": (_CURRICULUM,),
    "SOLVER.RESTART": (_CURRICULUM,),
    "SOLVER.CURRICULUM.BRIDGE_FACTOR": (_CURRICULUM,),
    "SOLVER.STEPS": (_STEPS,),
    "SOLVER.GAMMA": (_STEPS, _GAMMA),
    "SOLVER.NUM_DECAYS": (_GAMMA,),
    "SOLVER.BASE_LR_END": (_COSINE,),
    "SOLVER.WARMUP_METHOD": (_STEPS, _GAMMA, _COSINE),
    "SOLVER.RESCALE_INTERVAL": (_STEPS, _GAMMA, _COSINE),
}
"""Keys of schedules, and the SOLVER.LR_SCHEDULER_NAME that reads them."""

OF_SCRIPTS = (
    *("INPUT.FORMAT", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
    *("DATALOADER.ASPECT_RATIO_GROUPING", "DATALOADER.SAMPLER_TRAIN"),
    *("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "SOLVER.REFERENCE_WORLD_SIZE"),
)
"""Keys that a script of Detectron2 (its loader, trainer, predictor) reads, but ours do not."""


def warn_of_keys_of_scripts(cfg: CfgNode) -> None:
    """Log the keys that are set but that only Detectron2's scripts read."""
    idle = [key for key in changed_keys(cfg) if key in OF_SCRIPTS]
    warn_of_idle_keys(idle, "only Detectron2's own loader, trainer and predictor read them")


def warn_of_idle_training_keys(cfg: CfgNode, model: nn.Module) -> None:
    """Log the keys that are set but that this training does not read.

    Args:
        cfg: its config.
        model: the model to train.
    """
    changed = changed_keys(cfg)
    names = {name: _mapper_of(name) for name in cfg.DATASETS.TRAIN}
    if set(names.values()) <= _KNOWN_MAPPERS:
        idle = _unread(changed, READERS_OF_IMAGES, set(names.values()))
        warn_of_idle_keys(idle, f"the data sets {', '.join(names)} do not read them")
    schedule = cfg.SOLVER.LR_SCHEDULER_NAME
    idle = _unread(changed, READERS_OF_RATES, {schedule})
    warn_of_idle_keys(idle, f"SOLVER.LR_SCHEDULER_NAME {schedule} does not read them")
    warn_of_idle_keys(switched_off(cfg, ("SOLVER",)), "ENABLED beside them is False")
    kind = cfg.SOLVER.OPTIMIZER
    idle = [key for key in changed if key in _unread_by_optimizer(cfg, model)]
    warn_of_idle_keys(idle, f"the {kind} of {type(model).__name__} does not read them")


def _unread(changed: list[str], readers: dict[str, tuple[str, ...]], used: set[str]) -> list[str]:
    return [
        key
        for key in changed
        for name, able in readers.items()
        if is_of(key, [name]) and not used.intersection(able)
    ]


def _mapper_of(dataset: str) -> str:
    name: str = MetadataCatalog.get(dataset).get("mapper", "TextureMapper")
    return name


def _unread_by_optimizer(cfg: CfgNode, model: nn.Module) -> set[str]:
    factors = {name: f"SOLVER.LR_FACTOR.{name}" for name in cfg.SOLVER.LR_FACTOR}
    unread = set(factors.values())
    whole = cfg.SOLVER.OPTIMIZER == "SGD" and not isinstance(model, GroupsParameters)
    if cfg.SOLVER.OPTIMIZER != "SGD":
        unread |= {"SOLVER.MOMENTUM", "SOLVER.NESTEROV"}
    if not whole:
        unread |= {"SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY_BIAS"}
    groups = model.parameter_groups() if isinstance(model, GroupsParameters) else []
    unread -= {factors[group["name"].upper()] for group in groups}
    if not whole and all(group.get("decays", True) for group in groups):
        unread.add("SOLVER.WEIGHT_DECAY_NORM")
    return unread

"""Config nodes, the default config, and classes that can be built from a config."""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from fvcore.common.config import BASE_KEY
from fvcore.common.config import CfgNode as FvcoreCfgNode

from detecture.device import available_device_type
from detecture.errors import ConfigError, brief
from detecture.untrusted import MOST_YAML_BYTES, named_path, parse_yaml

from .unread_keys import leaves, unread_defaults, warn_of_unread_keys

R = TypeVar("R")

_MOST_FILES = 100  # that one config may lead to


class CfgNode(FvcoreCfgNode):
    """A tree of config keys, read and written as attributes.

    fvcore's class (yaml files with `_BASE_`, overrides as a list, freezing), but it never runs
    code out of a yaml file.
    """

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        """Read a yaml file and the files that its `_BASE_` names; its own values win.

        Args:
            filename: path of the file; `_BASE_` resolves against the file's own folder.
            allow_unsafe: accepted for Detectron2's signature, without effect. A yaml tag such as
                `!!python/object/apply` runs any program when it is loaded unsafely, config files
                travel between people, and nothing in this project needs such a tag.

        Raises:
            ConfigError: the file is missing, is not a yaml mapping of plain values, holds a tag
                that would run code, or has a section where its base has a value.
        """
        return cls._load(filename, [])

    @classmethod
    def _load(cls, filename: str, opened: list[str], by: str = "") -> dict[str, Any]:
        opened.append(filename)
        if len(opened) > _MOST_FILES:
            raise ConfigError(
                f"config file {opened[0]} needs more than {_MOST_FILES} files, or its {BASE_KEY} "
                "files include each other"
            )
        content = cls._read(filename, f"config file {by}")
        bases = content.pop(BASE_KEY, [])
        merged: dict[str, Any] = {}
        for base in bases if isinstance(bases, list) else [bases]:
            if not isinstance(base, str):
                raise ConfigError(f"config file {filename}: {BASE_KEY} is {brief(base)}, no file")
            base = os.path.expanduser(base)  # noqa: PTH111 (URLs are no paths, here and below)
            if "://" not in base:  # a path that is absolute stays what it is
                base = os.path.join(os.path.dirname(filename), base)  # noqa: PTH118, PTH120
            _merge(cls._load(base, opened, f"{filename}: {BASE_KEY} "), merged, filename)
        _merge(content, merged, filename)
        return merged

    @classmethod
    def _read(cls, filename: str, where: str) -> dict[str, Any]:
        source = f"{where}{filename[:500]}"
        if "://" not in filename:
            named_path(filename, where.strip(), ConfigError)
        try:
            with cls._open_cfg(filename) as file:
                text = file.read(MOST_YAML_BYTES + 1)
        except FileNotFoundError as error:
            raise ConfigError(f"{source} does not exist") from error
        except (OSError, ValueError) as error:  # ValueError: no UTF-8, or NUL in a path
            raise ConfigError(f"{source} cannot be read ({error!s:.200})") from error
        if len(text) > MOST_YAML_BYTES:
            raise ConfigError(f"{source} is larger than {MOST_YAML_BYTES:,} bytes")
        # Detectron2's own keys take infinity, such as the order of a norm.
        content = parse_yaml(text, source, ConfigError, finite=False)
        if content is None:  # an empty file, or nothing but comments
            return {}
        if not isinstance(content, dict):
            raise ConfigError(f"{source} must hold KEY: value pairs")
        return content

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Merge a yaml file into this config, in place.

        Args:
            cfg_filename: path of the file.
            allow_unsafe: without effect; see `load_yaml_with_base`.

        Raises:
            ConfigError: the file cannot be read safely, or its VERSION differs from ours.
            KeyError: the file has a key that this config lacks.
            ValueError: a value has another type than the one it replaces.
        """
        loaded = type(self)(self.load_yaml_with_base(cfg_filename))
        if "VERSION" in self and loaded.get("VERSION", self.VERSION) != self.VERSION:
            raise ConfigError(
                f"config file {cfg_filename} has VERSION {loaded.VERSION}, but only "
                f"{self.VERSION} can be merged; write it with today's keys"
            )
        self.merge_from_other_cfg(loaded)
        self._warn_of_unread([key for key, _ in leaves(loaded)], f"config file {cfg_filename}")

    def merge_from_list(self, cfg_list: list[str]) -> None:
        """Merge alternating keys and values into this config, in place.

        Raises:
            AssertionError: an odd number of items, or a key that this config lacks.
            ValueError: a value has another type than the one it replaces.
        """
        super().merge_from_list(cfg_list)
        self._warn_of_unread(cfg_list[::2], "the command line")

    def _warn_of_unread(self, keys: Sequence[str], source: str) -> None:
        values = {key: functools.reduce(dict.__getitem__, key.split("."), self) for key in keys}
        warn_of_unread_keys(values, source)


def _merge(values: dict[str, Any], into: dict[str, Any], filename: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and key in into:
            if not isinstance(into[key], dict):
                raise ConfigError(
                    f"config file {filename}: {brief(key)} is a section, and none in its {BASE_KEY}"
                )
            _merge(value, into[key], filename)
        else:
            into[key] = value


def get_cfg() -> CfgNode:
    """A fresh copy of the default config.

    The keys are Detectron2's, with its values; nothing here reads most of them (`unread_keys.py`).
    One value differs: `MODEL.DEVICE` is the best device of this machine.
    """
    cfg = _DEFAULTS.clone()
    # Queried here, not at import: looking for accelerators touches their driver.
    cfg.MODEL.DEVICE = available_device_type()
    return cfg


def _defaults() -> CfgNode:
    cfg = CfgNode()
    # Version of the set of keys.
    cfg.VERSION = 2

    cfg.MODEL = CfgNode()
    # Device that the model runs on, by its torch name; get_cfg fills it in.
    cfg.MODEL.DEVICE = "cpu"
    # Name of the model in META_ARCH_REGISTRY.
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    # Checkpoint to start from: a path or a URL. Empty: random weights.
    cfg.MODEL.WEIGHTS = ""

    cfg.MODEL.SEM_SEG_HEAD = CfgNode()
    # Name of the head in SEM_SEG_HEADS_REGISTRY.
    cfg.MODEL.SEM_SEG_HEAD.NAME = "SemSegFPNHead"
    # Label of pixels without a class, in training.
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 255

    cfg.INPUT = CfgNode()
    # Shorter side of a training image in pixels: a choice of sizes, or a range (next key).
    cfg.INPUT.MIN_SIZE_TRAIN = (800,)
    # "choice": one of MIN_SIZE_TRAIN; "range": between its two values.
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
    # Longer side of a training image in pixels, at most.
    cfg.INPUT.MAX_SIZE_TRAIN = 1333
    # Shorter side of a test image in pixels; 0: test images keep their size.
    cfg.INPUT.MIN_SIZE_TEST = 800
    # Longer side of a test image in pixels, at most.
    cfg.INPUT.MAX_SIZE_TEST = 1333
    # Training images are flipped at random: "horizontal", "vertical" or "none".
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    cfg.INPUT.CROP = CfgNode()
    # Train on random crops; of TYPE "absolute" SIZE is in pixels, of the others a share.
    cfg.INPUT.CROP.ENABLED = False
    cfg.INPUT.CROP.TYPE = "relative_range"
    cfg.INPUT.CROP.SIZE = [0.9, 0.9]
    # Channel order that the model is given: "RGB", "BGR" or another mode of Pillow.
    cfg.INPUT.FORMAT = "BGR"

    cfg.DATASETS = CfgNode()
    # Names in DatasetCatalog to train on (joined) and to test on (one after the other).
    cfg.DATASETS.TRAIN = ()
    cfg.DATASETS.TEST = ()

    cfg.DATALOADER = CfgNode()
    # Worker processes that load data, for each training process.
    cfg.DATALOADER.NUM_WORKERS = 4
    # Batch images that are wider than high apart from the others.
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = True
    # Training sampler; lite has TrainingSampler only.
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    # Leave out training records whose "annotations" are empty or crowds only.
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True

    cfg.SOLVER = CfgNode()
    # Learning rate schedule: WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR.
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    # Number of training iterations.
    cfg.SOLVER.MAX_ITER = 40000
    # Learning rate after the warm-up.
    cfg.SOLVER.BASE_LR = 0.001
    # Learning rate at the end, for WarmupCosineLR.
    cfg.SOLVER.BASE_LR_END = 0.0
    # Momentum of SGD, and whether it is Nesterov's.
    cfg.SOLVER.MOMENTUM = 0.9
    cfg.SOLVER.NESTEROV = False
    # Weight decay; of normalisation layers; of biases (None: WEIGHT_DECAY).
    cfg.SOLVER.WEIGHT_DECAY = 0.0001
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    cfg.SOLVER.WEIGHT_DECAY_BIAS = None
    # The learning rate is multiplied by GAMMA at each of these iterations.
    cfg.SOLVER.GAMMA = 0.1
    cfg.SOLVER.STEPS = (30000,)
    # Number of equal decays, for WarmupStepWithFixedGammaLR.
    cfg.SOLVER.NUM_DECAYS = 3
    # Warm-up: share of the learning rate at the start, length in iterations, and "linear" or
    # "constant".
    cfg.SOLVER.WARMUP_FACTOR = 0.001
    cfg.SOLVER.WARMUP_ITERS = 1000
    cfg.SOLVER.WARMUP_METHOD = "linear"
    # Whether the schedule is squeezed into what the warm-up leaves, rather than running from
    # iteration 0 under the warm-up.
    cfg.SOLVER.RESCALE_INTERVAL = False
    # A checkpoint is written every this many iterations.
    cfg.SOLVER.CHECKPOINT_PERIOD = 5000
    # Images per iteration, over all processes.
    cfg.SOLVER.IMS_PER_BATCH = 16
    # Number of processes that these values are meant for; DefaultTrainer scales them to the true
    # number. 0: values are used as they are.
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 0
    # Factor on the learning rate of biases.
    cfg.SOLVER.BIAS_LR_FACTOR = 1.0
    cfg.SOLVER.CLIP_GRADIENTS = CfgNode()
    # Whether gradients are clipped.
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    # "value": each element of a gradient; "norm": the norm of the gradient of each parameter.
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "value"
    # Greatest absolute value or norm.
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    # p of the p-norm; float("inf") is written .inf.
    cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE = 2.0
    cfg.SOLVER.AMP = CfgNode()
    # Train in mixed precision.
    cfg.SOLVER.AMP.ENABLED = False

    cfg.TEST = CfgNode()
    # Results that the final evaluation must reach: [[task, metric, value, tolerance], ...].
    cfg.TEST.EXPECTED_RESULTS = []
    # Evaluate every this many iterations; 0: only at the end.
    cfg.TEST.EVAL_PERIOD = 0
    cfg.TEST.AUG = CfgNode()
    # Test-time augmentation: average over sizes (shorter and longer side, in pixels) and flips.
    cfg.TEST.AUG.ENABLED = False
    cfg.TEST.AUG.MIN_SIZES = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200)
    cfg.TEST.AUG.MAX_SIZE = 4000
    cfg.TEST.AUG.FLIP = True

    # Folder that everything is written to.
    cfg.OUTPUT_DIR = "./output"
    # Seed of all random generators; negative: a new one for every run.
    cfg.SEED = -1
    # Whether cuDNN searches for the fastest convolution; worth it where shapes repeat.
    cfg.CUDNN_BENCHMARK = False
    # Precision of float32 on GPUs: "", "highest", "high" or "medium" (see
    # torch.set_float32_matmul_precision).
    cfg.FLOAT32_PRECISION = ""
    _add(cfg, unread_defaults())
    return cfg


def _add(section: CfgNode, defaults: dict[str, Any]) -> None:
    for name, value in defaults.items():
        if isinstance(value, dict):
            _add(section.setdefault(name, CfgNode()), value)
        else:
            section[name] = value


_DEFAULTS = _defaults()


@overload
def configurable(init_func: Callable[..., None]) -> Callable[..., None]: ...
@overload
def configurable(
    init_func: None = None, *, from_config: Callable[..., dict[str, Any]]
) -> Callable[[Callable[..., R]], Callable[..., R]]: ...
@overload
def configurable() -> Callable[[Callable[..., None]], Callable[..., None]]: ...
def configurable(
    init_func: Callable[..., Any] | None = None,
    *,
    from_config: Callable[..., dict[str, Any]] | None = None,
) -> Callable[..., Any]:
    """Decorate a function or an `__init__` so that it can also be called with a config.

    On `__init__` the class needs a classmethod `from_config(cls, cfg, ...)`; on a function pass
    `from_config=`, a function whose first argument is `cfg`. Either returns a dict of keyword
    arguments. A call whose first argument, or whose keyword `cfg`, is a `CfgNode` goes through it;
    keywords that it does not take itself override what it returned. Any other call goes straight
    to the decorated function.

    Example:
        >>> class Head:
        ...     @configurable
        ...     def __init__(self, *, classes, width=8): ...
        ...     @classmethod
        ...     def from_config(cls, cfg):
        ...         return {"classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}
        >>> Head(classes=3), Head(cfg), Head(cfg, width=16)  # doctest: +SKIP

    Raises:
        TypeError: used on something other than an `__init__`, or with no usable `from_config`.
    """
    if init_func is None:
        if from_config is None:  # written as @configurable()
            return configurable
        return _configurable_function(from_config)
    if not (inspect.isfunction(init_func) and init_func.__name__ == "__init__"):
        raise TypeError(
            "@configurable without from_config= goes on __init__ only; on a function write "
            "@configurable(from_config=...)"
        )
    if from_config is not None:
        raise TypeError("@configurable on __init__ takes from_config from the class, not from here")
    return _configurable_init(init_func)


def _configurable_init(init_func: Callable[..., Any]) -> Callable[..., None]:
    @functools.wraps(init_func)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        # A classmethod is bound when read off the class; a plain method is not.
        method = getattr(type(self), "from_config", None)
        if not inspect.ismethod(method):
            raise TypeError(
                f"{type(self).__qualname__} has @configurable on __init__, so it needs a "
                "classmethod from_config(cls, cfg)"
            )
        if _called_with_cfg(args, kwargs):
            init_func(self, **_explicit_arguments(method, args, kwargs))
        else:
            init_func(self, *args, **kwargs)

    return wrapped


def _configurable_function(
    from_config: Callable[..., dict[str, Any]],
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    if not inspect.isfunction(from_config):
        raise TypeError(f"from_config must be a function, not {from_config!r}")

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> R:
            if _called_with_cfg(args, kwargs):
                return function(**_explicit_arguments(from_config, args, kwargs))
            return function(*args, **kwargs)

        wrapped.from_config = from_config  # type: ignore[attr-defined]
        return wrapped

    return decorate


def _called_with_cfg(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return (bool(args) and isinstance(args[0], FvcoreCfgNode)) or isinstance(
        kwargs.get("cfg"), FvcoreCfgNode
    )


def _explicit_arguments(
    from_config: Callable[..., dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Arguments for the decorated function: what from_config returns, then the overrides."""
    name = getattr(from_config, "__qualname__", repr(from_config))
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"{name} must take 'cfg' as its first argument")
    takes_any = any(
        parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters.values()
    )
    own = {key: value for key, value in kwargs.items() if takes_any or key in parameters}
    explicit = from_config(*args, **own)
    if not isinstance(explicit, dict):
        raise TypeError(f"{name} must return a dict of arguments, not {type(explicit).__name__}")
    return {**explicit, **{key: value for key, value in kwargs.items() if key not in own}}

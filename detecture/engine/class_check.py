"""Checks of a data set's classes, made before its first image is read."""

from torch import nn

from detecture.config.sections.semantic import SemanticTestSettings
from detecture.d2 import CfgNode
from detecture.data.datasets.semantic import is_semantic
from detecture.data.semantic_mapper import SemanticMapper
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import SemanticModel


def check_training_classes(cfg: CfgNode, model: nn.Module) -> None:
    """Check that a model can train on the classes of its data sets, and be asked for those of TEST.

    Raises:
        ConfigError: a name is too long for the model, there are too many names, or their number is
            not that of the data set; names the set.
    """
    if not isinstance(model, SemanticModel):
        return
    for name in cfg.DATASETS.TRAIN:
        _check(cfg, model, name, is_train=True)
    was_training = model.training
    model.eval()
    try:
        for name in cfg.DATASETS.TEST:
            check_test_classes(cfg, model, name)
    finally:
        model.train(was_training)


def check_test_classes(cfg: CfgNode, model: nn.Module, dataset_name: str) -> None:
    """Check that a model in evaluation mode can be asked for the classes of a data set.

    Raises:
        ConfigError: as `check_training_classes`.
    """
    # Where each image has its own classes, the model is never asked for all of them at once.
    if SemanticTestSettings.from_config(cfg).vocabulary == "full":
        _check(cfg, model, dataset_name, is_train=False)


def _check(cfg: CfgNode, model: nn.Module, dataset_name: str, is_train: bool) -> None:
    if not isinstance(model, SemanticModel) or not is_semantic(dataset_name):
        return
    vocabulary = SemanticMapper(cfg, is_train=is_train, dataset_name=dataset_name).vocabulary
    try:
        # The first name of each class is the one that is trained.
        model.read_classes(vocabulary.first_names() if is_train else vocabulary)
    except ConfigError as error:
        raise ConfigError(f"classes of the data set {dataset_name}: {error}") from error

"""Detectron2's config with the keys of this project, ready for a plain Detectron2 script."""

from detecture.config.keys import add_detecture_config as add_keys
from detecture.d2 import CfgNode
from detecture.device import available_device_type


def add_detecture_config(cfg: CfgNode) -> None:
    """Add every key of this project, with its default, to a Detectron2 config (in place).

    Detectron2's own `build_model` and `DefaultPredictor` then build our models and call them with
    the images that they expect.
    """
    add_keys(cfg)
    # The best device of this machine by its torch name; our own loading also takes "auto".
    cfg.MODEL.DEVICE = available_device_type()
    # All models take RGB images at their own size, and resize them by themselves.
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TEST = 0

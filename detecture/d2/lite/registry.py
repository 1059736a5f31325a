"""Registries of models and heads, and the function that builds a model from a config."""

import torch
from fvcore.common.config import CfgNode
from fvcore.common.registry import Registry
from torch import nn

from detecture.errors import ConfigError


class UnknownModelError(ConfigError, KeyError):
    """A config names a model that is not registered. A KeyError too, as in Detectron2."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


META_ARCH_REGISTRY = Registry("META_ARCH")
META_ARCH_REGISTRY.__doc__ = """
Registry of meta-architectures, that is, of whole models.

The registered object is called as `obj(cfg)` and returns a `torch.nn.Module`.
"""

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = """
Registry of heads that make a semantic segmentation out of feature maps.

The registered object is called as `obj(cfg, input_shape)`, where `input_shape` maps the name of
each feature map to its shape, and returns a `torch.nn.Module`.
"""


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model that `cfg.MODEL.META_ARCHITECTURE` names, on `cfg.MODEL.DEVICE`.

    Does not load `cfg.MODEL.WEIGHTS`.

    Raises:
        UnknownModelError: no model of that name is registered; the message lists those that are.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if name not in META_ARCH_REGISTRY:
        known = ", ".join(sorted(key for key, _ in META_ARCH_REGISTRY)) or "none"
        raise UnknownModelError(
            f"no model named {name!r} (MODEL.META_ARCHITECTURE). Registered: {known}. "
            "Import the module that registers it before building"
        )
    model: nn.Module = META_ARCH_REGISTRY.get(name)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))

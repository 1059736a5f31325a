"""Build the model of a config."""

from torch import nn

from detecture.config.readers import warn_of_keys_without_effect
from detecture.config.sections.declaring import did_you_mean
from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.d2 import build_model as d2_build_model
from detecture.device import resolve_device
from detecture.errors import ConfigError, brief


def build_model(cfg: CfgNode) -> nn.Module:
    """The registered meta-arch MODEL.META_ARCHITECTURE, on MODEL.DEVICE, which may be "auto".

    A warning names keys that are set but have no effect in this model.

    Raises:
        ConfigError: no method of this name is registered, or there is no such device here.
    """
    try:
        META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    except KeyError as error:  # what Detectron2's registry raises
        known = sorted(name for name, _ in META_ARCH_REGISTRY)
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {brief(cfg.MODEL.META_ARCHITECTURE)}: no method of this name "
            f"is registered{did_you_mean(cfg.MODEL.META_ARCHITECTURE, known)}; known are "
            f"{', '.join(known)}. Import the module of your own before"
        ) from error
    warn_of_keys_without_effect(cfg)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = str(resolve_device(cfg.MODEL.DEVICE))  # torch does not know "auto"
    return d2_build_model(cfg)

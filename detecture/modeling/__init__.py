"""Models: registered meta-archs and the parts they are built from."""

from detecture.checkpoint import shipped  # noqa: F401 - teaches Detectron2 detecture:// addresses
from detecture.modeling import meta_arch
from detecture.modeling.build import build_model

__all__ = ["build_model", "meta_arch"]

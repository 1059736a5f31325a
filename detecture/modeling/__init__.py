"""Models: registered meta-archs and the parts they are built from."""

from detecture.modeling import meta_arch

__all__ = ["meta_arch"]

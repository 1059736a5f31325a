"""Config keys of the describer: the VLM (MODEL.VLM) shown one region at a time."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_describer_keys(cfg: CfgNode) -> None:
    """Add the keys of the describer, with their defaults (in place)."""
    cfg.MODEL.DESCRIBER = CN()
    # Regions drawn from each training picture, at most.
    cfg.MODEL.DESCRIBER.REGIONS_PER_PICTURE = 3
    # Share of the training masks that are disturbed (shifted, grown, shrunk, frayed), because masks
    # that a model finds are not exact.
    cfg.MODEL.DESCRIBER.MASK_NOISE = 0.6

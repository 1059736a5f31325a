"""Config keys of the describer: the VLM (MODEL.VLM) shown one region at a time."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_describer_keys(cfg: CfgNode) -> None:
    """Add the keys of the describer, with their defaults (in place)."""
    cfg.MODEL.DESCRIBER = CN()
    # Regions drawn from each training image, at most.
    cfg.MODEL.DESCRIBER.REGIONS_PER_IMAGE = 3
    # Share of the training masks that are disturbed (shifted, grown, shrunk, frayed), because masks
    # that a model finds are not exact.
    cfg.MODEL.DESCRIBER.MASK_NOISE = 0.6
    # Also tell the VLM what a convolutional net makes of each region's texture: probabilities of
    # families and attributes, as a vector that is added to all embeddings of its text.
    cfg.MODEL.DESCRIBER.TEXTURE = False
    # Channels of that net's stages at strides 2, 4, 8 and 16; multiples of 8.
    cfg.MODEL.DESCRIBER.TEXTURE_WIDTHS = (24, 48, 96, 160)
    # Checkpoint of TextureClassifier, or of TextureGrouping, whose net it starts from when it is
    # built for training; empty: random.
    cfg.MODEL.DESCRIBER.TEXTURE_WEIGHTS = ""

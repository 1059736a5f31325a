"""Config keys of TextureGrouping: its net, its training images, and how it finds regions."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_grouping_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch TextureGrouping, with their defaults (in place)."""
    # ---- TextureGrouping (MODEL.META_ARCHITECTURE): the net --------------------------------------
    cfg.MODEL.GROUPING = CN()
    # Channels of the stages at strides 2, 4, 8 and 16.
    cfg.MODEL.GROUPING.WIDTHS = (24, 48, 96, 160)
    # Channels of the embedding.
    cfg.MODEL.GROUPING.CHANNELS = 48
    # Transformer blocks at stride 16.
    cfg.MODEL.GROUPING.ATTENTION_BLOCKS = 2
    # Nets of this form, each trained by itself; tools/package_model.py joins them. The scales below
    # are dealt out to them.
    cfg.MODEL.GROUPING.NETS = 1

    # ---- how it finds regions, and whether it describes them --------------------------------
    # Longer side in pixels that an image is resized to before anything else.
    cfg.MODEL.GROUPING.WORKING_SIZE = 256
    # Embeddings are averaged over views of these scales,
    cfg.MODEL.GROUPING.SCALES = (1.0, 1.25)
    # .. each also mirrored.
    cfg.MODEL.GROUPING.FLIP = True
    # Leave the embeddings out (False), for comparison.
    cfg.MODEL.GROUPING.USE_NET = True
    # Weights of the classical features beside the embedding, one mixture each; (0.0,) leaves them
    # out.
    cfg.MODEL.GROUPING.CLASSICAL_WEIGHTS = (0.1, 0.25, 0.5, 1.0)
    # Weight of the position in the image.
    cfg.MODEL.GROUPING.POSITION_WEIGHT = 0.1
    # Numbers of principal components, one mixture each.
    cfg.MODEL.GROUPING.COMPONENTS = (12, 20)
    # Starts of every mixture, of which the likeliest counts.
    cfg.MODEL.GROUPING.STARTS = 6
    # Radius in pixels of the guided filter over the scores; 0: none.
    cfg.MODEL.GROUPING.FILTER_RADIUS = 4
    # Variance of the image, 0..1, below which that filter takes a window for flat.
    cfg.MODEL.GROUPING.FILTER_EPSILON = 0.001
    # Describe every region with the VLM (MODEL.VLM, MODEL.DESCRIBER).
    cfg.MODEL.GROUPING.DESCRIBE = True

    # ---- its loss ----------------------------------------------------------------------------
    cfg.LOSS.GROUPING = CN()
    # Pixels that are drawn of each image, evenly over its regions.
    cfg.LOSS.GROUPING.PIXELS = 160
    # What cosines are divided by.
    cfg.LOSS.GROUPING.TEMPERATURE = 0.1
    # Weight of the contrastive term beside the cross-entropy to the regions' means.
    cfg.LOSS.GROUPING.CONTRAST_WEIGHT = 0.5

    # ---- images composed from a bank of textures (data set synthetic_mosaics) ---------
    cfg.INPUT.TEXTURE_BANK = CN()
    # Folder of the bank, which is drawn at first use; empty: texture_bank in OUTPUT_DIR.
    cfg.INPUT.TEXTURE_BANK.FOLDER = ""
    # Number of textures; 0.2 MB each.
    cfg.INPUT.TEXTURE_BANK.COUNT = 6000
    # Number of its first texture: banks that do not overlap share none.
    cfg.INPUT.TEXTURE_BANK.FIRST = 0
    # Share of the regions of mosaics that vary coarsely, as most in photographs do, 0 to 1.
    cfg.INPUT.UNRULY = 0.0

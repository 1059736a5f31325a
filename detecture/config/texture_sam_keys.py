"""Config keys of TextureSam: SAM 2, its automatic masks, and how they become regions."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_texture_sam_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch TextureSam, with their defaults (in place)."""
    # ---- TextureSam (MODEL.META_ARCHITECTURE): the model --------------------------------------
    cfg.MODEL.TEXTURE_SAM = CN()
    # Hub id or folder in transformers' layout (facebook/sam2.1-hiera-small), or a .pt file in
    # Meta's format (TextureSAM's sam2.1_hiera_small_0.3.pt); empty: random weights, by CONFIG.
    cfg.MODEL.TEXTURE_SAM.BASE = ""
    # Structure for random weights and for a file in Meta's format: a shipped one
    # (sam2.1_hiera_small, tiny), or a json file.
    cfg.MODEL.TEXTURE_SAM.CONFIG = "sam2.1_hiera_small"

    # ---- its automatic masks; as published with TextureSAM ------------------------------------
    # Points of the grid along each side of the image; each is a prompt.
    cfg.MODEL.TEXTURE_SAM.POINTS_PER_SIDE = 64
    # Prompts at a time: bounds the memory, which is 4 bytes for each and each pixel of the image.
    cfg.MODEL.TEXTURE_SAM.POINTS_PER_BATCH = 64
    # Masks must have a higher predicted IoU than this; 0: all are kept.
    cfg.MODEL.TEXTURE_SAM.PRED_IOU_THRESH = 0.8
    # .. and a higher stability: IoU of the masks at the two thresholds of the logits
    cfg.MODEL.TEXTURE_SAM.STABILITY_SCORE_THRESH = 0.2
    # .. that lie this far above and below 0.
    cfg.MODEL.TEXTURE_SAM.STABILITY_SCORE_OFFSET = 1.0
    # Of two masks whose boxes have a greater IoU than this, the better stays.
    cfg.MODEL.TEXTURE_SAM.BOX_NMS_THRESH = 0.7
    # Layers of overlapping crops that it runs on besides, of 4, 16, .. crops; 0: none.
    cfg.MODEL.TEXTURE_SAM.CROP_N_LAYERS = 0
    # Three masks for each point instead of one.
    cfg.MODEL.TEXTURE_SAM.MULTIMASK_OUTPUT = False
    # Take the best of three masks where the one is unstable (transformers' own default).
    cfg.MODEL.TEXTURE_SAM.DYNAMIC_MULTIMASK = False

    # ---- from masks to regions ----------------------------------------------------------------
    # A mask whose IoU with a better one is greater than this is left out; 1: none is.
    cfg.MODEL.TEXTURE_SAM.DUPLICATE_IOU = 0.9
    # Where masks overlap the smaller gets the pixel; False: the one with the higher predicted IoU.
    cfg.MODEL.TEXTURE_SAM.SMALLEST_ON_TOP = True

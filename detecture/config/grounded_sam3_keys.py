"""Config keys of GroundedSam3: its detector, and how boxes become masks."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_grounded_sam3_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch GroundedSam3, with their defaults (in place)."""
    # ---- GroundedSam3 (MODEL.META_ARCHITECTURE): Grounding DINO, which finds boxes ----------
    cfg.MODEL.GROUNDED_SAM3 = CN()
    # Hub id or local folder of its weights; empty: random weights, by DETECTOR_CONFIG.
    cfg.MODEL.GROUNDED_SAM3.DETECTOR_BASE = ""
    # Structure of a detector with random weights: the shipped one (tiny), or a json file.
    cfg.MODEL.GROUNDED_SAM3.DETECTOR_CONFIG = "tiny"
    # What it looks for: a noun phrase, or several divided by dots.
    cfg.MODEL.GROUNDED_SAM3.PHRASE = "texture regions"
    # Boxes count whose score is above this,
    cfg.MODEL.GROUNDED_SAM3.BOX_THRESHOLD = 0.2
    # .. and of the phrase those words name a box whose own score is above this.
    cfg.MODEL.GROUNDED_SAM3.TEXT_THRESHOLD = 0.2
    # A box whose IoU with a better one is greater than this is dropped; 1: none is (as published).
    cfg.MODEL.GROUNDED_SAM3.BOX_NMS = 1.0

    # ---- SAM 3, which makes masks of them ---------------------------------------------------
    # exemplar (as published: each box is an example of a concept; by MODEL.SEGMENTER) | inverse
    # (that of the best box, and its complement; for two regions) | box (what lies inside the box,
    # by SAM 3's interactive part).
    cfg.MODEL.GROUNDED_SAM3.VARIANT = "exemplar"
    # Variant box: hub id or local folder of SAM 3 with its tracker; empty: random weights,
    cfg.MODEL.GROUNDED_SAM3.BOX_BASE = ""
    # .. by this structure: the shipped one (tiny), or a json file.
    cfg.MODEL.GROUNDED_SAM3.BOX_CONFIG = "tiny"
    # Its masks: hard (a pixel of two masks goes to the smaller one) | soft (to the surer one).
    cfg.MODEL.GROUNDED_SAM3.BOX_MASKS = "hard"

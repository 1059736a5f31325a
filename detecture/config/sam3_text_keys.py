"""Config keys of Sam3Text: SAM 3 alone, prompted with fixed phrases."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_sam3_text_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch Sam3Text, with their defaults (in place)."""
    # ---- Sam3Text (MODEL.META_ARCHITECTURE); the segmenter is MODEL.SEGMENTER, frozen -----------
    cfg.MODEL.SAM3_TEXT = CN()
    # How channels come about: semantic (one phrase each) | inverse (the first phrase, and what is
    # not it; K must be 2) | proposals (single objects under the first phrase).
    cfg.MODEL.SAM3_TEXT.VARIANT = "semantic"
    # What SAM 3 is asked for. Of semantic, the first K; the last one again where there are fewer.
    cfg.MODEL.SAM3_TEXT.PHRASES = ("foreground texture", "background texture")
    # Proposals must have a greater score than this, 0..1; at most K of them, or MODEL.MAX_REGIONS
    # where K is unknown (published: 0 with K known; with 0.5 their number tells nothing of K).
    cfg.MODEL.SAM3_TEXT.SCORE_THRESHOLD = 0.0
    # A proposal whose mask has a greater IoU than this with a better one is left out, 0..1; 1: none
    # is, as published.
    cfg.MODEL.SAM3_TEXT.DUPLICATE_IOU = 1.0
    # Where proposals overlap, the smaller wins; otherwise, as published, the surer at each pixel.
    cfg.MODEL.SAM3_TEXT.SMALLEST_ON_TOP = False

"""Config keys of Sa2VA: which revision runs, what it is asked, and what becomes of its masks."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_sa2va_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch Sa2VA, with their defaults (in place)."""
    cfg.MODEL.SA2VA = CN()
    # Hub id or local folder of the weights and of the code that comes with them.
    cfg.MODEL.SA2VA.BASE = "ByteDance/Sa2VA-4B"
    # Commit of that hub id, in 7 to 40 hexadecimal digits. Branches and tags are refused: they
    # move, and with them the code that is run.
    cfg.MODEL.SA2VA.REVISION = "b5ffed22"
    # Sa2VA is no class of transformers: True runs the Python code that comes with BASE.
    cfg.MODEL.SA2VA.TRUST_REMOTE_CODE = False
    # Wording of the questions: sa2va_caption | sa2va_parts | a yaml file
    # (detecture.data.questions).
    cfg.MODEL.SA2VA.PROMPTS = "sa2va_caption"
    # What the one region is where one region is known, such as "water surface"; empty: not said.
    cfg.MODEL.SA2VA.SUBJECT = ""
    # Where two regions are known and one mask comes back, the rest of the image is the second.
    cfg.MODEL.SA2VA.COMPLEMENT = True
    # Where masks overlap, the smaller one keeps the pixels; False: the larger one, as published.
    cfg.MODEL.SA2VA.SMALLEST_ON_TOP = True

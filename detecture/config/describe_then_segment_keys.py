"""Config keys of DescribeThenSegment: what its VLM is asked."""

from detecture.d2 import CfgNode

CN = CfgNode


def add_describe_then_segment_keys(cfg: CfgNode) -> None:
    """Add the keys of the meta-arch DescribeThenSegment, with their defaults (in place).

    Its VLM and its segmenter are those of MODEL.VLM and MODEL.SEGMENTER.
    """
    cfg.MODEL.DESCRIBE_THEN_SEGMENT = CN()
    # Wording of the questions: describe_then_segment, or a yaml file (detecture.data.questions).
    cfg.MODEL.DESCRIBE_THEN_SEGMENT.PROMPTS = "describe_then_segment"
    # What the one region is where one region is known, such as "water surface"; empty: not said.
    cfg.MODEL.DESCRIBE_THEN_SEGMENT.SUBJECT = ""

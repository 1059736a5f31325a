"""The function that builds the segmenter that a config names."""

from typing import Any

from detecture.d2 import CfgNode, Registry
from detecture.modeling.registry import build_registered
from detecture.modeling.segmenter.byte_tokenizer import ByteTokenizer
from detecture.modeling.segmenter.interface import Segmenter, Tokenizer
from detecture.modeling.segmenter.sam3_files import read_sam3_structure
from detecture.modeling.weights.pretrained import import_parts

SEGMENTER_REGISTRY = Registry("SEGMENTER")
SEGMENTER_REGISTRY.__doc__ = """
Registry of segmenters.

The registered object is called as `obj(cfg, with_text=bool, with_detector=bool)` and returns a
`Segmenter`, on the CPU (or the device of the surrounding `with torch.device(...)`) and in float32;
`with_text` says whether it brings its text encoder, `with_detector` whether it brings its detector:
what finds single objects. It reads MODEL.SEGMENTER.{BASE,CONFIG,TOKENIZER,GRADIENT_CHECKPOINTING}.
"""


def build_segmenter(
    cfg: CfgNode, *, with_text: bool = False, with_detector: bool = False
) -> Segmenter:
    """The registered segmenter MODEL.SEGMENTER.NAME.

    Args:
        cfg: the config.
        with_text: bring the text encoder too, for `Segmenter.text_features`.
        with_detector: bring the detector too, for `Segmenter.exemplar_prompt` and `proposals`.

    Raises:
        ConfigError: no segmenter of this name is registered.
        CheckpointError: its weights, MODEL.SEGMENTER.BASE, cannot be had.
    """
    name, key = cfg.MODEL.SEGMENTER.NAME, "MODEL.SEGMENTER.NAME"
    options = {"with_text": with_text, "with_detector": with_detector}
    segmenter: Segmenter = build_registered(SEGMENTER_REGISTRY, name, key, cfg, **options)
    return segmenter


def arguments_of_config(cfg: CfgNode, with_text: bool, with_detector: bool) -> dict[str, Any]:
    """What the constructors of both backends take, from a config.

    Raises:
        ConfigError: MODEL.SEGMENTER.CONFIG cannot be read.
    """
    return {
        "base": cfg.MODEL.SEGMENTER.BASE,
        "structure": cfg.MODEL.SEGMENTER.CONFIG,
        "gradient_checkpointing": cfg.MODEL.SEGMENTER.GRADIENT_CHECKPOINTING,
        "with_text": with_text,
        "with_detector": with_detector,
        "tokenizer": _tokenizer(cfg) if with_text else None,
    }


def import_hf_parts() -> Any:
    """The module with the parts of transformers' SAM 3.

    Raises:
        DetectureError: transformers is not installed.
    """
    return import_parts("detecture.modeling.segmenter.hf_parts", "SAM 3")


def _tokenizer(cfg: CfgNode) -> Tokenizer | str | None:
    if cfg.MODEL.SEGMENTER.TOKENIZER or cfg.MODEL.SEGMENTER.BASE:
        return cfg.MODEL.SEGMENTER.TOKENIZER or None
    structure = read_sam3_structure(cfg.MODEL.SEGMENTER.CONFIG)
    text = import_hf_parts().make_structure(structure).text_config
    return ByteTokenizer(text.vocab_size, text.max_position_embeddings)

"""Everything that imports transformers' Grounding DINO; imported only when one is built."""

from collections.abc import Mapping
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
)

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.weights.pretrained import LOAD_ERRORS, cannot_load, check_loaded, first_line
from detecture.modeling.weights.structure import read_structure

HUB_PAGE = "https://huggingface.co/IDEA-Research/grounding-dino-tiny"

_FOLDER = Path(__file__).parent / "configs"
_BASE, _CONFIG = "MODEL.GROUNDED_SAM3.DETECTOR_BASE", "MODEL.GROUNDED_SAM3.DETECTOR_CONFIG"

# Where BERT's own vocabulary has them: the detector knows the ends of phrases by these numbers.
_MARKS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
_FIRST_LETTER = 1030

# Longer side for a shorter side of 800 pixels, in the processor of the published weights.
_ASPECT = 1333 / 800


def make_random(
    structure: str | Mapping[str, Any],
) -> tuple[GroundingDinoForObjectDetection, GroundingDinoProcessor]:
    """A detector with random weights, and a processor whose words are letters.

    Args:
        structure: name of a shipped structure, path of a json file, or the dict itself. The shorter
            side of images is `backbone_config.image_size` pixels.

    Raises:
        ConfigError: it cannot be read, is no Grounding DINO, or its vocabulary is too small.
    """
    if isinstance(structure, str):
        structure = read_structure(structure, key=_CONFIG, folder=_FOLDER)
    tokenizer = letter_tokenizer()
    try:
        config = GroundingDinoConfig(**structure)
        if config.text_config.vocab_size < len(tokenizer):
            raise ConfigError(
                f"{_CONFIG}: vocab_size {config.text_config.vocab_size} is too small; the "
                f"tokenizer needs {len(tokenizer)}"
            )
        model = GroundingDinoForObjectDetection(config)
    except (*LOAD_ERRORS, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{_CONFIG} is no structure of Grounding DINO: {first_line(error)}"
        ) from error
    side = config.backbone_config.image_size
    image_processor = GroundingDinoImageProcessor(
        size={"shortest_edge": side, "longest_edge": int(side * _ASPECT)}
    )
    return model, GroundingDinoProcessor(image_processor, tokenizer)


def load(base: str) -> tuple[GroundingDinoForObjectDetection, GroundingDinoProcessor]:
    """The weights of a hub id or of a folder in transformers' layout, in float32, with processor.

    Raises:
        CheckpointError: it cannot be reached or read, or is no Grounding DINO.
    """
    try:
        config = AutoConfig.from_pretrained(base)
        if not isinstance(config, GroundingDinoConfig):
            raise CheckpointError(
                f"{base} holds a model of type {config.model_type}, not Grounding DINO ({_BASE})"
            )
        model, info = GroundingDinoForObjectDetection.from_pretrained(
            base, config=config, dtype=torch.float32, output_loading_info=True
        )
        processor = GroundingDinoProcessor(
            AutoImageProcessor.from_pretrained(base), AutoTokenizer.from_pretrained(base)
        )
    except (*LOAD_ERRORS, TypeError) as error:
        raise CheckpointError(_remedy(base, error)) from error
    check_loaded(info, base, "Grounding DINO")
    # Without its files transformers makes an empty one, which turns every phrase into nothing.
    place_of = processor.tokenizer.convert_tokens_to_ids
    if any(place_of(mark) != place for place, mark in _MARKS.items()):
        raise CheckpointError(
            f"{_BASE} {base!r} holds no tokenizer of BERT; put tokenizer.json and "
            f"tokenizer_config.json there, from {HUB_PAGE}"
        )
    return model, processor


def letter_tokenizer() -> BertTokenizer:
    """A BERT tokenizer that spells: letters, digits and marks at the places where BERT has marks.

    Any lower-case phrase can be written, and nothing need be shipped or fetched.
    """
    signs = ascii_lowercase + digits
    spelled = dict(enumerate([*signs, *(f"##{sign}" for sign in signs)], _FIRST_LETTER))
    known = {**_MARKS, **spelled}
    vocabulary = {known.get(place, f"[unused{place}]"): place for place in range(max(known) + 1)}
    return BertTokenizer(vocab=vocabulary)


def _remedy(base: str, error: BaseException) -> str:
    return cannot_load(
        base,
        error,
        _BASE,
        kind="Grounding DINO",
        files="config.json, model.safetensors, preprocessor_config.json and the tokenizer, as "
        f"{HUB_PAGE} has them",
        origin=f"The weights are free (Apache-2.0): {HUB_PAGE}.",
    )

"""Where SAM 3's structures and weights are, and what to do where they cannot be had."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from detecture.modeling.weights.meta_file import read_meta_file
from detecture.modeling.weights.pretrained import cannot_load
from detecture.modeling.weights.structure import read_structure

STRUCTURES = Path(__file__).parent / "configs"
"""Folder of the structures that ship: `sam3`, `tiny`, `tiny_fine`, `proportional`."""

LICENCE_PAGE = "https://huggingface.co/facebook/sam3"

BASE, CONFIG = "MODEL.SEGMENTER.BASE", "MODEL.SEGMENTER.CONFIG"
"""The config keys that name them."""


def read_sam3_structure(structure: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The dict of a `Sam3Config`.

    Args:
        structure: a shipped one, a json file, or the dict itself.

    Raises:
        ConfigError: there is no such file, or it holds no json mapping.
    """
    if not isinstance(structure, str):
        return structure
    return read_structure(structure, key=CONFIG, folder=STRUCTURES)


def read_sam3_file(path: str) -> dict[str, Tensor]:
    """The weights of a file in Meta's format, of any shapes, under the names they have there.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else than tensors.
    """
    origin = f"(sam3.pt, from {LICENCE_PAGE} after accepting the licence)"
    return read_meta_file(path, key=BASE, origin=origin)


def sam3_remedy(base: str, error: BaseException, key: str = BASE) -> str:
    """Why SAM 3 could not be loaded from the hub id or folder `base`, and what to do.

    Args:
        base: value of the config key `key`.
        error: what transformers raised.
        key: named in the text.
    """
    return cannot_load(
        base,
        error,
        key,
        kind="SAM 3",
        files="config.json and model.safetensors, as transformers' save_pretrained writes them",
        origin=f"The weights of SAM 3 are gated: accept the licence on {LICENCE_PAGE} and log in "
        "(hf auth login).",
    )

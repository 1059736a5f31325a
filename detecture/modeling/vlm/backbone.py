"""Builds a Qwen3-VL and what goes with it: from weights, or small with random ones.

transformers is imported where a model is built: it takes seconds, and most methods need none of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.vlm import tokenizer as small

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

_CONFIGS = Path(__file__).parent / "configs"

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
QUANTIZATIONS = ("none", "8bit", "4bit")


@dataclass
class Backbone:
    """A VLM, its tokenizer, its image processor, and what it was made from."""

    model: Qwen3VLForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    image_processor: Any
    source: str
    dispatched: bool = False
    """transformers has put the layers onto devices; nobody else may move them."""


def random_backbone(config: str, seed: int = 0, dtype: str = "float32") -> Backbone:
    """A VLM with random weights, the same for the same seed, and the project's small tokenizer.

    On torch's `meta` device it takes no memory: full size can be counted anywhere.

    Args:
        config: a shipped structure (`qwen3vl_8b`, `tiny`, `proportional`) or a json file.
        seed: of the weights.
        dtype: a key of `DTYPES`.

    Raises:
        ConfigError: no such structure, or the vocabulary is too small for the tokenizer.
    """
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = small.small_tokenizer()
    model_config = Qwen3VLConfig(**_read_config(config))
    for name, token in (
        ("image_token_id", small.IMAGE),
        ("video_token_id", small.VIDEO),
        ("vision_start_token_id", small.VISION_START),
        ("vision_end_token_id", small.VISION_END),
    ):
        setattr(model_config, name, tokenizer.convert_tokens_to_ids(token))
    # One row more than the tokenizer has tokens, for <|seg|>.
    if model_config.text_config.vocab_size <= len(tokenizer):
        raise ConfigError(
            f"MODEL.VLM.CONFIG {config}: vocab_size {model_config.text_config.vocab_size} is too "
            f"small; the tokenizer needs more than {len(tokenizer)}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(model_config).to(DTYPES[dtype])
    vision = model_config.vision_config
    image_processor = Qwen2VLImageProcessor(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Backbone(model, tokenizer, image_processor, f"random weights, {config}, seed {seed}")


def load_backbone(
    base: str,
    dtype: str = "bfloat16",
    *,
    quantization: str = "none",
    device_map: str = "",
) -> Backbone:
    """A VLM from weights.

    Args:
        base: hub id or local folder.
        dtype: a key of `DTYPES`.
        quantization: `none`, `8bit` or `4bit` (bitsandbytes).
        device_map: as transformers takes it; empty: the caller moves the model.

    Raises:
        CheckpointError: the weights are not there; says where to get them.
        ConfigError: quantization without bitsandbytes.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration

    options: dict[str, Any] = {"dtype": DTYPES[dtype]}
    if Path(base).is_dir() and not list(Path(base).glob("*.safetensors*")):
        raise CheckpointError(
            f"MODEL.VLM.BASE {base}: the folder holds no *.safetensors; give the folder of a "
            "downloaded Qwen3-VL, or its hub id (Qwen/Qwen3-VL-8B-Instruct)"
        )
    if quantization != "none":
        options["quantization_config"] = _quantization(quantization, DTYPES[dtype])
    if device_map or quantization != "none":
        options["device_map"] = device_map or "auto"
    try:
        # The patch embedding as a linear map: torch's Conv3d is slow, on torch 2.9 by 10 to 20.
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            base, fusion_config={"patch_embeddings": True}, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(base)
        image_processor = AutoImageProcessor.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"MODEL.VLM.BASE {base}: cannot be loaded ({str(error).splitlines()[0]}). Give a local "
            "folder, or a hub id such as Qwen/Qwen3-VL-8B-Instruct (17.5 GB, from "
            "https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct); offline, only folders and what is "
            "in the hub's cache can be used"
        ) from error
    return Backbone(model, tokenizer, image_processor, base, dispatched="device_map" in options)


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401 - asked for before gigabytes are read
    except ImportError as error:
        raise ConfigError(
            f'MODEL.VLM.QUANTIZATION {kind} needs bitsandbytes: pip install "detecture[quantized]"'
        ) from error
    from transformers import BitsAndBytesConfig

    # The vision tower is 7 % of the weights and sees everything first; the output table is read by
    # the wrapper of its <|seg|> row. Both keep their precision.
    kept = ["model.visual", "lm_head"]
    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        llm_int8_skip_modules=kept,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )


def _read_config(config: str) -> dict[str, Any]:
    path = _CONFIGS / f"{config}.json"
    if not path.is_file():
        path = Path(config)
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(p.stem for p in _CONFIGS.glob("*.json")))
        raise ConfigError(
            f"MODEL.VLM.CONFIG {config}: neither one of {shipped}, nor a json file"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"MODEL.VLM.CONFIG {path}: no valid json ({error})") from error
    return content

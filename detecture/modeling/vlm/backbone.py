"""Builds a Qwen3-VL and what goes with it: from weights, or small with random ones.

transformers is imported where a model is built: it takes seconds, and most methods need none of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.vlm import tokenizer as small
from detecture.modeling.weights.dtypes import DTYPES
from detecture.modeling.weights.pretrained import LOAD_ERRORS, first_line
from detecture.modeling.weights.random_weights import random_source, seeded
from detecture.modeling.weights.structure import read_structure
from detecture.untrusted import named_path

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3VLForConditionalGeneration

_CONFIGS = Path(__file__).parent / "configs"


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
    from transformers import Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration

    tokenizer = small.small_tokenizer()
    content = read_structure(config, key="MODEL.VLM.CONFIG", folder=_CONFIGS)
    model_config = _structure(content, config)
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
    with seeded(seed), _no_foreign_patches():
        try:
            model = Qwen3VLForConditionalGeneration(model_config).to(DTYPES[dtype])
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"MODEL.VLM.CONFIG {config}: no such model ({error})") from error
    vision = model_config.vision_config
    image_processor = Qwen2VLImageProcessor(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Backbone(model, tokenizer, image_processor, random_source(config, content, seed))


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

    base = str(named_path(base, "MODEL.VLM.BASE", CheckpointError))
    _check_base(base)
    options: dict[str, Any] = {"dtype": DTYPES[dtype], "output_loading_info": True}
    if quantization != "none":
        options["quantization_config"] = _quantization(quantization, DTYPES[dtype])
    if device_map or quantization != "none":
        options["device_map"] = device_map or "auto"
    try:
        # The patch embedding as a linear map: torch's Conv3d is slow, on torch 2.9 by 10 to 20.
        with _no_foreign_patches():
            model, report = Qwen3VLForConditionalGeneration.from_pretrained(
                base, fusion_config={"patch_embeddings": True}, **options
            )
        # Whoever loads a model that was saved from this one need not fuse it.
        del model.config.fusion_config
        tokenizer = AutoTokenizer.from_pretrained(base)
        image_processor = AutoImageProcessor.from_pretrained(base)
    except (*LOAD_ERRORS, TypeError) as error:
        raise CheckpointError(
            f"MODEL.VLM.BASE {base}: cannot be loaded ({first_line(error)}). Give a local "
            "folder, or a hub id such as Qwen/Qwen3-VL-8B-Instruct (17.5 GB, from "
            "https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct); offline, only folders and what is "
            "in the hub's cache can be used"
        ) from error
    _check_loaded(base, report, tokenizer)
    return Backbone(model, tokenizer, image_processor, base, dispatched="device_map" in options)


@contextmanager
def _no_foreign_patches() -> Iterator[None]:
    """Build a model of the classes it asks for, and leave transformers' registers as they were.

    Where transformers fuses a model's parts, it registers other classes for every model that the
    process builds later, parts included, and a load that fails leaves them in its modules. Those
    would not fit the files of their weights.
    """
    from transformers import monkey_patching as patching

    before = patching.get_patch_mapping()
    patching.clear_patch_mapping()
    _restore_classes()
    _forget_fused_names()
    try:
        yield
    finally:
        patching.clear_patch_mapping()
        patching.register_patch_mapping(before)
        _restore_classes()
        _forget_fused_names()


def _restore_classes() -> None:
    """Put back what a load that failed while parts were fused has left of it."""
    from transformers.models.qwen3_vl import modeling_qwen3_vl as module

    for name, found in list(vars(module).items()):
        if isinstance(found, type) and found.__name__ == f"Fused{name}":
            setattr(module, name, found.__bases__[-1])


def _forget_fused_names() -> None:
    """Drop the names of fused weights that a load has registered; a model keeps those of its own.

    transformers 5.20, the last one for Python 3.10, refuses to register them a second time.
    """
    from transformers import Qwen3VLForConditionalGeneration
    from transformers import conversion_mapping as conversions

    kind = Qwen3VLForConditionalGeneration.config_class.model_type
    known = conversions.get_checkpoint_conversion_mapping(kind) or []
    kept = [one for one in known if not any("patch_embed" in p for p in one.source_patterns)]
    if len(kept) < len(known):
        conversions.register_checkpoint_conversion_mapping(kind, kept, overwrite=True)


def _check_base(base: str) -> None:
    """Refuse what is no model's folder, before the hub is asked for it."""
    path = Path(base)
    wanted = "give the folder of a downloaded Qwen3-VL, or its hub id (Qwen/Qwen3-VL-8B-Instruct)"
    if path.is_file():
        raise CheckpointError(f"MODEL.VLM.BASE {base} is a file; {wanted}")
    if not path.is_dir():
        if path.is_absolute() or base.startswith(".") or base.count("/") > 1:
            raise CheckpointError(f"MODEL.VLM.BASE {base}: no such folder; {wanted}")
        return
    if not list(path.glob("*.safetensors*")):
        raise CheckpointError(f"MODEL.VLM.BASE {base}: the folder holds no *.safetensors; {wanted}")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        # Without them transformers goes on with defaults of another size, or an empty vocabulary.
        other = path / "processor_config.json"
        if not (path / name).is_file() and not (name.startswith("pre") and other.is_file()):
            raise CheckpointError(f"MODEL.VLM.BASE {base}: the folder holds no {name}; {wanted}")


def _check_loaded(base: str, report: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse weights that did not all find their place: transformers would only log it."""
    problems = [
        f"{kind}: {name}"
        for kind, key in (
            ("missing", "missing_keys"),
            ("left over", "unexpected_keys"),
            ("of another shape", "mismatched_keys"),
        )
        for name in sorted(str(entry) for entry in report.get(key, ()))
    ]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise CheckpointError(
            f"MODEL.VLM.BASE {base}: the weights do not fit its config.json: "
            + "; ".join(problems[:10])
            + f"{more}. Copy the folder again"
        )
    for token in (small.IMAGE, small.VISION_START, small.MESSAGE_START, small.MESSAGE_END):
        if token not in tokenizer.get_vocab():
            raise CheckpointError(
                f"MODEL.VLM.BASE {base}: its tokenizer has no {token}; it is no Qwen3-VL's"
            )


def _quantization(kind: str, dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401 - asked for before gigabytes are read
    except ImportError as error:
        raise ConfigError(
            f'MODEL.VLM.QUANTIZATION {kind} needs bitsandbytes: pip install -e ".[quantized]"'
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


def _structure(content: dict[str, Any], config: str) -> Any:
    """transformers' config; unknown names, which it would pass over, are refused."""
    from transformers import Qwen3VLConfig

    for part in ("text_config", "vision_config"):
        if not isinstance(content.get(part), dict):
            raise ConfigError(f"MODEL.VLM.CONFIG {config}: must have a mapping {part}")
    try:
        made = Qwen3VLConfig(**content)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"MODEL.VLM.CONFIG {config}: no valid structure ({error})") from error
    known = Qwen3VLConfig().to_dict()
    for part in ("text_config", "vision_config"):
        for name in content[part]:
            if name not in known[part]:
                close = difflib.get_close_matches(name, known[part], n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ConfigError(f"MODEL.VLM.CONFIG {config}: unknown {part}.{name}{hint}")
    return made

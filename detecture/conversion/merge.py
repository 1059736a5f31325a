"""Merge an adapter into the VLM it belongs to: a plain folder that transformers loads."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from detecture.checkpoint.atomic import flush_folder
from detecture.checkpoint.manifest import verify_checkpoint
from detecture.checkpoint.misfits import misfits
from detecture.checkpoint.weights_file import make_header, read_weights
from detecture.config import make_config
from detecture.conversion.published import require_free_output, write_weights
from detecture.d2 import CfgNode
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.heads import HeadShape, build_head
from detecture.modeling.vlm import Qwen3VL, build_vlm
from detecture.modeling.weights.header_check import check_header

BRIDGE_FILE = "bridge.safetensors"
"""The parts of the model outside the VLM: the head, and the `<|seg|>` rows in full precision."""

_HEADER_KEYS = ("format", "detecture", "libraries", "config", "model", "iteration")


@dataclass(frozen=True)
class Merged:
    """What a merge wrote.

    Attributes:
        adapters: number of low-rank adapters that were added to their weights.
        rows: number of seg rows that were written into their tables.
        bridge: file with the rest of the model.
        sha256: SHA-256 of that file.
    """

    adapters: int
    rows: int
    bridge: Path
    sha256: str


def merge_adapter(
    adapter: Path, config_file: str | Path | None, overrides: Sequence[str], output: Path
) -> Merged:
    """Write the VLM of a config with an adapter merged into it, and the rest of the adapter.

    The folder then serves as `MODEL.VLM.BASE FOLDER MODEL.VLM.TRAIN none MODEL.WEIGHTS
    FOLDER/bridge.safetensors`, and as a Qwen3-VL for any other program. It is created completely or
    not at all.

    Args:
        adapter: a weights file of this project.
        config_file, overrides: the config that it was trained with, as for `make_config`.
        output: the folder; must not exist.

    Raises:
        CheckpointError: the adapter, or the base, cannot be read, or they do not fit.
        ConfigError: the config is wrong or cannot be merged, or the folder already exists.
    """
    require_free_output(output, "folder")
    words = [*overrides, "MODEL.DEVICE", "cpu", "MODEL.VLM.DEVICE_MAP", ""]
    cfg = make_config(config_file, words)
    if cfg.MODEL.META_ARCHITECTURE != "Detecture":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}: only Detecture models have a "
            "VLM that an adapter can be merged into; give the --config-file of one"
        )
    if cfg.MODEL.VLM.QUANTIZATION != "none":
        raise ConfigError(
            "MODEL.VLM.QUANTIZATION must be none: nothing can be added to weights in few bits; "
            "merge in full precision and quantize when loading the result"
        )
    digest = verify_checkpoint(adapter, "the name of the adapter")
    tensors, header = read_weights(adapter)
    if not header:
        raise CheckpointError(
            f"{adapter}: was not written by this project (it has no header); convert a published "
            "checkpoint first: tools/convert_checkpoint.py published"
        )
    vlm = build_vlm(cfg)
    if not isinstance(vlm, Qwen3VL):
        raise ConfigError(f"MODEL.VLM.NAME {cfg.MODEL.VLM.NAME}: only Qwen3VL can be merged")
    check_header({"vlm": vlm.source}, header["model"], ["vlm"])
    vlm.take_header(header["model"])
    _load(adapter, cfg, vlm, tensors)
    _require_rows(cfg, vlm, tensors)
    rest = {name: t for name, t in tensors.items() if not name.startswith("vlm.")}
    rows = {f"vlm.{name}": row.detach() for name, row in vlm.seg_row_parameters()}
    adapters = merge_into_backbone(vlm)
    used = make_config(
        config_file, [*words, "MODEL.VLM.BASE", str(output), "MODEL.VLM.TRAIN", "none"]
    )
    values = {key: value for key, value in header.items() if key not in _HEADER_KEYS}
    model_header = {**header["model"], "vlm": str(output), "lora": {}}
    bridge_header = make_header(
        used.dump(), model_header, **{**values, "merged": {"file": adapter.name, "sha256": digest}}
    )
    sha256 = _write_folder(output, vlm, {**rest, **rows}, bridge_header)
    return Merged(adapters, len(rows), output / BRIDGE_FILE, sha256)


@torch.no_grad()
def merge_into_backbone(vlm: Qwen3VL) -> int:
    """Turn `vlm.model` into a plain transformers model with the same results (in place).

    Low-rank adapters are added to their weights, in single precision at least, and the rows of
    `<|seg|>` written into the tables, which are separated if they were shared.

    Args:
        vlm: its wrappers are gone afterwards; use `vlm.model` alone.

    Returns:
        The number of adapters.
    """
    model = vlm.model
    from peft.tuners.lora import LoraLayer

    layers = [(n, module) for n, module in model.named_modules() if isinstance(module, LoraLayer)]
    for name, layer in layers:
        base = layer.get_base_layer()
        for adapter in layer.active_adapters:
            base.weight.data = _sum(base.weight, layer.get_delta_weight(adapter))
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, base)
    if hasattr(model, "peft_config"):
        del model.peft_config
    embedding, head = model.get_input_embeddings(), model.lm_head
    if embedding.base.weight is head.base.weight:
        head.base.weight = nn.Parameter(head.base.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
        model.config.text_config.tie_word_embeddings = False
    for wrapper in (embedding, head):
        wrapper.base.weight[wrapper.seg_id] = wrapper.row.to(wrapper.base.weight.dtype)
    model.set_input_embeddings(embedding.base)
    model.lm_head = head.base
    return len(layers)


def _sum(weight: Tensor, delta: Tensor) -> Tensor:
    """A weight (O,I) plus its change (O,I), added in single precision at least: (O,I)."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight.to(wide) + delta.to(wide)).to(weight.dtype)


def _load(adapter: Path, cfg: CfgNode, vlm: Qwen3VL, tensors: Mapping[str, Tensor]) -> None:
    """Put an adapter into the VLM.

    Args:
        adapter: its file, for errors.
        cfg: the config.
        vlm: gets the values.
        tensors: of the adapter by name, of any shapes.

    Raises:
        CheckpointError: they do not fit the config.
    """
    own = {f"vlm.{name}": parameter for name, parameter in vlm.trained_parameters()}
    with torch.device("meta"):  # only the names of the head are needed; its widths do not matter
        head = build_head(cfg, HeadShape(vlm.hidden_size, 8, 8))
    # Shapes are compared only for the VLM: the head's depend on the other side's widths.
    rest = {f"head.{name}": tensors.get(f"head.{name}", p) for name, p in head.named_parameters()}
    given = {name: t for name, t in tensors.items() if not name.startswith("segmenter.")}
    if problems := misfits({**own, **rest}, given):
        raise CheckpointError(
            f"{adapter}: does not fit the config: {'; '.join(problems)}. Use the config that it "
            "was trained with"
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def _require_rows(cfg: CfgNode, vlm: Qwen3VL, tensors: Mapping[str, Tensor]) -> None:
    """Check that rows missing from the adapter start from the same values on the merged VLM.

    Only the names of its tensors, of any shapes, are used.
    """
    held = sum(name.endswith(".row") for name in tensors)
    if held < 2 and cfg.MODEL.VLM.WARM_START != "im_end":
        raise ConfigError(
            f"MODEL.VLM.WARM_START {cfg.MODEL.VLM.WARM_START} with rows of <|seg|> that the "
            "adapter does not hold cannot be merged: loading the merged VLM would start them "
            "from other values"
        )


def _write_folder(
    output: Path, vlm: Qwen3VL, tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> str:
    """Write the VLM, and a file of tensors of any shapes, as one folder; returns the file's
    SHA-256."""
    temporary = output.with_name(f"{output.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        vlm.model.save_pretrained(temporary)
        vlm.chat.tokenizer.save_pretrained(temporary)
        vlm.image_processor.save_pretrained(temporary)
        digest = write_weights(temporary / BRIDGE_FILE, tensors, header)
        for path in temporary.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        flush_folder(temporary)
        temporary.rename(output)
        flush_folder(output.parent)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"--output {output}: cannot be written ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return digest

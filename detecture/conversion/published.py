"""Adapters from the published checkpoints (arXiv 2606.14754), torch pickles of several gigabytes.

Only the row of `<|seg|>` is taken from the two full vocabulary tables in them. Names are matched by
their endings, because the wrapping of the VLM differed between library versions (specification, 9).
"""

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.manifest import record_hashes
from detecture.checkpoint.weights_file import make_header, pack_weights
from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.data.prompts import PromptTemplate
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.vlm.tokenizer import add_seg_token, vocabulary_fingerprint
from detecture.untrusted import named_path
from detecture.untrusted_torch import load_torch

# Our names, and the ends of the published ones; one published name is one of ours.
_OURS = (
    (r"head\.bridge\.(.+)", r"bridge.proj.\1"),
    (r"head\.mask_head\.(.+)", r"mask_head.\1"),
    (r"head\.dustbin", "dustbin_embed"),
    (r"vlm\..*\.(layers\.\d+\.self_attn\.[qv]_proj\.lora_[AB])\.default\.weight", r"\1.weight"),
    (r"vlm\..*\.(embed_tokens|lm_head)\.row", r"\1.weight"),
)
_THEIRS = tuple(
    re.compile(rf"(?:.*\.)?{end}")
    for end in (
        r"(bridge\.proj\.\d+\.(?:weight|bias))",
        r"(mask_head\.(?:query_mlp\.\d+|pixel_head)\.(?:weight|bias))",
        r"(dustbin_embed)",
        r"(layers\.\d+\.self_attn\.[qv]_proj\.lora_[AB])(?:\.default)?(\.weight)",
        r"(embed_tokens|lm_head)(?:\.modules_to_save\.default|\.original_module)?(\.weight)",
    )
)
_TABLES = ("embed_tokens.weight", "lm_head.weight")
_DUSTBIN = "dustbin_embed"
_FACTS = ("epoch", "val_iou", "phase")


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a published checkpoint holds.

    Attributes:
        tensors: by published name; for a file in the current format they are still on the disk.
        facts: those of `epoch`, `val_iou` and `phase` that it has.
        left: names of entries that are not part of the model, such as the optimiser.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    left: list[str]


@dataclass(frozen=True)
class Adapter:
    """A converted checkpoint.

    Attributes:
        tensors: by the names of `Detecture.checkpoint_state`, float32.
        header: of the weights file.
        parts: names of tensors, grouped by what trains together.
        notes: what a user should know about the conversion.
    """

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    parts: dict[str, list[str]]
    notes: list[str]


def import_published(
    path: Path,
    config_file: str | Path | None,
    overrides: Sequence[str],
    prompts: PromptTemplate,
    *,
    seg_id: int | None = None,
    lora_alpha: float | None = None,
) -> Adapter:
    """Convert a published checkpoint.

    Args:
        path: the torch file.
        config_file, overrides: config of the model that the adapter is for, as for `make_config`.
        prompts: the wording that the checkpoint was trained with.
        seg_id: row of `<|seg|>` in its tables; None: the last one, which must be the tokenizer's.
        lora_alpha: numerator of the scale of its low-rank adapters, which is not in the file; None:
            the config's value, 16 as in the release's training config.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the config.
        ConfigError: the config is wrong, or is not one of Detecture with low-rank adapters.
    """
    words = [*overrides, "MODEL.VLM.STOP_SUPERVISION", "released"]
    if lora_alpha is not None:
        if not (math.isfinite(lora_alpha) and lora_alpha > 0):
            raise ConfigError(f"--lora-alpha {lora_alpha}: give a positive number, such as 16")
        words += ["MODEL.VLM.LORA.ALPHA", repr(float(lora_alpha))]
    cfg = make_config(config_file, [*words, "MODEL.DEVICE", "cpu"])
    published = read_published(path)
    model = reference_model(config_file, words)
    vocabulary, token_id, notes = _vocabulary(cfg, model, prompts.seg_token)
    due = model.checkpoint_state()
    named = match_names(published.tensors, due)
    rows = _table_rows(path, named)
    row = find_seg_row(rows, token_id, seg_id, model.vlm.model.config.text_config.vocab_size)
    tensors = _take(path, named, due, row)
    if published.left:
        notes.append(f"not taken: {', '.join(published.left)}")
    notes.append(f"seg rows: row {row} of {rows} in both tables")
    return Adapter(
        tensors,
        _header(path, cfg, model, prompts, vocabulary, published.facts),
        {group["name"]: group["names"] for group in model.parameter_groups()},
        notes,
    )


def read_published(path: Path) -> PublishedCheckpoint:
    """Read a published checkpoint: only the tensors and plain values in its pickle.

    Raises:
        CheckpointError: there is no such file, or it is not a torch file, is damaged, would run
            code, or lacks the parts of a published checkpoint.
    """
    if not named_path(path, "--input", CheckpointError).is_file():
        raise CheckpointError(f"{path}: no such file; name a published checkpoint (best.pt)")
    if not path.stat().st_size:
        raise CheckpointError(f"{path}: the file is empty; download it again")
    with torch.serialization.safe_globals(_numpy_scalars()):
        # Mapped into memory, so that gigabytes of tables and moments are never read.
        content = load_torch(path, mapped=True)
    inner = content.get("model_trainable") if isinstance(content, dict) else None
    if not isinstance(inner, dict):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else "none"
        raise CheckpointError(
            f"{path}: is no published checkpoint: no table of tensors under model_trainable "
            f"(keys: {keys[:200]}). A file that this project wrote needs no conversion"
        )
    tensors = {str(name): value for name, value in inner.items()}
    outer = content.get(_DUSTBIN)
    own = next((name for name in tensors if name.split(".")[-1] == _DUSTBIN), None)
    if own is None and outer is not None:
        tensors[_DUSTBIN] = outer
    elif own is not None and outer is not None and not _same(tensors[own], outer):
        raise CheckpointError(f"{path}: {_DUSTBIN} and model_trainable's {own} differ")
    wrong = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointError(f"{path}: no tensors: {', '.join(wrong)}")
    facts = {key: _plain(content[key]) for key in _FACTS if key in content}
    known = {"model_trainable", _DUSTBIN, *_FACTS}
    return PublishedCheckpoint(tensors, facts, [str(key) for key in content if key not in known])


def reference_model(config_file: str | Path | None, overrides: Sequence[str]) -> Detecture:
    """The model of a config without any weights (on torch's `meta` device), for its names.

    Raises:
        ConfigError: the config is wrong or belongs to another method.
    """
    words = ["MODEL.DEVICE", "cpu", "MODEL.FEATURE_CACHE", "", "MODEL.VLM.BASE", ""]
    words += ["MODEL.SEGMENTER.BASE", "", "MODEL.VLM.GRADIENT_CHECKPOINTING", "False"]
    cfg = make_config(config_file, [*overrides, *words])
    if cfg.MODEL.META_ARCHITECTURE != "Detecture":
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE}; a Detecture checkpoint "
            "needs a config of Detecture, such as configs/detecture_qwen3vl8b_sam3.yaml"
        )
    with torch.device("meta"):
        model: Detecture = META_ARCH_REGISTRY.get("Detecture")(cfg)
    return model


def match_names(tensors: Mapping[str, Tensor], due: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by our names.

    Args:
        tensors: of any shapes, by published name, with any prefix.
        due: by our names.

    Raises:
        CheckpointError: names are missing, left over or given twice; all are listed.
    """
    ours = {_published_end(name): name for name in due}
    found: dict[str, str] = {}
    problems = []
    # A table that peft copied for training is stored next to its original, which did not train.
    for name in sorted(tensors, key=lambda n: ".original_module." in n):
        matches = (pattern.fullmatch(name) for pattern in _THEIRS)
        end = next(("".join(match.groups("")) for match in matches if match), name)
        if end not in ours:
            problems.append(f"left over: {name}")
        elif end not in found:
            found[end] = name
        elif ".original_module." not in name or ".modules_to_save." not in found[end]:
            problems.append(f"given twice: {found[end]} and {name}")
    problems = [f"missing: {end} ({ours[end]})" for end in ours if end not in found] + problems
    if problems:
        raise CheckpointError(
            "the checkpoint does not fit the model of the config: " + "; ".join(problems) + ". Use "
            "configs/detecture_qwen3vl8b_sam3.yaml without changes under MODEL"
        )
    return {ours[end]: tensors[name] for end, name in found.items()}


def find_seg_row(rows: int, token_id: int | None, asked: int | None, untouched_rows: int) -> int:
    """Row of `<|seg|>` in a published table: it was added last, and the table was cut after it.

    Args:
        rows: of the table.
        token_id: the tokenizer's id of the token; None if the tokenizer is not available.
        asked: what the user says (`--seg-id`), which takes precedence.
        untouched_rows: of the table before any token was added; it is longer than the tokenizer.

    Raises:
        CheckpointError: these do not agree.
    """
    remedy = "give the row of <|seg|> with --seg-id"
    if asked is not None:
        if not 0 <= asked < rows:
            raise CheckpointError(f"--seg-id {asked}: the tables have rows 0 to {rows - 1}")
        return asked
    if token_id is None and rows == untouched_rows:
        raise CheckpointError(
            f"the tables have {rows} rows, as many as before <|seg|> was added, so that it is not "
            f"the last one; {remedy}"
        )
    if token_id is not None and token_id != rows - 1:
        raise CheckpointError(
            f"<|seg|> is token {token_id} of the tokenizer, but the last row of the tables is "
            f"{rows - 1}; {remedy}, or set MODEL.VLM.BASE to the base of the checkpoint"
        )
    return rows - 1


def require_free_output(path: Path, what: str) -> None:
    """Refuse, before hours of work, an output that already exists or cannot be created.

    Raises:
        ConfigError: it does or cannot; the message names it.
    """
    if path.exists() or path.is_symlink():
        raise ConfigError(f"--output {path}: is already there; give another {what}, or delete it")
    parent = next(p for p in path.absolute().parents if p.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise ConfigError(f"--output {path}: {parent} cannot be written to; choose another place")


def write_weights(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Write tensors of any shapes to a file, completely or not at all; returns its SHA-256.

    Raises:
        CheckpointError: it cannot be written.
    """
    content = pack_weights(tensors, header)
    digest = hashlib.sha256(content).hexdigest()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before the file: an entry for an older file of this name would make the new one look
        # damaged.
        record_hashes(path.parent, {path.name: [digest]})
        write_atomic(path, lambda file: file.write(content))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error})") from error
    return digest


def _published_end(name: str) -> str:
    for pattern, end in _OURS:
        if match := re.fullmatch(pattern, name):
            return match.expand(end)
    return name


def _table_rows(path: Path, named: Mapping[str, Tensor]) -> int:
    """Rows R of the two vocabulary tables (R,D); tensors by our names."""
    tables = {n: t for n, t in named.items() if _published_end(n) in _TABLES}
    sizes = {name: tuple(table.shape) for name, table in tables.items()}
    if any(len(size) != 2 for size in sizes.values()) or len({s[0] for s in sizes.values()}) != 1:
        listed = ", ".join(f"{_published_end(n)} {size}" for n, size in sizes.items())
        raise CheckpointError(
            f"{path}: the two vocabulary tables must have the same number of rows: {listed}"
        )
    return next(iter(sizes.values()))[0]


def _take(
    path: Path, named: Mapping[str, Tensor], due: Mapping[str, Tensor], row: int
) -> dict[str, Tensor]:
    """Tensors, of any shapes, as float32 in the expected shapes; for a table (R,D), its row."""
    taken, problems = {}, []
    for name, model_tensor in due.items():
        shape, end = model_tensor.shape, _published_end(name)
        tensor = named[name][row] if end in _TABLES else named[name]
        # A 1x1 convolution may be stored as a matrix, and the dustbin with leading axes of length
        # 1.
        squeezed = tensor.squeeze() if end == _DUSTBIN else tensor
        if squeezed.shape == shape or (*squeezed.shape, 1, 1) == tuple(shape):
            taken[name] = squeezed.detach().to(torch.float32).reshape(shape).clone()
            if not torch.isfinite(taken[name]).all():
                problems.append(f"{end} holds values that are no numbers")
        else:
            problems.append(
                f"shape of {end}: {tuple(named[name].shape)} in the file, {tuple(shape)} "
                f"in the model ({name})"
            )
    if problems:
        raise CheckpointError(f"{path}: {'; '.join(problems)}. Use the config that fits it")
    return taken


def _vocabulary(
    cfg: CfgNode, model: Detecture, seg_token: str
) -> tuple[str | None, int | None, list[str]]:
    """Fingerprint of the vocabulary with the seg token, and the token's id; None without it."""
    base = cfg.MODEL.VLM.BASE
    if not base:
        return model.checkpoint_header()["vocabulary"], model.vlm.chat.seg_id, []
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    except (OSError, ValueError):
        return None, None, [f"no tokenizer of {base} on this machine: vocabulary not checked"]
    token_id = add_seg_token(tokenizer, seg_token)
    return vocabulary_fingerprint(tokenizer), token_id, []


def _header(
    path: Path,
    cfg: CfgNode,
    model: Detecture,
    prompts: PromptTemplate,
    vocabulary: str | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    own = {**model.checkpoint_header(), "prompts": prompts.to_dict(), "vocabulary": vocabulary}
    if vocabulary is None:
        del own["vocabulary"]
    if cfg.MODEL.VLM.BASE:
        own["vlm"] = cfg.MODEL.VLM.BASE
    if cfg.MODEL.SEGMENTER.BASE:
        own["segmenter"] = f"{cfg.MODEL.SEGMENTER.NAME}: {cfg.MODEL.SEGMENTER.BASE}"
    return make_header(cfg.dump(), own, published={"file": path.name, **facts})


def _numpy_scalars() -> list[Any]:
    """Numpy scalars, as means of scores often are, under their names in numpy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [*((scalar, f"{module}.scalar") for module in modules), np.dtype, *kinds]


def _same(one: Any, other: Any) -> bool:
    both = isinstance(one, Tensor) and isinstance(other, Tensor)
    return both and one.numel() == other.numel() and bool((one.flatten() == other.flatten()).all())


def _plain(value: Any) -> Any:
    single = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1)
    value = value.item() if single else value
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)

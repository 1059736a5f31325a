"""Models whose Python code comes with their weights, and is run from there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError

from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.weights.pretrained import first_line

_COMMIT = re.compile(r"[0-9a-f]{7,40}")
# What transformers raises for what it cannot load, and foreign code that was written for another
# release of it.
_LOAD_ERRORS = (
    *(OSError, ImportError, RuntimeError, ValueError, TypeError),
    *(KeyError, AttributeError, SafetensorError),
)


def load_remote_model(
    base: str, revision: str, *, is_trusted: bool, node: str, **options: Any
) -> tuple[Any, Any]:
    """A model and its tokenizer, by the code that comes with them, in bfloat16 on the CPU.

    Args:
        base: hub id or local folder.
        revision: commit of the hub id; a local folder has none.
        is_trusted: that code may be run.
        node: of the config keys BASE, REVISION and TRUST_REMOTE_CODE, for errors.
        options: further arguments of the model's `from_pretrained`.

    Returns:
        The model, in evaluation mode, and the tokenizer.

    Raises:
        ConfigError: the code is not trusted, or `revision` is no commit.
        CheckpointError: the files cannot be had, or their code does not run here.
    """
    if not _COMMIT.fullmatch(revision):
        raise ConfigError(
            f"{node}.REVISION {revision!r} is no commit: give 7 to 40 hexadecimal digits. What a "
            "branch or a tag names can change, and the code that is run with it"
        )
    if not is_trusted:
        raise ConfigError(
            f"{node}.TRUST_REMOTE_CODE is False, and {base} is no model of transformers: loading "
            "it runs the Python code that comes with its weights, on this machine and with all "
            f"your rights. Read that code (revision {revision}; for a hub id at "
            f"https://huggingface.co/{base}/tree/{revision}), then set {node}.TRUST_REMOTE_CODE "
            "True"
        )
    from transformers import AutoModel, AutoTokenizer

    # code_revision too: a config may take its code from another repository, at its newest state.
    pinned = {"revision": revision, "code_revision": revision, "trust_remote_code": True}
    try:
        with optional_flash_attention():
            model = AutoModel.from_pretrained(base, dtype=torch.bfloat16, **pinned, **options)
            tokenizer = AutoTokenizer.from_pretrained(base, use_fast=False, **pinned)
    except _LOAD_ERRORS as error:
        raise CheckpointError(
            f"{node}.BASE {base!r}, revision {revision}, cannot be loaded: "
            f"{type(error).__name__}: {first_line(error)} Weights, code and licence are on "
            f"https://huggingface.co/{base}. Without a network, download them elsewhere and give "
            f"the local folder as {node}.BASE, or set HF_HUB_OFFLINE=1 where they are in the "
            "hub's cache already. Where their code fails, it may have been written for another "
            "release of transformers: the model's page names one"
        ) from error
    return model.eval(), tokenizer


@contextmanager
def optional_flash_attention() -> Iterator[None]:
    """Inside, transformers does not ask for flash-attn before it loads a model's own code.

    It looks for import statements without running them, and refuses code that names a package which
    is not installed, also where that code goes on without it.
    """
    from transformers import dynamic_module_utils as loader

    original = loader.get_imports

    def without_flash_attention(filename: str) -> list[str]:
        return [name for name in original(filename) if name != "flash_attn"]

    loader.get_imports = without_flash_attention
    try:
        yield
    finally:
        loader.get_imports = original

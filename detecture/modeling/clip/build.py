"""CLIP from a config: a hub id or folder of transformers, a file of OpenAI's, or random weights.

And what turns it, where that is what trains.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detecture.config.sections.semantic import ClipSettings
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.clip.conv_stem import STEM_WIDTHS, ConvStem
from detecture.modeling.clip.encoder import ClipEncoder
from detecture.modeling.clip.name_map import openai_to_transformers
from detecture.modeling.clip.orthogonal import Modulation, OrthogonalAdapter
from detecture.modeling.weights.meta_file import read_meta_file
from detecture.modeling.weights.pretrained import LOAD_ERRORS, cannot_load, check_loaded
from detecture.modeling.weights.random_weights import random_source, seeded
from detecture.modeling.weights.structure import read_structure
from detecture.untrusted import named_path

STRUCTURES = Path(__file__).parent / "configs"
"""Folder of the structures that ship: `vit_b16`, `vit_l14_336`, `tiny`."""

_FILE_ENDINGS = (".bin", ".pt", ".pth", ".safetensors")  # no hub id ends so
_BASE, _CONFIG = "MODEL.CLIP.BASE", "MODEL.CLIP.CONFIG"
_ORIGIN = "(openai/clip-vit-base-patch16 on the hub, or ViT-B-16.pt of github.com/openai/CLIP)"


def build_clip(settings: ClipSettings, seed: int) -> tuple[ClipEncoder, str]:
    """CLIP, in evaluation mode, and what its weights are, for checkpoints.

    Args:
        settings: of the config.
        seed: of random weights.

    Raises:
        ConfigError: there is no such structure, or it is none of a CLIP.
        CheckpointError: the weights cannot be had, or do not fit the structure.
    """
    from transformers import CLIPModel

    base = settings.base
    named_path(base, _BASE, CheckpointError)
    if base.endswith(_FILE_ENDINGS) and not Path(base).exists():
        raise CheckpointError(f"{_BASE} {base}: no such file; give one, or a hub id {_ORIGIN}")
    if base and not Path(base).is_file():
        try:
            model, info = CLIPModel.from_pretrained(base, output_loading_info=True)
        except LOAD_ERRORS as error:
            raise CheckpointError(
                cannot_load(
                    base,
                    error,
                    _BASE,
                    kind="CLIP",
                    files="config.json and model.safetensors, as save_pretrained writes them",
                    origin=f"The weights are free {_ORIGIN}.",
                )
            ) from error
        check_loaded(info, base, "CLIP")
        return ClipEncoder(model.float().eval(), settings.grid), base
    structure = read_structure(settings.config, key=_CONFIG, folder=STRUCTURES)
    with seeded(seed):
        model = _make(structure, settings.config)
        stem = _add_stem(model, structure, settings.config)
    trunk = ""
    if settings.stem_weights:
        if stem is None:
            raise ConfigError(
                f"MODEL.CLIP.STEM_WEIGHTS {settings.stem_weights}: {_CONFIG} {settings.config} has "
                "no stem; leave it empty"
            )
        trunk = f", trunk {stem.take_trunk(settings.stem_weights)}"
    if not base:
        source = random_source(settings.config, structure, seed)
        return ClipEncoder(model.eval(), settings.grid), f"{source}{trunk}"
    weights = openai_to_transformers(_read(base))
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CheckpointError(
            f"{_BASE} {base}: its weights are not of {_CONFIG} {settings.config} "
            f"({' '.join(str(error).split())[:300]})"
        ) from error
    lacking = [name for name in missing if not name.endswith("position_ids")]
    if lacking or unexpected:
        raise CheckpointError(
            f"{_BASE} {base}: lacks {', '.join(lacking[:10]) or 'nothing'}; left over: "
            f"{', '.join(unexpected[:10]) or 'nothing'}"
        )
    return ClipEncoder(model.eval(), settings.grid), base


def orthogonal_adapter(
    clip: ClipEncoder,
    settings: ClipSettings,
    modulation: Modulation | None = None,
    interpolation: str = "linear",
) -> OrthogonalAdapter | None:
    """H-CLIP's fine-tuning of `clip` (in place); None where something else trains.

    Args:
        clip: the encoder.
        settings: what trains, and the blocks.
        modulation: HA-HEM.
        interpolation: of that.
    """
    if settings.finetune != "orthogonal":
        return None
    own = settings.orthogonal
    return OrthogonalAdapter(
        clip,
        block=own.block,
        text_cayley=own.text_cayley,
        image_cayley=own.image_cayley,
        relation=own.relation,
        modulation=modulation,
        interpolation=interpolation,
    )


def _make(structure: dict[str, Any], name: str) -> Any:
    from transformers import CLIPConfig, CLIPModel

    try:
        return CLIPModel(CLIPConfig(**structure))
    except LOAD_ERRORS as error:
        raise ConfigError(f"{_CONFIG} {name}: is no structure of a CLIP ({error})") from error
    except TypeError as error:
        raise ConfigError(f"{_CONFIG} {name}: is no structure of a CLIP ({error})") from error


def _add_stem(model: Any, structure: dict[str, Any], name: str) -> ConvStem | None:
    """Put a convolutional stem in place of the patch embedding, where a structure has one."""
    widths = structure.get("vision_config", {}).get(STEM_WIDTHS)
    if widths is None:
        return None
    if not isinstance(widths, list) or len(widths) != 4 or any(w % 8 for w in widths):
        raise ConfigError(f"{_CONFIG} {name}: {STEM_WIDTHS} must be four multiples of 8")
    vision = model.config.vision_config
    stem = ConvStem(tuple(widths), int(vision.hidden_size), int(vision.patch_size))
    model.vision_model.embeddings.patch_embedding = stem
    return stem


def _read(path: str) -> dict[str, Tensor]:
    """The weights of OpenAI's file, of any shapes; it is a TorchScript archive."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says that TorchScript is to go
            state: dict[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError:
        return read_meta_file(path, key=_BASE, origin=_ORIGIN)
    return state

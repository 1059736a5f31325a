"""Detecture so small that a training step takes a moment: the real classes, random weights."""

import json
from pathlib import Path

import numpy as np
import torch

from detecture.config import make_config
from detecture.data import KHint
from detecture.modeling import build_model
from detecture.modeling.segmenter.sam3_files import read_sam3_structure

VLM = {
    "text_config": {
        "vocab_size": 1032,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [4, 2, 2],
            "mrope_interleaved": True,
        },
        # Larger than usual, so that random attention has something to say.
        "initializer_range": 0.2,
    },
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 48,
        "num_position_embeddings": 16,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "deepstack_visual_indexes": [0],
    },
    "tie_word_embeddings": False,
}


def segmenter_config() -> dict:
    """The shipped tiny structure with two layers of half the width, on 56 pixels."""
    config = json.loads(json.dumps(read_sam3_structure("tiny")))
    backbone = config["vision_config"]["backbone_config"]
    backbone.update(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=56,
        pretrain_image_size=56,
        window_size=2,
        global_attn_indexes=[1],
    )
    config["vision_config"]["fpn_hidden_size"] = 32
    config["vision_config"]["backbone_feature_sizes"] = [[16, 16], [8, 8], [4, 4]]
    config["text_config"].update(hidden_size=32, intermediate_size=48, projection_dim=32)
    for part in ("geometry_encoder", "detr_encoder", "detr_decoder", "mask_decoder"):
        config[f"{part}_config"]["hidden_size"] = 32
    for part in ("geometry_encoder", "detr_encoder", "detr_decoder"):
        config[f"{part}_config"]["intermediate_size"] = 48
    return config


def micro_overrides(folder: Path) -> list[str]:
    """Writes the structures into `folder`; returns KEY VALUE words for `make_config`."""
    folder.mkdir(parents=True, exist_ok=True)
    vlm, segmenter = folder / "vlm.json", folder / "segmenter.json"
    vlm.write_text(json.dumps(VLM))
    segmenter.write_text(json.dumps(segmenter_config()))
    words = {
        "MODEL.DEVICE": "cpu",
        "MODEL.META_ARCHITECTURE": "Detecture",
        "MODEL.VLM.CONFIG": str(vlm),
        "MODEL.VLM.IMAGE_SIZE": "64",
        "MODEL.VLM.PROMPTS": "tiny",
        "MODEL.VLM.MAX_NEW_TOKENS": "40",
        "MODEL.SEGMENTER.CONFIG": str(segmenter),
        "INPUT.TRAIN_SIZE": "56",
        "INPUT.MICRO_CROP.PROB": "0.0",
        "DATALOADER.NUM_WORKERS": "0",
        "OUTPUT_DIR": str(folder / "output"),
    }
    return [word for pair in words.items() for word in pair]


def micro_model(folder: Path, *overrides: str, seed: int = 0):
    """A model whose random head is the same for the same seed."""
    torch.manual_seed(seed)
    return build_model(make_config(None, [*micro_overrides(folder), *overrides]))


def training_batch(regions=(2, 3), size: int = 56) -> list[dict]:
    """Mapped training dicts of images with so many upright strips each."""
    generator = np.random.default_rng(0)
    batch = []
    for number, k in enumerate(regions):
        labels = torch.arange(size).mul(k + 1).div(size, rounding_mode="floor")
        image = torch.from_numpy(generator.integers(0, 256, (3, size, size), dtype=np.uint8))
        batch.append(
            {
                "image": image,
                "image_id": f"image_{number}",
                "file_name": f"image_{number}.png",
                "height": size,
                "width": size,
                "sem_seg": labels.expand(size, size).clone(),
                "descriptions": [f"Texture of grey stripes {i} on the left" for i in range(k)],
            }
        )
    return batch


def evaluation_batch(sizes=((56, 56), (40, 70)), k=None) -> list[dict]:
    """Mapped evaluation dicts of noise."""
    generator = np.random.default_rng(1)
    return [
        {
            "image": torch.from_numpy(generator.integers(0, 256, (3, *size), dtype=np.uint8)),
            "image_id": f"image_{number}",
            "file_name": f"image_{number}.png",
            "height": size[0],
            "width": size[1],
            "k_hint": KHint() if k is None else KHint("fixed", k),
        }
        for number, size in enumerate(sizes)
    ]

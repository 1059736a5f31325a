"""A SAM 3 of 56 pixels with random weights, by either backend, and its toy tokenizer."""

import pytest
import torch

from detecture.modeling.segmenter import Sam3Meta

WIDTH, TEXT, SIDE = 16, 24, 56


def structure():
    """A SAM 3 of 56 px: grid 7x7 of 8 px, windows of 4 that do not divide it, levels 28, 14, 7."""
    return {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 32,
                "intermediate_size": 72,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": SIDE,
                "patch_size": 8,
                "pretrain_image_size": 32,
                "window_size": 4,
                "global_attn_indexes": [1],
                "layer_norm_eps": 1e-5,
                "initializer_range": 0.2,
            },
            "fpn_hidden_size": WIDTH,
            "initializer_range": 0.2,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": 50,
            "hidden_size": TEXT,
            "intermediate_size": 4 * TEXT,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 6,
            "hidden_act": "gelu",
            "bos_token_id": 48,
            "eos_token_id": 49,
        },
        **{
            f"{part}_config": {
                "hidden_size": WIDTH,
                "num_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 40,
                "initializer_range": 0.2,
            }
            for part in ("geometry_encoder", "detr_encoder", "detr_decoder")
        },
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "num_attention_heads": 2,
            "initializer_range": 0.2,
        },
    }


def tokenize(phrases):
    """Toy tokenizer: the letters' places in the alphabet, 6 tokens, 0 behind the end."""
    ids = torch.zeros(len(phrases), 6, dtype=torch.int64)
    for row, phrase in zip(ids, phrases, strict=True):
        row[: len(phrase)] = torch.tensor([ord(letter) - 96 for letter in phrase])
    return ids, ids != 0


def make(kind, **options):
    torch.manual_seed(0)
    if kind is Sam3Meta:
        pytest.importorskip("sam3", reason="needs Meta's package: pip install detecture[meta-sam3]")
    options = {"tokenizer": tokenize, "with_text": True, **options}
    return kind(structure=structure(), **options)


def encode(segmenter, images):
    with torch.no_grad():
        return segmenter.encode_image(segmenter.preprocess(images))

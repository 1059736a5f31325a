"""A toy data set in the published layout and a toy model that trains."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.data import register_texture_dataset


def write_toy_dataset(root: Path, count: int = 6, k: int = 2, size: int = 32) -> Path:
    """`count` images of `k` upright strips of plain colours with noise; returns the JSON."""
    generator = np.random.default_rng(0)
    for folder in ("images", "textures_mask"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(count):
        # Strips of uneven width, so that no trivial answer is perfect.
        cuts = np.sort(generator.choice(np.arange(4, size - 4, 4), size=k - 1, replace=False))
        strip = np.searchsorted(cuts, np.arange(size), side="right")
        labels = np.broadcast_to(strip, (size, size))
        colors = generator.permutation(np.linspace(20, 235, k)).astype(int)
        image = colors[labels][..., None] + generator.integers(-15, 16, (size, size, 3))
        image_id = f"toy_{number}"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"images/{image_id}.png")
        textures = []
        for index in range(k):
            path = f"textures_mask/{image_id}_mask_{index}.png"
            Image.fromarray(((labels == index) * 255).astype(np.uint8)).save(root / path)
            textures.append({"description": f"Texture of strip {index}", "mask_path": path})
        entries.append(
            {"id": image_id, "image_path": f"images/{image_id}.png", "textures": textures}
        )
    json_file = root / "metadata.json"
    json_file.write_text(json.dumps(entries))
    return json_file


def register_toy_dataset(json_file: Path, k_regime: str = "pair") -> str:
    """Register it under a name of its own; returns the name."""
    name = f"toy_{abs(hash(str(json_file)))}"
    register_texture_dataset(name, json_file, json_file.parent, k_regime=k_regime)
    return name


@META_ARCH_REGISTRY.register()
class ToySegmenter(nn.Module):
    """Two 1x1 convolutions that score bright against dark; small enough to train in a second."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 2, 1))
        self.dustbin_logit = cfg.TEST.DUSTBIN_LOGIT

    def _scores(self, sample):
        weight = next(self.parameters())
        image = sample["image"].to(weight.device, weight.dtype) / 127.5 - 1.0
        return self.layers(image[None])[0]

    def forward(self, batched_inputs):
        if self.training:
            losses = []
            for sample in batched_inputs:
                # Strip colours are shuffled: the brighter half of the image is class 1.
                bright = sample["image"].float().mean(0) > sample["image"].float().mean()
                losses.append(
                    nn.functional.cross_entropy(self._scores(sample)[None], bright.long()[None])
                )
            return {"loss_mask": torch.stack(losses).mean()}
        outputs = []
        for sample in batched_inputs:
            scores = self._scores(sample)
            dustbin = torch.full_like(scores[:1], -1.0e4)
            outputs.append(
                {
                    "sem_seg": torch.cat([scores, dustbin]),
                    "descriptions": ["dark", "bright"],
                    "status": "ok",
                }
            )
        return outputs

"""A toy model with all that a trainer may meet: parts, stages, dropout, losses that depend on K."""

import torch
from torch import nn

from detecture.d2 import META_ARCH_REGISTRY, CfgNode
from detecture.errors import CheckpointError

STATE = ("bridge", "vlm")


@META_ARCH_REGISTRY.register()
class StagedToy(nn.Module):
    """A frozen layer, a bridge with dropout that trains in both stages, a VLM from stage 2 on."""

    poisoned = ""
    """File whose loss is NaN."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(cfg.MODEL.RANDOM_WEIGHTS_SEED)
        self.frozen = nn.Linear(3, 8)
        self.bridge = nn.Linear(8, 8)
        self.dropout = nn.Dropout(cfg.MODEL.BRIDGE.DROPOUT)
        self.vlm = nn.Linear(8, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        self.to(getattr(torch, cfg.MODEL.DTYPE))
        self.stage = 0
        self.set_stage(2)

    def set_stage(self, stage):
        self.stage = stage
        self.frozen.requires_grad_(False)
        self.vlm.requires_grad_(stage == 2)

    def parameter_groups(self):
        return [
            {"name": "bridge", "params": list(self.bridge.parameters())},
            {"name": "vlm", "params": list(self.vlm.parameters())},
        ]

    def loss_normalizers(self, batch):
        return {
            "slots": sum(len(sample["descriptions"]) for sample in batch),
            "weights": sum(0.5 + len(sample["descriptions"]) ** 2 for sample in batch),
        }

    def _features(self, sample):
        weight = self.frozen.weight
        image = sample["image"].to(weight.device, weight.dtype) / 127.5 - 1.0
        pixels = image.flatten(1).T[::7]
        return self.vlm(self.dropout(torch.tanh(self.bridge(self.frozen(pixels)))))

    def forward(self, batch, normalizers=None):
        if not self.training:
            return [self._output(sample) for sample in batch]
        normalizers = normalizers or self.loss_normalizers(batch)
        mask_losses, lm_losses = [], []
        for sample in batch:
            features = self._features(sample)
            k = len(sample["descriptions"])
            labels = sample["sem_seg"].flatten()[::7].to(features.device)
            loss = nn.functional.cross_entropy(features, labels.clamp(max=3))
            if self.poisoned and self.poisoned in sample["file_name"]:
                loss = loss * float("nan")
            mask_losses.append(loss * k)
            lm_losses.append(features.square().mean() * (0.5 + k**2))
        losses = {"loss_mask": sum(mask_losses) / normalizers["slots"]}
        if self.stage == 2:
            losses["loss_lm"] = 0.1 * sum(lm_losses) / normalizers["weights"]
        return losses

    def _output(self, sample):
        height, width = sample["height"], sample["width"]
        # Draws random numbers: an evaluation must not change what training draws.
        scores = torch.rand(2, height, width) + self.bridge.bias.sum().item()
        return {
            "sem_seg": torch.cat([scores.float(), torch.full((1, height, width), -1.0e4)]),
            "descriptions": ["a", "b"],
            "status": "ok",
        }

    def checkpoint_state(self):
        return {k: v for k, v in self.state_dict().items() if k.startswith(STATE)}

    def load_checkpoint_state(self, state):
        if set(state) != set(self.checkpoint_state()):
            raise CheckpointError(f"names differ: {sorted(state)}")
        self.load_state_dict(state, strict=False)

    def checkpoint_header(self):
        return {"prompts": "toy"}

    def load_checkpoint_header(self, header):
        self.header = header

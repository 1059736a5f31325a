"""Tiny and weightless models of open-vocabulary segmentation, and samples for them."""

import torch
from classes_toy import CONFIG, OVERRIDES, REPO

from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY
from detecture.data.vocabulary import Vocabulary
from detecture.modeling import build_model

TURNED = ["MODEL.CLIP.FINETUNE", "orthogonal", "MODEL.CLIP.ORTHOGONAL.BLOCK", "16"]
PARTS = {
    "energy": ["MODEL.ADAPTIVE_ENERGY.ENABLED", "True", *TURNED],
    "fpn": ["MODEL.SPHERICAL_FPN.ENABLED", "True"],
    "projection": ["MODEL.CLASS_PROJECTION.ENABLED", "True", "MODEL.CLASS_PROJECTION.RANK", "8"],
    "distillation": ["MODEL.DISTILLATION.ENABLED", "True"],
    "rectification": ["MODEL.RECTIFICATION.ENABLED", "True"],
    "prototypes": ["MODEL.PROTOTYPES.ENABLED", "True"],
}
"""What switches each part of AHS-Seg on."""
ALL_PARTS = [text for overrides in PARTS.values() for text in overrides]
NAMES = ("sky", "wet sand", "reed")
CLASSES = Vocabulary.of(list(NAMES))


def toy_config(arch="CATSeg", *more):
    return make_config(CONFIG, [*OVERRIDES, "MODEL.META_ARCHITECTURE", arch, *more])


def toy_model(arch="CATSeg", *more, seed=0):
    """A model of a few thousand parameters beside its embeddings; the same ones for a seed."""
    torch.manual_seed(seed)
    return build_model(toy_config(arch, *more))


def weightless(name, *more):
    """The model of a config of `configs/ahs_seg` at full size, on the `meta` device, and its
    config."""
    given = ["MODEL.CLIP.BASE", "", "DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    cfg = make_config(REPO / f"configs/ahs_seg/{name}.yaml", [*given, *more])
    with torch.device("meta"):
        return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg), cfg


def toy_sample(seed=0, size=(64, 64), classes=3, vocabulary=CLASSES):
    """Noise, with bands of all classes and a strip without a label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size[0])[:, None].mul(classes).div(size[0], rounding_mode="floor")
    labels = labels.expand(size).clone()
    labels[:, : size[1] // 8] = 255
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    found = {"image": image, "sem_seg": labels, "height": size[0], "width": size[1]}
    return found if vocabulary is None else {**found, "vocabulary": vocabulary}


def disturb(parameters, by=0.1, seed=0):
    """Move parameters (in place) away from where they start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)

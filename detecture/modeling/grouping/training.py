"""What TextureGrouping's net is trained with: a batch of images and regions in, a loss out."""

import zlib
from typing import Any

import torch
from torch import Tensor

from detecture.config.sections.losses import GroupingLossSettings
from detecture.modeling.grouping.loss import grouping_loss, sample_pixels
from detecture.modeling.grouping.net import STRIDE, GroupingNet


def net_loss(
    net: GroupingNet,
    samples: list[dict[str, Any]],
    settings: GroupingLossSettings,
) -> Tensor:
    """The grouping loss of a batch.

    Args:
        net: gives embeddings.
        samples: mapped dicts with `image` and `sem_seg`, all of one size; label 0 is left out.
        settings: of the loss; which pixels are drawn follows from the images' names.

    Returns:
        Scalar.
    """
    device = net.out.weight.device
    images_B3HW = torch.stack([sample["image"] for sample in samples]).to(device)
    images_B3HW = (images_B3HW.float() / 255.0).contiguous(memory_format=torch.channels_last)
    labels_BHW = torch.stack([sample["sem_seg"] for sample in samples])
    labels_BM = (labels_BHW[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] - 1).flatten(1)
    names = "\n".join(sample["image_id"] for sample in samples)
    generator = torch.Generator().manual_seed(zlib.crc32(names.encode()))
    sampled_BP = sample_pixels(labels_BM, settings.pixels, generator)
    return grouping_loss(
        net(images_B3HW).flatten(2),
        labels_BM.to(device),
        sampled_BP.to(device),
        temperature=settings.temperature,
        contrast_weight=settings.contrast_weight,
    )

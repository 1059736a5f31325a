"""Number formats that models can have."""

import torch

from detecture.config.sections.model import ModelSettings

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ModelSettings.choices_of("dtype")
}
"""By the words of MODEL.DTYPE."""

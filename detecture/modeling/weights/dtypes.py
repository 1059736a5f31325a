"""Number formats that models can have."""

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
"""By the words of MODEL.DTYPE."""

"""A tiny SAM 2 of transformers in which every weight matters, and images for it."""

import pytest
import torch

from detecture.modeling.sam2 import build_processor, build_sam2


@pytest.fixture(scope="session")
def sam2():
    model = build_sam2("", "tiny", 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        # Biases, norms and positions start at 0 or 1, where a mix-up of two would not show.
        for name, tensor in sorted(model.state_dict().items()):
            if not name.endswith("positional_embedding"):
                tensor += 0.02 * torch.randn(tensor.shape, generator=generator)
    model.mask_decoder.dynamic_multimask_via_stability = False
    return model


@pytest.fixture(scope="session")
def processor(sam2):
    return build_processor(sam2)


@pytest.fixture
def make_image():
    """Image of any size: a few blocks of noise, uint8 (3,H,W)."""

    def make(height, width):
        generator = torch.Generator().manual_seed(height * 1000 + width)
        blocks = torch.randint(0, 256, (1, 3, 4, 4), generator=generator).float()
        large = torch.nn.functional.interpolate(blocks, (height, width), mode="nearest")[0]
        noise = torch.randint(0, 20, (3, height, width), generator=generator)
        return (large * 0.9 + noise).to(torch.uint8)

    return make

"""What tests of converted and of merged checkpoints share."""

import torch
from micro import evaluation_batch, micro_model

from detecture.config import make_config
from detecture.engine.evaluate import load_model

RELEASED = ("MODEL.VLM.STOP_SUPERVISION", "released")


def perturbed(folder, *overrides, seed=3):
    """A model of which all that trains differs from what a fresh one starts with."""
    model = micro_model(folder, *overrides, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for group in model.parameter_groups():
            for parameter in group["params"]:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def loaded(words, weights, *extra):
    torch.manual_seed(77)
    return load_model(make_config(None, [*words, *extra, "MODEL.WEIGHTS", str(weights)]))


def assert_same_predictions(ours, theirs, tolerance=1e-5):
    batch = evaluation_batch()
    oracle = [
        dict(sample, descriptions=texts)
        for sample, texts in zip(batch, [["moss", "sand on the left"], ["wool"]], strict=True)
    ]
    for questions in (batch, oracle):
        for a, b in zip(ours(questions), theirs(questions), strict=True):
            assert a["generated_text"] == b["generated_text"]
            assert a["descriptions"] == b["descriptions"]
            assert torch.allclose(a["sem_seg"], b["sem_seg"], atol=tolerance)

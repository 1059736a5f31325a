"""What does not fit between the tensors that are due and those that are there."""

from collections.abc import Mapping

import torch


def misfits(due: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> list[str]:
    """A phrase for each name that is missing, left over, or of another shape.

    Args:
        due: tensors of the model, by name.
        found: tensors of the file.
    """
    problems = [f"missing: {name}" for name in due if name not in found]
    problems += [f"left over: {name}" for name in found if name not in due]
    return problems + [
        f"shape of {name}: {tuple(found[name].shape)} in the file, {tuple(tensor.shape)} in "
        "the model"
        for name, tensor in due.items()
        if name in found and found[name].shape != tensor.shape
    ]

"""Mismatches between the expected tensors and those found."""

from collections.abc import Mapping

import torch

from detecture.errors import CheckpointError


def misfits(due: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> list[str]:
    """A phrase for each name that is missing, left over, or of another shape.

    Args:
        due: tensors of the model, by name, of any shapes.
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


def take_over(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    """Copy given values into a model's tensors (in place), in the model's number format.

    Args:
        own: tensors of the model, by name, of any shapes.
        given: tensors of a checkpoint, by the same names.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape; all are named, and
            nothing is changed.
    """
    if problems := misfits(own, given):
        raise CheckpointError(
            "the checkpoint does not fit the model: " + "; ".join(problems) + ". Use the config "
            "that it was trained with"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])

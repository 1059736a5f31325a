"""Whether a checkpoint goes with the parts of a model that it does not hold."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from detecture.errors import CheckpointError
from detecture.modeling.weights.random_weights import RANDOM_WEIGHTS

logger = logging.getLogger(__name__)


def check_header(own: Mapping[str, Any], theirs: Mapping[str, Any], keys: Collection[str]) -> None:
    """Compare what a model and a checkpoint say of frozen weights and of settings.

    Weights that were loaded may lie elsewhere by now, so another name of them is only a warning;
    other random weights are certainly not those of the training.

    Args:
        own: header of the model.
        theirs: header of the checkpoint.
        keys: what matters; a key that the checkpoint does not have is passed over.

    Raises:
        CheckpointError: a frozen part had other random weights.
    """
    for key in keys:
        if theirs.get(key, own[key]) == own[key]:
            continue
        told = f"the checkpoint was trained with {key} {theirs[key]!r}, this model has {own[key]!r}"
        if RANDOM_WEIGHTS in str(theirs[key]) and RANDOM_WEIGHTS in str(own[key]):
            raise CheckpointError(f"{told}; use the config that it was trained with")
        logger.warning("%s; unless these are the same, its answers mean nothing", told)

"""The sections of the config: each key's name, default, range and meaning, once."""

from detecture.config.sections import (
    baselines,
    describer,
    detecture,
    evaluation,
    grouping,
    images,
    losses,
    miner,
    miner_stages,
    model,
    semantic,
    training,
)

__all__ = [
    "baselines",
    "describer",
    "detecture",
    "evaluation",
    "grouping",
    "images",
    "losses",
    "miner",
    "miner_stages",
    "model",
    "semantic",
    "training",
]

"""The project's config: its keys (`keys`), and their strict and safe loading (`loading`)."""

from detecture.config.checks import check_values
from detecture.config.keys import add_detecture_config
from detecture.config.loading import (
    make_config,
    merge_overrides,
    merge_yaml_file,
)

__all__ = [
    "add_detecture_config",
    "check_values",
    "make_config",
    "merge_overrides",
    "merge_yaml_file",
]

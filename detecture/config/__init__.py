"""The project's config: its keys (`keys`, `defaults`), and strict and safe loading (`loading`)."""

from detecture.config.checks import check_values
from detecture.config.defaults import add_detecture_config
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

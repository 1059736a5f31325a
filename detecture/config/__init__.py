"""The project's config: its keys (`sections`), and their strict and safe loading (`loading`)."""

from detecture.config import sections
from detecture.config.checks import add_detecture_config, check_values
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
    "sections",
]

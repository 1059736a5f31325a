"""Settings of the describers and of how they are run (MINER.DESCRIBE)."""

from detecture.config.sections.miner_stages import DescribeSettings

DESCRIBERS = DescribeSettings.choices_of("describer")

__all__ = ["DESCRIBERS", "DescribeSettings"]

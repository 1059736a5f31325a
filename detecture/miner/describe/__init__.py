"""Sentences about the regions of images: by measuring, by a VLM here, or by an endpoint."""

from detecture.miner.describe.build import build_describer
from detecture.miner.describe.costs import DescribeEstimate, estimate
from detecture.miner.describe.interface import DescribeTask, MinerDescriber, Said
from detecture.miner.describe.prompt import RegionLook
from detecture.miner.describe.running import DescribeRunner, DescribeStopped
from detecture.miner.describe.settings import DESCRIBERS, DescribeSettings

__all__ = [
    "DESCRIBERS",
    "DescribeEstimate",
    "DescribeRunner",
    "DescribeSettings",
    "DescribeStopped",
    "DescribeTask",
    "MinerDescriber",
    "RegionLook",
    "Said",
    "build_describer",
    "estimate",
]

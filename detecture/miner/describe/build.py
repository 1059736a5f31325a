"""Makes the describer that the settings name."""

from __future__ import annotations

from detecture.d2 import CfgNode
from detecture.errors import MinerError
from detecture.miner.describe.interface import MinerDescriber, require_known
from detecture.miner.describe.prompt import RegionLook
from detecture.miner.describe.settings import DESCRIBERS, DescribeSettings


def build_describer(
    settings: DescribeSettings, cfg: CfgNode | None = None, look: RegionLook | None = None
) -> MinerDescriber:
    """The describer of MINER.DESCRIBE.DESCRIBER; nothing is sent yet.

    Args:
        settings: MINER.DESCRIBE.
        cfg: the whole config; a local VLM is that of its MODEL.VLM.
        look: of the overlay; None, or MINER.DESCRIBE.OVERLAY False: only the image is shown.

    Raises:
        MinerError: it is not known, images may not be sent, or a key or package is missing.
        CheckpointError: weights cannot be had.
    """
    require_known(settings.describer, DESCRIBERS)
    look = look if settings.overlay else None
    if settings.describer == "openai":
        from detecture.miner.describe.openai_endpoint import OpenAiDescriber

        return OpenAiDescriber(settings, look)
    if settings.describer == "anthropic":
        from detecture.miner.describe.anthropic_api import AnthropicDescriber

        return AnthropicDescriber(settings, look)
    if settings.describer == "local_vlm":
        from detecture.miner.describe.local_vlm import LocalVlmDescriber

        if cfg is None:
            raise MinerError("the describer local_vlm needs the config, whose MODEL.VLM it is")
        return LocalVlmDescriber.from_config(cfg, look, settings.batch_size)
    from detecture.miner.describe.offline import OfflineDescriber

    return OfflineDescriber.shipped() if settings.offline_model else OfflineDescriber()

"""People's corrections, kept beside the stages' results and used in their place."""

from collections.abc import Mapping
from typing import Any

from detecture.config.sections.miner_stages import ExtractSettings
from detecture.d2 import CfgNode
from detecture.miner.extract import TOO_FEW
from detecture.miner.journal import OK, Result

CORRECTIONS = "corrections"
"""Name of the journal, and of the folder of the index masks in OUTPUT_DIR."""

CORRECTIONS_HASH = "corrections"
"""In the place of a stage's hash: no key changes what a person has drawn."""


def corrected_results(correction: Mapping[str, Any], cfg: CfgNode) -> dict[str, Result]:
    """What replaces the results of stages, by the stages' names.

    Descriptions do so where every region has one; otherwise the missing ones are written, and the
    others kept.

    Args:
        correction: of the journal; empty: nothing is replaced.
        cfg: the config; it says how many regions an image needs.
    """
    if not correction:
        return {}
    settings = ExtractSettings.from_config(cfg)
    regions, texts = correction["regions"], correction["descriptions"]
    status = OK if len(regions) >= settings.min_regions else TOO_FEW
    results: dict[str, Result] = {
        "extract": {
            "status": status,
            "size": correction["size"],
            "regions": regions,
            "index_mask": correction["index_mask"],
        }
    }
    if not all(text.strip() for text in texts):
        results["extract"] |= {"texts": texts, "corrected_with": correction["corrected_with"]}
    else:
        results["describe"] = {
            "status": OK,
            "describer": correction["corrected_with"],
            "offline": False,
            "model": "",
            "descriptions": texts,
            "attempts": 0,
            "tokens": [0, 0],
            "cost": 0.0,
        }
    return results

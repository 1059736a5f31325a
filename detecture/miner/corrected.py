"""What people have corrected, kept beside what the stages have done, and used in its place."""

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
    """What stands in the place of stages' results, by their names.

    Descriptions do where every region has one; else those that are missing are written, and the
    others kept.

    Args:
        correction: of the journal; empty: nothing stands in their place.
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

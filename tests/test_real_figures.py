"""The figures that README states, on the real images; skipped where those are not there."""

from pathlib import Path

import pytest

from detecture.config import make_config
from detecture.engine import evaluate, load_model

CONFIGS = Path(__file__).parents[1] / "configs/baselines"

# config, folder, data set, TEST.COUNT, {metric: (least, most)}
ROWS = [
    ("floor_one_region", "RWTD", "rwtd", "regime", {"mIoU": (0.316, 0.336), "ARI": (0.0, 0.0)}),
    ("floor_half_split", "RWTD", "rwtd", "regime", {"mIoU": (0.484, 0.504)}),
    ("texture_clusters", "RWTD", "rwtd", "regime", {"mIoU": (0.81, 1), "ARI": (0.67, 1)}),
    ("texture_clusters", "RWTD", "rwtd", "autonomous", {"pIoU": (0.73, 1)}),
    ("texture_clusters", "BSDS_coarse", "bsds_coarse", "autonomous", {"pIoU": (0.30, 1)}),
    ("texture_clusters", "BSDS_coarse", "bsds_coarse", "per_image", {"pIoU": (0.40, 1)}),
    (
        *("floor_one_region", "BSDS500", "bsds500_train", "regime"),
        {"covering": (0.373, 0.393), "PRI": (0.373, 0.393), "VI": (1.90, 1.94)},
    ),
    (
        *("texture_clusters", "BSDS500", "bsds500_train", "regime"),
        {"covering": (0.49, 1), "PRI_parts": (0.67, 1), "VI_parts": (0, 1.9)},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "folder", "name", "count", "bars"),
    ROWS,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_figures(config, folder, name, count, bars, require_dataset, tmp_path):
    require_dataset(folder)
    overrides = ["DATASETS.TEST", repr((name,)), "OUTPUT_DIR", str(tmp_path), "TEST.COUNT", count]
    cfg = make_config(CONFIGS / f"{config}.yaml", overrides)
    (found,) = evaluate(cfg, load_model(cfg)).values()
    assert found["n_ok"] == found["n_total"] > 0
    for metric, (least, most) in bars.items():
        assert least <= found[metric] <= most, (metric, found[metric])

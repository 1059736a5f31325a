"""What a label map of 847 classes costs in memory: CAT-Seg on ViT-B/16, random weights.

All widths, names and windows are those of the full size. CLIP has fewer blocks and the aggregation
one layer: each frees what it took before the next begins, so the peak is that of the full depth
(measured: within a tenth), and the test is done in less time.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from detecture.modeling.clip.build import STRUCTURES

REPO = Path(__file__).parents[2]
MEASURE = """
import json, sys
import numpy as np
import torch
from detecture import SemanticPredictor
from detecture.data.vocabulary import Vocabulary
from detecture.profiling.clock import peak_memory, reset_peak_memory

torch.set_num_threads(1)
config, sizes, *overrides = sys.argv[1:]
predictor = SemanticPredictor.from_config(config, [*overrides, "MODEL.DEVICE", "cpu"])
classes = Vocabulary.load("ade_847")
above = {}
for size in sizes.split(","):
    height, width = map(int, size.split("x"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    predictor.model.texts._kept.clear()  # the second image pays for its text, too
    before = reset_peak_memory(False)
    result = predictor(image, classes)
    above[size] = peak_memory(False) - before
    assert result.label_map.shape == (height, width)
print(json.dumps(above))
"""
SIZES = {"640x640": 640 * 640, "3000x4000": 3000 * 4000}
"""Height and width, and their product."""


@pytest.fixture
def shallow(tmp_path):
    """The structure of ViT-B/16 with fewer blocks."""
    structure = json.loads((STRUCTURES / "vit_b16.json").read_text())
    structure["vision_config"]["num_hidden_layers"] = 3
    structure["text_config"]["num_hidden_layers"] = 2
    file = tmp_path / "shallow.json"
    file.write_text(json.dumps(structure))
    return str(file)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_label_map_of_847_classes(shallow):
    config = str(REPO / "configs/ahs_seg/cat_seg_vitb.yaml")
    overrides = ["MODEL.CLIP.BASE", "", "MODEL.CLIP.CONFIG", shallow]
    overrides += ["MODEL.COST_AGGREGATION.LAYERS", "1", "DATASETS.TEST", "()"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, config, ",".join(SIZES), *overrides],
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    above = json.loads(done.stdout.splitlines()[-1])
    print({size: f"{value / 1e9:.2f} GB" for size, value in above.items()})
    small, large = (above[size] for size in SIZES)
    assert small <= 1.1e9
    # No more but for what has (H,W): the label map, two bytes a pixel, and its scores, four.
    assert large <= small + 6 * SIZES["3000x4000"]

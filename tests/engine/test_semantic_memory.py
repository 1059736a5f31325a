"""What a label map of 847 classes costs in memory, at full size: ViT-B/16, random weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
MEASURE = """
import ctypes, json, sys
import numpy as np
from detecture import SemanticPredictor
from detecture.data.vocabulary import Vocabulary

def memory(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))

config, *sizes = sys.argv[1:]
predictor = SemanticPredictor.from_config(
    config, ["MODEL.CLIP.BASE", "", "MODEL.DEVICE", "cpu"]
)
classes = Vocabulary.load("ade_847")
above = {}
for size in sizes:
    height, width = map(int, size.split("x"))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    predictor.model.texts._kept.clear()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = memory("VmRSS")
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts anew
    result = predictor(image, classes)
    above[size] = memory("VmHWM") - before
    assert result.label_map.shape == (height, width)
print(json.dumps(above))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_label_map_of_847_classes():
    config = str(REPO / "configs/ahs_seg/cat_seg_vitb.yaml")
    sizes = ["640x640", "3000x4000"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, config, *sizes], cwd=REPO, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    above = json.loads(done.stdout.splitlines()[-1])
    assert above["640x640"] <= 1.1e9
    # Outputs of (H,W): the label map, two bytes, and its scores, four; and some (H,W) on the way.
    outputs = 3000 * 4000 * 6
    assert above["3000x4000"] <= above["640x640"] + 3 * outputs
    print({size: f"{value / 1e9:.2f} GB" for size, value in above.items()})

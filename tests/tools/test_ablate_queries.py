"""tools/ablate_queries.py: does it see what the vectors do?"""

import importlib.util
from pathlib import Path

import pytest
import torch
from micro import micro_model, micro_overrides
from toy import write_toy_dataset

from detecture.config import make_config
from detecture.data import register_dataset_json
from detecture.modeling.heads import SlotLogits

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ablate_queries.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("ablate_queries_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dataset(tmp_path):
    return register_dataset_json(write_toy_dataset(tmp_path / tmp_path.name, count=3, k=2))


class StripsByRank(torch.nn.Module):
    """A head that knows the image: the greater a region's first state, the further left."""

    decoding = "multiplexed"

    def forward(self, segmenter, features, states_BKD, count_B):
        order = states_BKD[0, :, 0].argsort(descending=True)
        logits = torch.zeros(3, 64, 64)
        logits[0] = -1.0
        if len(set(states_BKD[0, :, 0].tolist())) == 2:
            logits[1 + order[0], :, :32] = logits[1 + order[1], :, 32:] = 1.0
        return SlotLogits(logits, torch.zeros(3, dtype=torch.int64), torch.arange(3))


def test_a_model_that_reads_its_vectors_is_told_from_one_that_does_not(tool, dataset, tmp_path):
    cfg = make_config(None, [*micro_overrides(tmp_path / "micro"), "TEST.ORACLE", "True"])
    model = micro_model(tmp_path / "micro").eval()
    read = model.read

    def ranked(samples):
        regions = read(samples)
        regions.states_BKD[0, :2, 0] = torch.tensor([2.0, 1.0])
        return regions

    model.read = ranked
    model.head = StripsByRank()
    report = tool.ablate(cfg, model, dataset)
    assert report["images"] == 3
    rows = report["variants"]
    assert list(rows) == list(tool.VARIANTS)
    own = {name: row["own IoU"] for name, row in rows.items()}
    assert own["as they are"] > own["shuffled"] + 0.15  # every region gets the other's mask
    assert rows["shuffled"]["matched IoU"] == pytest.approx(rows["as they are"]["matched IoU"])
    assert 0.0 < own["zeroed"] < 0.5  # all is one region
    assert own["another image"] == own["as they are"]  # all images have the same vectors
    assert tool.format_table(report).count("\n") == 5


def test_the_command_and_wrong_input(tool, dataset, tmp_path, capsys):
    (tmp_path / "empty.yaml").write_text("")
    words = ["--config-file", str(tmp_path / "empty.yaml"), "--dataset", dataset, "--limit", "2"]
    out = tmp_path / "out.json"
    micro = micro_overrides(tmp_path / "micro")
    assert tool.main([*words, "--json", str(out), *micro]) == 0
    assert "another image" in capsys.readouterr().out
    assert '"images": 2' in out.read_text()
    assert tool.main([*words[:-1], "1", *micro]) == 2
    assert "needs two images" in capsys.readouterr().err
    assert tool.main(words) == 2
    assert "only Detecture has" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_kept(tool, tmp_path, capsys):
    out = tmp_path / "out.json"
    out.write_text("mine")
    config = str(Path(__file__).parents[2] / "configs/detecture_tiny.yaml")
    assert tool.main(["--config-file", config, "--json", str(out)]) == 2
    assert "choose another --json, or give --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"

"""`tools/analyze_model.py`: the published size counted without weights, and the tables."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from detecture.checkpoint.shipped import MODELS
from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.config import make_config
from detecture.d2 import META_ARCH_REGISTRY
from detecture.modeling.build import build_model
from detecture.profiling.counting import adapter_bytes, part_of

REPO = Path(__file__).parents[2]
FULL = str(REPO / "configs/detecture_qwen3vl8b_sam3.yaml")
TINY = str(REPO / "configs/detecture_tiny.yaml")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("analyze_model", REPO / "tools/analyze_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(tool, capsys, *arguments):
    assert tool.main([*arguments[:2], "--json", *arguments[2:]]) == 0
    return json.loads(capsys.readouterr().out)


def test_full_size(tool, capsys):
    result = run(tool, capsys, "--config-file", FULL, "--meta", "--tasks", "parameter", "memory")
    parts = result["parameter"]
    assert {part: row["trained"] for part, row in parts.items() if row["trained"]} == {
        "vlm lora": 3_833_856,
        "seg rows": 8_192,
        "bridge": 4_197_376,
        "mask head": 197_376,
        "dustbin": 4_096,
        "total": 8_240_896,
    }
    assert parts["total"]["trained_tensors"] == 157
    assert parts["vlm vision"]["frozen"] + parts["vlm text"]["frozen"] == 8_767_123_696
    assert "segmenter other" not in parts
    assert result["adapter_bytes"] <= 40e6
    ours, published = result["memory"]["ours"], result["memory"]["published"]
    assert ours["moments"] == 2 * 4 * 8_240_896
    assert published["of_these_tables"] == pytest.approx(2.49e9, rel=0.005)
    assert published["of_these_moments_of_tables"] == pytest.approx(4.98e9, rel=0.005)


@pytest.mark.slow
def test_operations_at_full_size(tool, capsys):
    result = run(tool, capsys, "--config-file", FULL, "--meta", "--tasks", "flop")
    flops = {stage: row["flops"] / 1e12 for stage, row in result["stages"].items()}
    assert flops["segmenter_encoder"] == pytest.approx(5.61, abs=0.01)
    # 0.44 with a prompt of many words and the parts that this path leaves out.
    assert flops["slot"] == pytest.approx(0.39, abs=0.01)
    assert flops["prefill"] == pytest.approx(19.44, abs=0.01)
    assert result["stages"]["decode_per_token"]["weight_bytes"] == pytest.approx(15.3e9, rel=0.01)
    predicted = result["predicted"]["inference_2_regions"]["ratio"]
    assert predicted["extraction"] > 3
    assert predicted["masks"] == pytest.approx(7 / 3)
    assert predicted["decode"] == 1
    assert result["predicted"]["training_stage_1"]["ratio"]["total"] > 1.5


def test_tables_of_a_small_model(tool, capsys):
    tasks = ["parameter", "memory", "flop", "activation", "structure"]
    assert tool.main(["--config-file", TINY, "--tasks", *tasks]) == 0
    out = capsys.readouterr().out
    for text in ("adapter file", "gradients", "extraction_per_region", "activations", "Detecture:"):
        assert text in out
    assert "layers: ModuleList" in out or "Qwen3VLTextDecoderLayer x 4" in out


def test_the_computed_size_is_that_of_the_file():
    cfg = make_config(TINY, ["MODEL.DEVICE", "cpu", "MODEL.VLM.TRAIN", "lora"])
    model = build_model(cfg)
    header = make_header(cfg.dump(), model.checkpoint_header(), iteration=0)
    file = pack_weights(model.checkpoint_state(), header)
    assert adapter_bytes(model, cfg) == pytest.approx(len(file), abs=1024)


def test_every_parameter_has_a_part():
    cfg = make_config(TINY, ["MODEL.DEVICE", "cpu", "MODEL.VLM.TRAIN", "lora"])
    with torch.device("meta"):
        model = META_ARCH_REGISTRY.get("Detecture")(cfg)
    assert {part_of(name) for name, _ in model.named_parameters()} >= {"vlm text", "dustbin"}
    assert "segmenter other" not in {part_of(name) for name, _ in model.named_parameters()}


def test_another_method_is_refused(tool, capsys):
    floor = str(REPO / "configs/baselines/floor_half_split.yaml")
    assert tool.main(["--config-file", floor]) == 2
    said = "only TextureGrouping, Detecture, CATSeg, AHSSeg are counted"
    assert said in capsys.readouterr().err


def test_the_model_that_ships_is_counted_where_none_is_named(tool, capsys):
    assert tool.main(["--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    parts = result["parameter"]
    assert "other" not in parts and parts["total"]["frozen"] == 0
    weights, _ = read_weights(MODELS / "texture_grouping.safetensors")
    assert parts["total"]["trained"] == sum(tensor.numel() for tensor in weights.values())
    assert parts["total"]["trained_tensors"] == len(weights)
    net = parts["grouping nets"]["trained"] // 2
    assert result["memory"]["ours"]["gradients"] == 4 * net
    stages = result["stages"]
    assert set(stages) == {
        *("grouping_nets", "look_at_textures", "vlm_vision", "prefill", "decode_per_token"),
    }
    for cost in stages.values():
        assert cost["flops"] > 0 and cost["activations"] > 0 and cost["weight_bytes"] > 0
    # The first convolution alone: 5 x 5 x 3 to 24 channels at half of each side, of each view.
    stem = sum(2 * 24 * 75 * (side // 2) ** 2 for side in (256, 256, 320, 320))
    assert stages["grouping_nets"]["flops"] > 3 * stem
    assert result["work"]["views"] == 4


def test_what_the_model_that_ships_costs_follows_its_keys(tool, capsys):
    def cost(*overrides):
        assert tool.main(["--tasks", "parameter", "flop", "--json", *overrides]) == 0
        return json.loads(capsys.readouterr().out)

    given = cost()["stages"]["grouping_nets"]["flops"]
    bare = cost("MODEL.GROUPING.DESCRIBE", "False", "MODEL.GROUPING.FLIP", "False")
    assert set(bare["stages"]) == {"grouping_nets"}
    assert set(bare["parameter"]) == {
        "grouping nets",
        "count selector",
        "confidence of regions",
        "total",
    }
    assert bare["stages"]["grouping_nets"]["flops"] * 2 == given
    none = cost("MODEL.GROUPING.USE_NET", "False")["stages"]["grouping_nets"]
    assert none["flops"] == none["weight_bytes"] == 0


def open_vocabulary(tool, capsys, name, *more):
    config = str(REPO / f"configs/ahs_seg/{name}.yaml")
    return run(tool, capsys, "--config-file", config, *more)


def test_cat_seg_at_full_size_without_a_download(tool, capsys):
    result = open_vocabulary(tool, capsys, "cat_seg_vitb", "--tasks", "parameter", "flop")
    parts = result["parameter"]
    assert parts["total"]["trained"] == 25_115_873
    queries_and_values = [parts[f"clip {kind} encoder"]["trained"] for kind in ("image", "text")]
    assert sum(queries_and_values) == 20_447_232
    assert "other" not in parts
    assert result["work"] == {"views": 5, "names": 171, "tokens_per_name": 16}
    gigaflops = {stage: row["flops"] / 1e9 for stage, row in result["stages"].items()}
    # 24 x 24 patches and the class token through 12 blocks of ViT-B, the last one's values alone.
    assert gigaflops["image_encoder"] == pytest.approx(109.0, abs=0.1)
    assert gigaflops["text_encoder"] == pytest.approx(1.2, abs=0.1)
    assert gigaflops["head"] > gigaflops["image_encoder"]


@pytest.mark.parametrize("name", ["cat_seg_vitl", "h_clip_vitb", "vitb_384_enhanced"])
def test_the_other_open_vocabulary_models(tool, capsys, name):
    result = open_vocabulary(tool, capsys, name, "--tasks", "parameter", "memory", "structure")
    parts = result["parameter"]
    assert parts["total"]["trained"] * 4 == pytest.approx(result["memory"]["ours"]["gradients"])
    assert ("orthogonal adapter" in parts) == (name != "cat_seg_vitl")
    assert "other" not in parts


def test_more_names_than_are_aggregated(tool, capsys):
    config = str(REPO / "configs/ahs_seg/cat_seg_vitb.yaml")
    given = ["MODEL.CLIP.CONFIG", "tiny"]
    tasks = ["--tasks", "flop"]
    assert tool.main(["--config-file", config, *tasks, "--names", "847", *given]) == 2
    assert "--names is 1 to 256" in capsys.readouterr().err
    assert tool.main(["--config-file", config, "--names", "20", *given]) == 0
    out = capsys.readouterr().out
    assert "5 views, 20 names" in out and "published" not in out

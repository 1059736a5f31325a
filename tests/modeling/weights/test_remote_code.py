"""Models whose code comes with their weights: loaded for real, from a folder made here."""

import sys
from pathlib import Path

import pytest
import torch
from micro import evaluation_batch
from transformers import dynamic_module_utils
from transformers.utils import hub

from detecture.config import make_config
from detecture.errors import CheckpointError, ConfigError
from detecture.evaluation import scores_to_label_map
from detecture.modeling import build_model
from detecture.modeling.vlm.tokenizer import small_tokenizer
from detecture.modeling.weights.remote_code import load_remote_model, optional_flash_attention

SA2VA = Path(__file__).parents[3] / "configs/baselines/sa2va.yaml"

# Like the published code: it names flash-attn, and goes on without it.
CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel


def fast_attention():
    from flash_attn.flash_attn_interface import flash_attn_func

    return flash_attn_func


class PartsConfig(PretrainedConfig):
    model_type = "parts"


class Parts(PreTrainedModel):
    config_class = PartsConfig

    def __init__(self, config, use_flash_attn=True):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.use_flash_attn = use_flash_attn
        self.post_init()

    def predict_forward(self, image, text, past_text, mask_prompts, tokenizer):
        mask = torch.zeros(1, image.height, image.width, dtype=torch.bool)
        mask[..., : image.width // 4] = True
        assert len(tokenizer(text)["input_ids"])
        return {"prediction": "Sand [SEG]", "prediction_masks": [mask.numpy()]}
"""
CONFIG = """
{"model_type": "parts", "architectures": ["Parts"],
 "auto_map": {"AutoConfig": "modeling_parts.PartsConfig", "AutoModel": "modeling_parts.Parts"}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with weights, code and a tokenizer; what is made of the code stays in `tmp_path`."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(hub, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "parts"
    small_tokenizer().save_pretrained(path)
    (path / "config.json").write_text(CONFIG)
    (path / "modeling_parts.py").write_text(CODE)
    torch.save({"weight": torch.arange(3.0)}, path / "pytorch_model.bin")
    return path


def load(base, revision="b5ffed22", is_trusted=True, **options):
    return load_remote_model(
        str(base), revision, is_trusted=is_trusted, node="MODEL.SA2VA", **options
    )


def test_code_that_names_flash_attention_is_loaded_and_run(folder):
    model, tokenizer = load(folder, use_flash_attn=False)
    assert type(model).__name__ == "Parts"
    assert model.weight.tolist() == [0.0, 1.0, 2.0]
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert not model.use_flash_attn
    assert len(tokenizer) == len(small_tokenizer())


def test_sa2va_from_its_config(folder):
    words = ["MODEL.SA2VA.BASE", str(folder), "MODEL.SA2VA.TRUST_REMOTE_CODE", "True"]
    words += ["MODEL.DEVICE", "cpu"]
    model = build_model(make_config(SA2VA, words))
    (output,) = model(evaluation_batch(sizes=[(4, 8)], k=2))
    assert scores_to_label_map(output["sem_seg"]).tolist() == [[1, 1, 2, 2, 2, 2, 2, 2]] * 4
    assert output["generated_text"] == "Sand [SEG]"
    assert output["status"] == "ok"


def test_no_code_is_run_without_leave(folder):
    with pytest.raises(ConfigError, match=r"MODEL.SA2VA.TRUST_REMOTE_CODE is False"):
        load(folder, is_trusted=False)
    assert not (folder.parent / "modules").exists()


@pytest.mark.parametrize("revision", ["main", "", "v1.0", "b5ffed", "B5FFED22", "b5ffed22 "])
def test_only_commits_are_taken(folder, revision):
    with pytest.raises(ConfigError, match=r"MODEL.SA2VA.REVISION .* is no commit"):
        load(folder, revision)


def test_what_cannot_be_had(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"MODEL.SA2VA.BASE .*none.*HF_HUB_OFFLINE=1"):
        load(tmp_path / "none")
    (folder / "modeling_parts.py").write_text(CODE + "\nimport no_such_package\n")
    with pytest.raises(CheckpointError, match=r"(?s)ImportError.*release of transformers"):
        load(folder)


def test_the_filter_is_taken_away_again(tmp_path):
    original = dynamic_module_utils.get_imports
    file = tmp_path / "code.py"
    file.write_text("import flash_attn.layers\nimport torch\n")
    with optional_flash_attention():
        assert dynamic_module_utils.get_imports(file) == ["torch"]
    assert dynamic_module_utils.get_imports is original
    with pytest.raises(RuntimeError, match="inside"), optional_flash_attention():
        raise RuntimeError("inside")
    assert dynamic_module_utils.get_imports is original
    assert original(file) == ["flash_attn", "torch"]


def test_the_filter_is_taken_away_after_a_load_that_fails(tmp_path):
    original = dynamic_module_utils.get_imports
    with pytest.raises(CheckpointError):
        load(tmp_path / "none")
    assert dynamic_module_utils.get_imports is original

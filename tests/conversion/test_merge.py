"""Low-rank adapters and rows merged into a plain folder."""

import functools

import pytest
import torch
from published import assert_same_predictions, loaded, perturbed
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLForConditionalGeneration
from transformers.monkey_patching import get_patch_mapping

from detecture.checkpoint.weights_file import make_header, read_weights
from detecture.conversion.merge import BRIDGE_FILE, merge_adapter
from detecture.conversion.published import write_weights
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.vlm.backbone import random_backbone


@pytest.fixture(scope="module")
def make_base(folder, source):
    """Function to a Qwen3-VL as it would be downloaded: no seg token, and no room for one."""

    @functools.cache
    def make(tied):
        path = folder / f"base-{tied}"
        plain = random_backbone(str(folder / "source" / "vlm.json"))
        assert source.vlm.chat.seg_id == len(plain.tokenizer)
        if tied:
            plain.model.lm_head.weight = plain.model.get_input_embeddings().weight
            plain.model.config.tie_word_embeddings = True
            plain.model.config.text_config.tie_word_embeddings = True
        plain.model.resize_token_embeddings(len(plain.tokenizer))
        plain.model.save_pretrained(path)
        plain.tokenizer.save_pretrained(path)
        plain.image_processor.save_pretrained(path)
        return path

    return make


@pytest.mark.parametrize(
    ("tied", "train"), [(False, "lora"), (False, "full"), (False, "none"), (True, "lora")]
)
def test_a_merged_model_predicts_as_the_unmerged_one(make_base, words, tmp_path, tied, train):
    own = [*words, "MODEL.VLM.BASE", str(make_base(tied)), "MODEL.VLM.TRAIN", train]
    model = perturbed(tmp_path / "source", *own[len(words) :], "MODEL.VLM.CONFIG", words[5])
    adapter = tmp_path / "adapter.safetensors"
    header = make_header("", model.checkpoint_header(), iteration=7, note="kept")
    write_weights(adapter, model.checkpoint_state(), header)
    output = tmp_path / "merged"
    merged = merge_adapter(adapter, None, own, output)
    assert merged.adapters == (6 if train == "lora" else 0) and merged.rows == 2
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []
    second = [*own, "MODEL.VLM.BASE", str(output), "MODEL.VLM.TRAIN", "none"]
    again = loaded(second, output / BRIDGE_FILE)
    assert_same_predictions(again, model, tolerance=1e-4)
    if train == "lora" and not tied:  # the test can tell: the base alone predicts something else
        unmerged = [*second, "MODEL.VLM.BASE", str(make_base(tied))]
        with pytest.raises(AssertionError):
            assert_same_predictions(loaded(unmerged, output / BRIDGE_FILE), model, tolerance=1e-4)
    tensors, header = read_weights(output / BRIDGE_FILE)
    assert header["note"] == "kept" and header["model"]["lora"] == {}
    assert {n.split(".")[0] for n in tensors} == {"head", "vlm"} and len(tensors) == 13
    # Any other program sees an ordinary Qwen3-VL that holds all of it.
    plain, report = Qwen3VLForConditionalGeneration.from_pretrained(
        output, output_loading_info=True
    )
    assert not any(report.values()), report
    assert not get_patch_mapping()  # nor does it change the models that are built later
    tokenizer = AutoTokenizer.from_pretrained(output)
    AutoImageProcessor.from_pretrained(output)
    assert (output / "generation_config.json").is_file()
    seg_id = tokenizer.convert_tokens_to_ids("<|seg|>")
    assert seg_id == model.vlm.chat.seg_id and "<|seg|>" in tokenizer.all_special_tokens
    rows = {n: t for n, t in model.checkpoint_state().items() if n.endswith(".row")}
    tables = (plain.get_input_embeddings().weight, plain.lm_head.weight)
    for table, row in zip(tables, rows.values(), strict=True):
        assert torch.equal(table[seg_id], row)
    ids = torch.tensor([[5, 6, seg_id, 7]])
    with torch.no_grad():
        due = model.vlm.model(input_ids=ids).logits
        assert torch.allclose(plain(input_ids=ids).logits, due, atol=1e-4)


def test_what_cannot_be_merged_is_refused(source, words, tmp_path):
    adapter = tmp_path / "adapter.safetensors"
    write_weights(adapter, source.checkpoint_state(), make_header("", source.checkpoint_header()))
    output = tmp_path / "merged"

    def refused(error, match, path=adapter, extra=()):
        with pytest.raises(error, match=match):
            merge_adapter(path, None, [*words, *extra], output)
        assert not output.exists()
        assert not [p for p in tmp_path.iterdir() if "tmp-" in p.name]

    refused(CheckpointError, "no such checkpoint", tmp_path / "nothing.safetensors")
    refused(ConfigError, "QUANTIZATION", extra=("MODEL.VLM.QUANTIZATION", "4bit"))
    refused(CheckpointError, "LORA", extra=("MODEL.VLM.LORA.RANK", "4"))
    refused(CheckpointError, "MODEL.VLM.BASE", extra=("MODEL.VLM.BASE", str(tmp_path / "none")))
    frozen = ("MODEL.VLM.SEG_ROWS", "frozen", "MODEL.VLM.WARM_START", "random")
    refused(CheckpointError, r"left over: vlm\..*\.row", extra=frozen)
    state = dict(source.checkpoint_state())
    for name in ("head.dustbin", "vlm.model.lm_head.row"):
        broken = {("head.other" if n == name else n): t for n, t in state.items()}
        path = tmp_path / "broken.safetensors"
        write_weights(path, broken, make_header("", source.checkpoint_header()))
        refused(CheckpointError, f"missing: {name}; left over: head.other", path)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    refused(CheckpointError, "not written by this project", foreign)
    rowless = {n: t for n, t in state.items() if not n.endswith(".row")}
    path = tmp_path / "rowless.safetensors"
    write_weights(path, rowless, make_header("", source.checkpoint_header()))
    refused(ConfigError, "WARM_START random", path, frozen)
    output.mkdir()
    with pytest.raises(ConfigError, match="already there"):
        merge_adapter(adapter, None, words, output)

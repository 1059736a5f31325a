"""Published checkpoints: files with their names and shapes at tiny size, from a known model."""

import re

import numpy as np
import pytest
import torch
from micro import micro_model
from published import RELEASED, assert_same_predictions, loaded, perturbed

from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights
from detecture.config import make_config
from detecture.conversion.published import (
    find_seg_row,
    import_published,
    match_names,
    read_published,
    reference_model,
    require_free_output,
    write_weights,
)
from detecture.conversion.wording import load_wording
from detecture.data.prompts import TINY_PROMPTS, PromptTemplate
from detecture.errors import CheckpointError, ConfigError

PREFIX = "qwen.base_model.model.model.language_model."
FULL = "configs/detecture_qwen3vl8b_sam3.yaml"


def published_tensors(model, prefix=PREFIX, lora=".default"):
    """Its state under the published names, with whole tables of other values."""
    vlm = model.vlm
    generator = torch.Generator().manual_seed(9)
    tensors = {}
    for name, value in model.checkpoint_state().items():
        value = value.clone()
        if name.startswith("head.bridge."):
            tensors[name.replace("head.bridge", "bridge.proj")] = value
        elif name.startswith("head.mask_head."):
            matrix = "pixel_head.weight" in name and not lora
            tensors[name.removeprefix("head.")] = value[..., 0, 0] if matrix else value
        elif name == "head.dustbin":
            tensors["dustbin_embed"] = value
        elif name.endswith(".row"):
            rows = vlm.chat.seg_id + 1
            table = torch.randn(rows, len(value), generator=generator)
            table[-1] = value
            head = "lm_head" in name
            root = prefix.split("language_model.")[0].removesuffix("model.")
            tensors[f"{root}lm_head.weight" if head else f"{prefix}embed_tokens.weight"] = table
        else:
            end = name.split("language_model.")[1].replace(".default", lora)
            tensors[prefix + end] = value
    return tensors


def write_published(path, tensors, *, optimizer=True, **changes):
    content = {
        "epoch": 27,
        "model_trainable": tensors,
        "dustbin_embed": tensors.get("dustbin_embed"),
        "val_iou": 0.8125,
        "phase": 2,
    }
    if optimizer:
        content["optimizer"] = {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": []}
    torch.save({**content, **changes}, path)
    return path


@pytest.fixture
def convert(words, tmp_path):
    def run(path, prompts=TINY_PROMPTS, extra=(), **options):
        adapter = import_published(path, None, [*words, *extra], prompts, **options)
        output = tmp_path / "adapter.safetensors"
        write_weights(output, adapter.tensors, adapter.header)
        return output, adapter

    return run


# ---- conversion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "lora", "optimizer"),
    [
        (PREFIX, ".default", True),  # best.pt
        (PREFIX, ".default", False),  # detecture_epoch23.pt
        ("qwen.base_model.model.language_model.model.", "", False),  # older wrappings
    ],
)
def test_a_published_file_predicts_as_the_model_it_was_made_from(
    source, words, convert, tmp_path, prefix, lora, optimizer
):
    tensors = published_tensors(source, prefix, lora)
    path = write_published(tmp_path / "best.pt", tensors, optimizer=optimizer)
    output, adapter = convert(path)
    header = read_weights(output)[1]
    assert header["published"] == {"file": "best.pt", "epoch": 27, "val_iou": 0.8125, "phase": 2}
    assert ("not taken: optimizer" in adapter.notes) == optimizer
    state = source.checkpoint_state()
    assert adapter.tensors.keys() == state.keys()
    assert all(torch.equal(adapter.tensors[n], state[n]) for n in state)
    assert sorted(n for names in adapter.parts.values() for n in names) == sorted(state)
    model = loaded(words, output)
    assert model.vlm.chat.stop_supervision == "released"
    assert_same_predictions(model, source)
    # The test can tell: without the weights it is another model.
    with pytest.raises(AssertionError):
        assert_same_predictions(loaded(words, ""), source)


def test_the_released_wording_travels_in_the_header(
    datasets_root, folder, words, convert, tmp_path
):
    wording = datasets_root / "prompts" / "released_checkpoint.yaml"
    if not wording.is_file():
        pytest.skip(f"{wording} does not exist")
    source = perturbed(folder / "wording", *RELEASED, "MODEL.VLM.PROMPTS", str(wording))
    path = write_published(tmp_path / "best.pt", published_tensors(source))
    output, _ = convert(path, load_wording(wording))
    model = loaded(words, output)
    assert model.vlm.chat.prompts == PromptTemplate.from_yaml(wording) != TINY_PROMPTS
    assert model.vlm.chat.prompt_ids("2", 4) == source.vlm.chat.prompt_ids("2", 4)
    assert_same_predictions(model, source)


def test_the_trained_copy_of_a_table_is_taken_and_not_its_original(source, convert, tmp_path):
    tensors = published_tensors(source)
    for name in [n for n in tensors if n.endswith(("embed_tokens.weight", "lm_head.weight"))]:
        root, table = name.removesuffix("weight"), tensors.pop(name)
        tensors[f"{root}original_module.weight"] = torch.zeros_like(table)
        tensors[f"{root}modules_to_save.default.weight"] = table
    _, adapter = convert(write_published(tmp_path / "a.pt", tensors))
    for name, value in source.checkpoint_state().items():
        assert torch.equal(adapter.tensors[name], value)
    # An original alone is the table itself.
    alone = {n: t for n, t in tensors.items() if "modules_to_save" not in n}
    _, adapter = convert(write_published(tmp_path / "b.pt", alone))
    assert not adapter.tensors["vlm.model.lm_head.row"].any()


@pytest.mark.parametrize("place", ["inside", "outside", "row"])
def test_the_dustbin_is_found_in_either_place(source, convert, tmp_path, place):
    tensors = published_tensors(source)
    dustbin = tensors.pop("dustbin_embed")
    outside = {"outside": dustbin, "row": dustbin[None], "inside": None}[place]
    if place == "inside":
        tensors["dustbin_embed"] = dustbin
    path = write_published(tmp_path / "a.pt", tensors, dustbin_embed=outside)
    _, adapter = convert(path)
    assert torch.equal(adapter.tensors["head.dustbin"], dustbin)


def test_half_precision_and_scalars_of_numpy_are_read(source, convert, tmp_path):
    tensors = {n: t.bfloat16() for n, t in published_tensors(source).items()}
    path = write_published(
        tmp_path / "a.pt",
        tensors,
        val_iou=np.float64(0.5),
        phase=torch.tensor(2),
        epoch=np.int64(3),
    )
    _, adapter = convert(path)
    assert adapter.header["published"] == {"file": "a.pt", "epoch": 3, "val_iou": 0.5, "phase": 2}
    assert {t.dtype for t in adapter.tensors.values()} == {torch.float32}
    state = source.checkpoint_state()
    assert all(torch.equal(adapter.tensors[n], state[n].bfloat16().float()) for n in state)


def test_an_old_torch_format_is_read(source, convert, tmp_path):
    path = tmp_path / "a.pt"
    content = {"model_trainable": published_tensors(source)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    _, adapter = convert(path)
    assert adapter.header["published"] == {"file": "a.pt"}


def test_alpha_of_the_adapters_must_agree(source, words, convert, tmp_path):
    path = write_published(tmp_path / "a.pt", published_tensors(source))
    output, adapter = convert(path, lora_alpha=32.0)
    assert adapter.header["model"]["lora"] == {"rank": 8, "alpha": 32.0}
    with pytest.raises(CheckpointError, match="LORA"):
        loaded(words, output)
    loaded(words, output, "MODEL.VLM.LORA.ALPHA", "32")
    for alpha in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="--lora-alpha"):
            convert(path, lora_alpha=alpha)


def test_a_base_that_is_not_there_leaves_the_vocabulary_open(source, words, convert, tmp_path):
    path = write_published(tmp_path / "a.pt", published_tensors(source))
    base = str(tmp_path / "no-such-base")
    extra = ("MODEL.VLM.BASE", base, "MODEL.SEGMENTER.BASE", "facebook/sam3")
    output, adapter = convert(path, extra=extra)
    own = adapter.header["model"]
    assert "vocabulary" not in own
    assert own["vlm"] == base and own["segmenter"] == "Sam3Transformers: facebook/sam3"
    assert any("vocabulary not checked" in note for note in adapter.notes)
    loaded(words, output)


def test_a_base_that_is_there_gives_vocabulary_and_row(source, words, convert, tmp_path):
    base = tmp_path / "base"
    micro_model(tmp_path / "m", "MODEL.VLM.TRAIN", "none").vlm.chat.tokenizer.save_pretrained(base)
    path = write_published(tmp_path / "a.pt", published_tensors(source))
    _, adapter = convert(path, extra=("MODEL.VLM.BASE", str(base)))
    assert adapter.header["model"]["vocabulary"] == source.checkpoint_header()["vocabulary"]
    tensors = {
        n: torch.cat([t, t[:3]]) if t.shape[0] == source.vlm.chat.seg_id + 1 else t
        for n, t in published_tensors(source).items()
    }
    longer = write_published(tmp_path / "b.pt", tensors)
    seg_id = source.vlm.chat.seg_id
    with pytest.raises(CheckpointError, match=rf"{seg_id} .* {seg_id + 3}; .*--seg-id"):
        convert(longer, extra=("MODEL.VLM.BASE", str(base)))
    _, adapter = convert(longer, extra=("MODEL.VLM.BASE", str(base)), seg_id=seg_id)
    state = source.checkpoint_state()
    assert all(torch.equal(adapter.tensors[n], state[n]) for n in state)


def test_where_the_seg_row_is():
    assert find_seg_row(151_670, 151_669, None, 151_936) == 151_669
    assert find_seg_row(151_670, None, None, 151_936) == 151_669
    assert find_seg_row(151_936, 151_669, 151_669, 151_936) == 151_669
    for rows, token, asked, text in (
        (151_936, None, None, "--seg-id"),
        (151_936, 151_669, None, "151669 .* 151935; .*--seg-id"),
        (151_670, 151_669, 151_670, "rows 0 to 151669"),
        (151_670, None, -1, "--seg-id -1"),
    ):
        with pytest.raises(CheckpointError, match=text):
            find_seg_row(rows, token, asked, 151_936)


def test_the_adapter_of_full_size_is_small(tmp_path):
    model = reference_model(FULL, ["MODEL.VLM.BASE", "x", "MODEL.SEGMENTER.BASE", "y"])
    due = model.checkpoint_state()
    assert len(due) == 157 and all(t.is_meta for t in due.values())
    named = match_names(published_tensors_of_full_size(due), due)
    assert named.keys() == due.keys()
    header = make_header(make_config(FULL).dump(), model.checkpoint_header())
    zeros = {name: torch.zeros(t.shape) for name, t in due.items()}
    assert 32e6 < len(pack_weights(zeros, header)) <= 40e6


def published_tensors_of_full_size(due):
    """The 157 names of the specification, spelt out."""
    ends = [f"bridge.proj.{i}.{k}" for i in (0, 1) for k in ("weight", "bias")]
    ends += [f"mask_head.query_mlp.{i}.{k}" for i in (0, 2) for k in ("weight", "bias")]
    ends += ["mask_head.pixel_head.weight", "mask_head.pixel_head.bias", "dustbin_embed"]
    ends += [
        f"{PREFIX}layers.{n}.self_attn.{p}_proj.lora_{side}.default.weight"
        for n in range(36)
        for p in "qv"
        for side in "AB"
    ]
    ends += [f"{PREFIX}embed_tokens.weight", "qwen.base_model.model.lm_head.weight"]
    assert len(ends) == len(due) == 157
    return dict.fromkeys(ends, torch.zeros(()))


# ---- refusals -----------------------------------------------------------------------------------


def test_every_wrong_name_is_named(source, words, convert, tmp_path):
    tensors = published_tensors(source)
    due = source.checkpoint_state()
    for name in tensors:
        end = name.removeprefix(PREFIX).replace(".default", "").split("model.")[-1]
        rest = {n: t for n, t in tensors.items() if n != name}
        with pytest.raises(CheckpointError, match=re.escape(f"missing: {end}")):
            match_names(rest, due)
        for mutated in (f"{name}x", name.replace(".weight", ".weights"), name[:-1], f"x{name}"):
            if mutated == name or (mutated == f"x{name}" and "." in name.split(end)[0]):
                continue  # only a prefix has changed
            with pytest.raises(CheckpointError) as error:
                match_names({**rest, mutated: tensors[name]}, due)
            assert f"missing: {end}" in str(error.value)
            assert f"left over: {mutated}" in str(error.value)
    for extra in ("classifier.weight", f"{PREFIX}norm.weight", "bridge.proj.2.weight"):
        with pytest.raises(CheckpointError, match=f"left over: {re.escape(extra)}"):
            match_names({**tensors, extra: torch.zeros(1)}, due)
    with pytest.raises(CheckpointError, match=r"given twice: .*bridge\.proj\.0\.bias"):
        match_names({**tensors, "module.bridge.proj.0.bias": torch.zeros(1)}, due)
    path = write_published(tmp_path / "a.pt", {**tensors, "classifier.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"left over: classifier\.weight"):
        convert(path)
    for extra in (("MODEL.BRIDGE.KIND", "bottleneck"), ("MODEL.VLM.TRAIN", "none")):
        with pytest.raises(CheckpointError, match=r"missing|left over"):
            convert(write_published(tmp_path / "a.pt", tensors), extra=extra)


def test_wrong_shapes_and_values_are_named(source, convert, tmp_path):
    tensors = published_tensors(source)
    lora = next(n for n in tensors if "lora_A" in n)
    wrong = {**tensors, lora: tensors[lora][:4], "bridge.proj.0.bias": torch.zeros(3)}
    with pytest.raises(CheckpointError) as error:
        convert(write_published(tmp_path / "a.pt", wrong))
    assert "bridge.proj.0.bias: (3,) in the file" in str(error.value)
    assert "lora_A.weight: (4, 48) in the file, (8, 48) in the model" in str(error.value)
    head = next(n for n in tensors if n.endswith("lm_head.weight"))
    for table in (tensors[head][:-1], tensors[head][0]):
        with pytest.raises(CheckpointError, match="same number of rows"):
            convert(write_published(tmp_path / "a.pt", {**tensors, head: table}))
    holed = {**tensors, "bridge.proj.0.bias": tensors["bridge.proj.0.bias"] * torch.nan}
    with pytest.raises(CheckpointError, match=r"bridge\.proj\.0\.bias holds values that are no"):
        convert(write_published(tmp_path / "a.pt", holed))
    other = torch.ones_like(tensors["dustbin_embed"])
    with pytest.raises(CheckpointError, match=r"dustbin_embed .* differ"):
        convert(write_published(tmp_path / "a.pt", tensors, dustbin_embed=other))
    with pytest.raises(CheckpointError, match=r"no tensors: bridge\.proj\.0\.bias"):
        convert(write_published(tmp_path / "a.pt", {**tensors, "bridge.proj.0.bias": "x"}))


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_runs_nothing(tmp_path, zipped):
    proof = tmp_path / "proof"
    path = tmp_path / "a.pt"
    content = {"model_trainable": {}, "phase": Bomb(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="could run code"):
        read_published(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)["phase"].close()
    assert proof.exists()  # it would have


def test_unreadable_files_are_refused(source, tmp_path):
    sound = write_published(tmp_path / "sound.pt", published_tensors(source)).read_bytes()
    contents = {
        "empty": b"",
        "text": b"not a checkpoint at all",
        "truncated": sound[: len(sound) // 2],
        "without its end": sound[:-10],
        "zip": b"PK\x05\x06" + bytes(18),
        "pickle start": b"\x80\x02}q\x00",
    }
    for name, content in contents.items():
        path = tmp_path / "a.pt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"a\.pt: ") as error:
            read_published(path)
        assert "\n" not in str(error.value), name
    with pytest.raises(CheckpointError, match="no such file"):
        read_published(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        read_published(tmp_path)
    for content in ({"model": {}}, [1, 2], torch.zeros(3), {"model_trainable": [1]}):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="is no published checkpoint"):
            read_published(tmp_path / "a.pt")


def test_another_method_and_outputs_in_the_way_are_refused(words, tmp_path):
    with pytest.raises(ConfigError, match="META_ARCHITECTURE is TextureClusters"):
        reference_model(None, [*words, "MODEL.META_ARCHITECTURE", "TextureClusters"])
    (tmp_path / "file").write_text("x")
    require_free_output(tmp_path / "new" / "folder" / "a.safetensors", "file")
    with pytest.raises(ConfigError, match="already there"):
        require_free_output(tmp_path / "file", "file")
    with pytest.raises(ConfigError, match="cannot be written to"):
        require_free_output(tmp_path / "file" / "a.safetensors", "file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_weights(tmp_path / "file" / "a.safetensors", {}, {})

"""The command line: what it prints, and its exit status."""

import hashlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from micro import evaluation_batch, micro_model, micro_overrides

from detecture.config import make_config
from detecture.engine.evaluate import load_model

REPO = Path(__file__).resolve().parents[2]
FULL = "configs/detecture_qwen3vl8b_sam3.yaml"
TOOL = REPO / "tools" / "convert_checkpoint.py"

WORDING = r"""
system: "Name the textures."
user: "Regions: {N}. One line each:\nTEXTURE_1: Texture of <phrase> <|seg|>"
assistant_line: "TEXTURE_{i}: {description} <|seg|>"
assistant_join: "\n"
seg_token: "<|seg|>"
warm_start_token: "<|im_end|>"
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("convert_checkpoint_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = micro_model(
        tmp_path_factory.mktemp("model"), "MODEL.VLM.STOP_SUPERVISION", "released", seed=5
    )
    with torch.no_grad():
        for value in made.checkpoint_state().values():
            value.add_(0.1)
    return made.eval()


@pytest.fixture
def work(tmp_path, model):
    """A folder with best.pt, prompts.yaml and model.yaml, and KEY VALUE words of the model."""
    tensors = {}
    for name, value in model.checkpoint_state().items():
        own = name.removeprefix("vlm.model.").removeprefix("head.")
        if own.endswith(".row"):
            table = torch.zeros(model.vlm.chat.seg_id + 1, len(value))
            table[-1] = value
            tensors[own.replace(".row", ".weight")] = table
        else:
            own = own.replace("dustbin", "dustbin_embed")
            tensors[own.replace("bridge.", "bridge.proj.")] = value
    torch.save(
        {"epoch": 27, "model_trainable": tensors, "val_iou": 0.8125, "phase": 2}
        | {"dustbin_embed": tensors["dustbin_embed"], "optimizer": {}},
        tmp_path / "best.pt",
    )
    (tmp_path / "prompts.yaml").write_text(WORDING)
    (tmp_path / "model.yaml").write_text("MODEL:\n  META_ARCHITECTURE: Detecture\n")
    return tmp_path, micro_overrides(tmp_path / "micro")


def words(folder, overrides, source="best.pt", output="adapter.safetensors", command="published"):
    line = [command, str(folder / source), "--output", str(folder / output)]
    # Overrides in the middle, options behind them.
    line += ["--config-file", str(folder / "model.yaml"), *overrides]
    return line + (["--prompts", str(folder / "prompts.yaml")] if command == "published" else [])


def test_published_then_merged(tool, work, model, capsys, monkeypatch):
    folder, overrides = work
    md5 = hashlib.md5((folder / "best.pt").read_bytes()).hexdigest()
    assert tool.main([*words(folder, overrides), "--verify"]) == 0
    out = capsys.readouterr().out
    assert f"MD5 {md5}: of no released file" in out
    for part in ("bridge", "mask_head", "dustbin", "vlm", "seg_rows", "total", "epoch: 27"):
        assert f"\n{part}" in out
    adapter = folder / "adapter.safetensors"
    assert "val_iou: 0.8125" in out and "not taken: optimizer" in out
    assert hashlib.sha256(adapter.read_bytes()).hexdigest() in out
    total = next(line for line in out.splitlines() if line.startswith("total")).split()
    state = model.checkpoint_state()
    count = sum(t.numel() for t in state.values())
    assert total[1:] == [f"{len(state)}", f"{count:,}", f"{4 * count:,}"]

    assert tool.main(words(folder, overrides, adapter.name, "merged", "merge")) == 0
    out = capsys.readouterr().out
    assert "low-rank adapters merged: 6; seg rows written: 2" in out
    # The words that it prints for the use of the folder are right.
    use = out.split("use: ")[1].split(" (and")[0].split()
    merged = load_model(make_config(folder / "model.yaml", [*overrides, *use]))
    batch = evaluation_batch()
    for ours, due in zip(merged(batch), model(batch), strict=True):
        assert ours["generated_text"] == due["generated_text"]
        assert torch.allclose(ours["sem_seg"], due["sem_seg"], atol=1e-4)

    monkeypatch.setitem(tool.KNOWN_MD5, md5, "best.pt")
    again = words(folder, overrides, output="again.safetensors")
    assert tool.main([*again, "--verify"]) == 0
    assert f"MD5 {md5}: the released best.pt" in capsys.readouterr().out


def test_the_command_of_the_document_runs_with_the_wording_file_that_it_shows(
    tool, work, capsys, monkeypatch
):
    folder, overrides = work
    text = (REPO / "docs/detecture.md").read_text(encoding="utf-8")
    part = text.split("## Published weights")[1].split("\n## ")[0]
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
    keys = re.findall(r"^(\w+):", shown, re.MULTILINE)
    for key in keys:
        assert f"| `{key}` |" in part, f"{key} is not explained"
    (line,) = re.findall(
        r"^python tools/convert_checkpoint\.py (published .*)$", part, re.MULTILINE
    )
    arguments = shlex.split(line)
    monkeypatch.chdir(folder)
    (folder / arguments[arguments.index("--prompts") + 1]).write_text(shown)
    # The full model's config, at the size of the checkpoint that is here.
    arguments[arguments.index("--config-file") + 1] = str(REPO / FULL)
    small = [*overrides, "MODEL.VLM.BASE", "", "MODEL.SEGMENTER.BASE", "", "MODEL.DTYPE", "float32"]
    assert tool.main([*arguments, *small]) == 0, capsys.readouterr().err
    cfg = make_config(REPO / FULL, [*small, "MODEL.WEIGHTS", arguments[3]])
    prompts = load_model(cfg).vlm.chat.prompts
    assert prompts.user.replace("{N}", "") != prompts.user == yaml.safe_load(shown)["user"]


def test_texts_that_a_source_builds_in_code_are_refused_with_the_way_out(tool, work, capsys):
    """As those of the release are: in functions, with the number put in."""
    folder, overrides = work
    source = folder / "dataset.py"
    source.write_text(
        "SEG = '<|seg|>'\n\ndef messages(texts):\n    count = f'{len(texts)} regions'\n"
        "    return [{'role': 'system', 'content': 'Name.'}, {'role': 'user', 'content': count}]\n"
    )
    line = words(folder, overrides, output="code.safetensors")
    line[line.index("--prompts") + 1] = str(source)
    assert tool.main(line) == 2
    told = capsys.readouterr().err
    for part in ("no constant for the system text", "Write a yaml", "docs/detecture.md"):
        assert part in told
    assert tool.main(line[: line.index("--prompts")]) == 2
    assert "docs/detecture.md" in capsys.readouterr().err


def test_wrong_input_ends_with_one_line_and_status_2(tool, work, capsys):
    folder, overrides = work

    def refused(line, *texts):
        assert tool.main(line) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith("convert_checkpoint: ") and shown.err.count("\n") == 1
        assert "Traceback" not in shown.err
        for text in texts:
            assert text in shown.err

    line = words(folder, overrides)
    refused(line[:-2], "--prompts is missing", "answers only to the wording")
    refused(words(folder, overrides, "nothing.pt"), "nothing.pt: no such file")
    refused(words(folder, overrides, output="adapter.pt"), "must end in .safetensors")
    refused(words(folder, overrides, output="model.yaml/a.safetensors"), "cannot be written to")
    refused([*line, "--seg-id", "99999"], "--seg-id 99999")
    refused([*line, "--lora-alpha", "-2"], "--lora-alpha -2")
    refused([*line, "MODEL.VLM.LORA.RANG", "4"], "did you mean")
    refused([*line, "MODEL.VLM.LORA.RANK", "4"], "lora_A.weight")
    refused([*line, "MODEL.META_ARCHITECTURE", "TextureClusters"], "META_ARCHITECTURE")
    (folder / "empty.pt").write_bytes(b"")
    refused(words(folder, overrides, "empty.pt"), "is empty")
    (folder / "text.pt").write_bytes(b"weights, honestly")
    refused(words(folder, overrides, "text.pt"), "text.pt: ")
    (folder / "short.pt").write_bytes((folder / "best.pt").read_bytes()[:5000])
    refused(
        words(folder, overrides, "short.pt"), "short.pt: ", "its end is missing", "Copy it again"
    )
    assert not list(folder.glob("*.safetensors*"))
    (folder / "there.safetensors").write_bytes(b"")
    refused(words(folder, overrides, output="there.safetensors"), "already there")
    merge = words(folder, overrides, "there.safetensors", "merged", "merge")
    refused(merge, "there.safetensors: cannot be read")
    refused(words(folder, overrides, "no", "merged", "merge"), "no such checkpoint")
    other = [*merge, "MODEL.META_ARCHITECTURE", "CATSeg"]
    refused(other, "MODEL.META_ARCHITECTURE CATSeg: only Detecture models")
    refused(words(folder, overrides, "best.pt", "micro", "merge"), "already there")
    assert not (folder / "merged").exists()


def test_unknown_options_are_refused(tool, work, capsys):
    with pytest.raises(SystemExit) as error:
        tool.main([*words(*work), "--promts", "x"])
    assert error.value.code == 2 and "--promts" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["published", "merge"])
def test_help(tool, capsys, command):
    with pytest.raises(SystemExit) as error:
        tool.main([command, "--help"])
    out = capsys.readouterr().out
    assert not error.value.code and "--output" in out and "KEY VALUE" in out

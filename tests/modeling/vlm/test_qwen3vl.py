"""The VLM: prefix reuse, batches, the rows of <|seg|>, and the answers."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from micro import VLM
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, DynamicCache, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl import modeling_qwen3_vl
from transformers.monkey_patching import get_patch_mapping, unregister_patch_mapping

from detecture.config.sections.detecture import LoraSettings, VlmSettings
from detecture.data.prompts import DEFAULT_PROMPTS, TINY_PROMPTS
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.backbone import load_backbone, random_backbone
from detecture.modeling.vlm.chat import load_prompts
from detecture.modeling.vlm.tokenizer import (
    ASSET,
    add_seg_token,
    small_tokenizer,
    vocabulary_fingerprint,
)

DESCRIPTIONS = [
    ["Texture of red bricks in rows at the top", "Texture of fine grey sand below"],
    ["Texture of green grass"],
    [f"Texture of stripes number {i}" for i in range(6)],
]


@pytest.fixture(scope="module")
def structure(tmp_path_factory):
    path = tmp_path_factory.mktemp("vlm") / "vlm.json"
    path.write_text(json.dumps(VLM))
    return str(path)


def make(structure, **options):
    dtype = options.pop("dtype", "float32")
    others = {
        k: options.pop(k)
        for k in ("prompts", "max_regions", "supervise_lm", "seed", "with_seg_rows")
        if k in options
    }
    options = {"image_size": 64, "max_new_tokens": 24, **options}
    backbone = random_backbone(structure, 0, dtype)
    others = {"prompts": TINY_PROMPTS, "settings": VlmSettings(**options), **others}
    return Qwen3VL(backbone=backbone, **others).eval()


def make_images(count=3):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, 50 + 7 * i, 60), generator=generator, dtype=torch.uint8)
        for i in range(count)
    ]


@pytest.mark.parametrize("attention", ["block_diagonal", "causal"])
@pytest.mark.parametrize("stop", ["newline", "released"])
def test_prefix_reuse_equals_the_plain_second_pass(structure, attention, stop):
    vlm = make(structure, attention=attention, stop_supervision=stop)
    with torch.no_grad():
        vision = vlm.encode_images(make_images())
        # Prompts of different lengths, and answers too.
        prefix = vlm.prefix(vision, ["2", "between 1 and 6", "1"])
        answers = [vlm.chat.answer_ids(d) for d in DESCRIPTIONS]
        cache = DynamicCache(config=vlm.model.config.text_config)
        vlm.write(prefix, cache)
        blocks, reused = vlm.extract(prefix, answers, cache)
        plain = vlm.teacher_forced(prefix, answers, predictions=False)
    assert blocks.count_B.tolist() == plain.count_B.tolist() == [2, 1, 6]
    valid = blocks.seg_valid_BK
    assert (reused - plain.states_BKD)[valid].abs().max() < 1e-4
    assert plain.states_BKD[valid].abs().max() > 0.1


def test_the_second_pass_may_follow_at_once(structure):
    """Generation, then its own extraction: the states of what was really written."""
    vlm = make(structure)
    with torch.no_grad():
        prefix = vlm.prefix(vlm.encode_images(make_images()), ["2"] * 3)
        # Random weights write no <|seg|>: let it take the place of a token that they write.
        first = vlm.write(prefix, DynamicCache(config=vlm.model.config.text_config))
        vlm.model.lm_head.row.copy_(1.01 * vlm.model.lm_head.weight[first[0][5]])
        generated = vlm.generate(prefix)
        cache = DynamicCache(config=vlm.model.config.text_config)
        answers = vlm.write(prefix, cache)
        plain = vlm.teacher_forced(prefix, answers, predictions=False)
    assert generated.count_B.tolist() == plain.count_B.tolist()
    assert int(generated.count_B.sum()) > 0, "the test needs a model that writes <|seg|>"
    for row, count in enumerate(generated.count_B.tolist()):
        difference = generated.states_BKD[row, :count] - plain.states_BKD[row, :count]
        assert not count or difference.abs().max() < 1e-4
        assert len(generated.descriptions[row]) == count


def test_a_batch_writes_what_each_image_alone_would(structure):
    vlm = make(structure)
    counts = ["2", "between 1 and 6", "1"]
    images = make_images()
    cache = DynamicCache(config=vlm.model.config.text_config)
    with torch.no_grad():
        together = vlm.write(vlm.prefix(vlm.encode_images(images), counts), cache)
        for image, count, due in zip(images, counts, together, strict=True):
            cache = DynamicCache(config=vlm.model.config.text_config)
            alone = vlm.write(vlm.prefix(vlm.encode_images([image]), [count]), cache)
            assert alone == [due]


def test_both_copies_of_a_packed_answer_are_what_each_alone_would_be(structure):
    with torch.no_grad():
        packed = make(structure, attention="block_diagonal", lm_attention="causal")
        states = {}
        for kind in ("block_diagonal", "causal"):
            vlm = make(structure, attention=kind, lm_attention=kind)
            prefix = vlm.prefix(vlm.encode_images(make_images()), ["2", "3", "between 1 and 6"])
            answers = [vlm.chat.answer_ids(d) for d in DESCRIPTIONS]
            states[kind] = vlm.teacher_forced(prefix, answers, predictions=True)
        both = packed.teacher_forced(prefix, answers, predictions=True)
    valid = both.valid_BA
    region = states["block_diagonal"]
    regions = torch.arange(6) < both.count_B[:, None]
    assert (both.states_BKD - region.states_BKD)[regions].abs().max() < 1e-5
    predicted = states["causal"].predictions_BAD
    assert (both.predictions_BAD - predicted)[valid].abs().max() < 1e-5
    assert (region.predictions_BAD - predicted)[valid].abs().max() > 1e-3, "the kinds differ"


def test_teacher_forcing_scores_what_generation_sees(structure):
    """Greedy tokens are the most likely ones under the causal pass over them."""
    vlm = make(structure, lm_attention="causal")
    with torch.no_grad():
        prefix = vlm.prefix(vlm.encode_images(make_images()), ["2", "between 1 and 6", "1"])
        answers = vlm.write(prefix, DynamicCache(config=vlm.model.config.text_config))
        forced = vlm.teacher_forced(prefix, answers, predictions=True)
        likely = vlm.logits(forced.predictions_BAD).argmax(-1)
    assert torch.equal(likely[forced.valid_BA], forced.ids_BA[forced.valid_BA])


@pytest.mark.parametrize("train", ["lora", "full", "none"])
def test_only_the_seg_rows_of_the_tables_change(structure, train):
    """One optimiser step with weight decay; in `full` everything may change, and does."""
    vlm = make(structure, train=train).train()
    tables = {
        "embedding": vlm.model.get_input_embeddings().base.weight,
        "head": vlm.model.lm_head.base.weight,
    }
    before = {name: table.detach().clone() for name, table in tables.items()}
    trained = dict(vlm.trained_parameters())
    rows = {n: p.detach().clone() for n, p in trained.items() if n.endswith("row")}
    assert len(rows) == 2
    optimizer = torch.optim.AdamW(list(trained.values()), lr=1e-2, weight_decay=0.1)
    prefix = vlm.prefix(vlm.encode_images(make_images(1)), ["2"])
    forced = vlm.teacher_forced(prefix, [vlm.chat.answer_ids(DESCRIPTIONS[0])], predictions=True)
    logits = vlm.logits(forced.predictions_BAD)
    (logits.logsumexp(-1).mean() + forced.states_BKD[:, :2].square().mean()).backward()
    optimizer.step()
    for name, row in rows.items():
        assert not torch.equal(trained[name], row)
    for name, table in tables.items():
        if train == "full":
            assert not torch.equal(table, before[name])
        else:
            assert torch.equal(table, before[name])
            assert table.grad is None
            assert table not in optimizer.state
    assert all((p.grad is not None) == (n in trained) for n, p in vlm.named_parameters())


def test_the_wrappers_equal_tables_that_hold_the_rows(structure):
    vlm = make(structure)
    embedding, head = vlm.model.get_input_embeddings(), vlm.model.lm_head
    with torch.no_grad():
        embedding.row.normal_()
        head.row.normal_()
        whole = embedding.base.weight.clone()
        whole[vlm.chat.seg_id] = embedding.row
        ids = torch.tensor([[1, vlm.chat.seg_id, 5]])
        assert torch.equal(embedding(ids), torch.nn.functional.embedding(ids, whole))
        whole = head.base.weight.clone()
        whole[vlm.chat.seg_id] = head.row
        states = torch.randn(2, 3, vlm.hidden_size)
        assert torch.allclose(head(states), states @ whole.T, atol=1e-5)


@pytest.mark.parametrize("kind", ["im_end", "mean", "random"])
def test_warm_start(structure, kind):
    vlm = make(structure, warm_start=kind)
    for wrapper in (vlm.model.get_input_embeddings(), vlm.model.lm_head):
        table = wrapper.base.weight
        if kind == "im_end":
            assert torch.equal(wrapper.row, table[vlm.chat.end_id])
        elif kind == "mean":
            assert torch.allclose(wrapper.row, table.mean(0), atol=1e-6)
        else:
            assert 0 < wrapper.row.std() < 0.05
    again = make(structure, warm_start=kind)
    assert torch.equal(again.model.lm_head.row, vlm.model.lm_head.row)


def test_prompts_and_answers_are_special_where_they_must_be(structure):
    vlm = make(structure, prompts=DEFAULT_PROMPTS)
    prompt = vlm.chat.prompt_ids("2", visual_tokens=4)
    assert prompt.count(vlm.chat.image_id) == 4
    # The prompt shows the format, with the token itself: only the answer's count.
    assert vlm.chat.seg_id in prompt
    answer = vlm.chat.answer_ids(["Texture of <|im_end|> wool <|seg|> on the left", "moss"])
    assert answer.count(vlm.chat.seg_id) == 2
    assert answer.count(vlm.chat.end_id) == 1
    assert answer[-1] == vlm.chat.end_id
    text = vlm.chat.tokenizer.decode(answer)
    assert "Texture of moss" in text and "wool" in text


def test_an_answer_that_is_cut_off_loses_its_last_line(structure):
    vlm = make(structure)
    whole = vlm.chat.answer_ids(DESCRIPTIONS[0])
    second = whole.index(vlm.chat.seg_id) + 1
    cut = whole[: second + 5]
    assert vlm.chat.descriptions(cut, 6) == DESCRIPTIONS[0][:1]
    assert vlm.chat.descriptions(whole, 6) == DESCRIPTIONS[0]
    assert vlm.chat.descriptions(whole, 1) == DESCRIPTIONS[0][:1]
    assert vlm.chat.until_last_region(cut, 6) == whole[:second]


def test_a_line_ends_in_a_newline_where_that_is_what_was_taught(structure):
    """The state at <|seg|> is left free for the mask: it need not know that a newline follows."""
    newline = {}
    for stop in ("newline", "released"):
        vlm = make(structure, stop_supervision=stop, max_new_tokens=12)
        with torch.no_grad():
            prefix = vlm.prefix(vlm.encode_images(make_images(1)), ["2"])
            first = vlm.write(prefix, DynamicCache(config=vlm.model.config.text_config))
            vlm.model.lm_head.row.copy_(1.01 * vlm.model.lm_head.weight[first[0][2]])
            written = vlm.write(prefix, DynamicCache(config=vlm.model.config.text_config))[0]
        behind = [b for a, b in pairwise(written) if a == vlm.chat.seg_id]
        assert behind
        newline[stop] = all(token == vlm.chat.newline_id for token in behind)
    assert newline == {"newline": True, "released": False}


def test_no_region_at_all(structure):
    vlm = make(structure, max_new_tokens=3)
    with torch.no_grad():
        vlm.model.lm_head.row.fill_(0.0)
        prefix = vlm.prefix(vlm.encode_images(make_images(2)), ["2", "1"])
        generated = vlm.generate(prefix)
    assert generated.count_B.tolist() == [0, 0]
    assert generated.descriptions == [[], []]
    assert generated.cut_off == [True, True]


def test_the_tokenizer_goes_round(tmp_path):
    tokenizer = small_tokenizer()
    seg_id = add_seg_token(tokenizer, "<|seg|>")
    assert add_seg_token(tokenizer, "<|seg|>") == seg_id
    assert seg_id in tokenizer.all_special_ids
    for text in ("TEXTURE_12: Texture of caf\u00e9 brass, 3 mm\n", "wool 中"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert vocabulary_fingerprint(again) == vocabulary_fingerprint(tokenizer)
    assert vocabulary_fingerprint(small_tokenizer()) != vocabulary_fingerprint(tokenizer)
    assert (ASSET / "tokenizer.json").stat().st_size < 200_000


def test_a_folder_of_weights_loads(structure, tmp_path, monkeypatch):
    backbone = random_backbone(structure)
    names = [name for name, _ in backbone.model.named_parameters()]
    backbone.model.save_pretrained(tmp_path)
    backbone.tokenizer.save_pretrained(tmp_path)
    backbone.image_processor.save_pretrained(tmp_path)
    loaded = load_backbone(str(tmp_path), "float32")
    settings = VlmSettings(image_size=64, max_new_tokens=8)
    options = {"prompts": TINY_PROMPTS, "settings": settings}
    ours, theirs = (Qwen3VL(backbone=b, **options).eval() for b in (backbone, loaded))
    with torch.no_grad():
        states = [
            vlm.teacher_forced(
                vlm.prefix(vlm.encode_images(make_images(1)), ["2"]),
                [vlm.chat.answer_ids(DESCRIPTIONS[0])],
                predictions=False,
            ).states_BKD
            for vlm in (ours, theirs)
        ]
    assert torch.allclose(*states, atol=1e-5)
    # What is built after it has the parameters of what was built before it,
    again = random_backbone(structure)
    assert [name for name, _ in again.model.named_parameters()] == names
    # also where another program's part has fused them, and that part's settings stay.
    Qwen3VLForConditionalGeneration.from_pretrained(
        tmp_path, fusion_config={"patch_embeddings": True}
    )
    registered = get_patch_mapping()
    assert registered
    try:
        (name, fused), *_ = registered.items()
        monkeypatch.setattr(modeling_qwen3_vl, name, fused)  # as after a load that failed
        again = random_backbone(structure)
        assert [name for name, _ in again.model.named_parameters()] == names
        assert get_patch_mapping() == registered
    finally:
        unregister_patch_mapping(list(registered))


@pytest.fixture
def saved(structure, tmp_path):
    backbone = random_backbone(structure)
    for part in (backbone.model, backbone.tokenizer, backbone.image_processor):
        part.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_weights_that_do_not_all_find_their_place_are_refused(saved, structure):
    """transformers fills the gaps with random weights, and only logs it."""
    weights, config = saved / "model.safetensors", saved / "config.json"
    whole, content = load_file(weights), config.read_text()
    kept = {name: tensor for name, tensor in whole.items() if "layers.1." not in name}
    save_file(kept, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: .*layers\.1\..* more"):
        load_backbone(str(saved), "float32")
    save_file({f"x.{name}": tensor for name, tensor in whole.items()}, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match="do not fit"):
        load_backbone(str(saved), "float32")
    save_file(whole, weights, {"format": "pt"})
    config.write_text(content.replace('"num_hidden_layers": 3', '"num_hidden_layers": 2'))
    with pytest.raises(CheckpointError, match=r"left over: .*layers\.2\."):
        load_backbone(str(saved), "float32")
    config.write_text(content)
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_backbone(str(saved), "float32")
    config.write_text(content.replace('"hidden_act": "silu"', '"hidden_act": "nonsense"'))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_backbone(str(saved), "float32")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_an_incomplete_folder_is_refused(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"holds no {name}"):
        load_backbone(str(saved), "float32")


def test_bad_input(structure, tmp_path):
    with pytest.raises(CheckpointError, match=r"no \*.safetensors"):
        load_backbone(str(tmp_path))
    with pytest.raises(ConfigError, match=r"tiny.*nor a json file"):
        random_backbone("huge")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigError, match=r"bad\.json: cannot be read as JSON"):
        random_backbone(str(tmp_path / "bad.json"))
    with pytest.raises(ConfigError, match=r"MODEL.VLM.TRAIN is 'all'; use one of lora"):
        make(structure, train="all")
    for content, message in (
        ("[]", "must hold a json mapping"),
        ("{}", "must have a mapping text_config"),
        (json.dumps({**VLM, "text_config": {"num_hiden_layers": 2}}), "did you mean num_hidden"),
        (json.dumps({**VLM, "text_config": {"vocab_size": 40}}), "the tokenizer needs more"),
    ):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ConfigError, match=message):
            random_backbone(str(tmp_path / "bad.json"))
    for token, message in (("<|endoftext|>", "a meaning already"), ("<|im_end|>", "end token")):
        with pytest.raises(ConfigError, match=message):
            line = TINY_PROMPTS.line.replace("<|seg|>", token)
            make(structure, prompts=replace(TINY_PROMPTS, seg_token=token, line=line))
    with pytest.raises(ConfigError, match="no token 'gone'"):
        make(structure, prompts=replace(TINY_PROMPTS, warm_start_token="gone"))
    with pytest.raises(ConfigError, match="stands for an image"):
        make(structure, prompts=replace(TINY_PROMPTS, user="<|image_pad|> {N}"))
    with pytest.raises(ConfigError, match="neither default nor tiny"):
        load_prompts("gone")
    with pytest.raises(CheckpointError, match="no such folder"):
        load_backbone(str(tmp_path / "gone"))
    header = make(structure).header()
    with pytest.raises(CheckpointError, match="vocabulary"):
        make(structure).take_header({**header, "vocabulary": "another"})
    with pytest.raises(CheckpointError, match="low-rank adapters"):
        make(structure, lora=LoraSettings(rank=4)).take_header(header)


def test_a_header_brings_its_prompts(structure):
    vlm = make(structure, prompts=DEFAULT_PROMPTS)
    vlm.take_header(make(structure).header())
    assert vlm.chat.prompts == TINY_PROMPTS


def test_gradient_checkpointing_changes_nothing(structure):
    gradients = []
    for on in (False, True):
        vlm = make(structure, gradient_checkpointing=on).train()
        prefix = vlm.prefix(vlm.encode_images(make_images(1)), ["2"])
        forced = vlm.teacher_forced(
            prefix, [vlm.chat.answer_ids(DESCRIPTIONS[0])], predictions=False
        )
        forced.states_BKD[:, :2].sum().backward()
        gradients.append([p.grad for n, p in vlm.trained_parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 6
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.allclose(plain, recomputed, atol=1e-6)

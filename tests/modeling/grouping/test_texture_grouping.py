"""The meta-arch, its training images, its selector's fit, and the packaging of its parts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from detecture.config import make_config
from detecture.config.sections.images import InputSettings, TextureBankSettings
from detecture.data import KHint
from detecture.data.bank_mappers import MosaicMapper
from detecture.data.synthetic.bank_source import BankSource
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model
from detecture.recipes.selector_fit import _join_two, collect, draw_image, fit
from tests.micro import micro_overrides

SMALL = [
    *("MODEL.META_ARCHITECTURE", "TextureGrouping"),
    *("MODEL.GROUPING.WIDTHS", "(8, 8, 16, 16)", "MODEL.GROUPING.CHANNELS", "8"),
    *("MODEL.GROUPING.WORKING_SIZE", "64", "MODEL.GROUPING.SCALES", "(1.0,)"),
    *("MODEL.GROUPING.CLASSICAL_WEIGHTS", "(0.5,)", "MODEL.DEVICE", "cpu"),
]
MUTE = [*SMALL, "MODEL.GROUPING.DESCRIBE", "False"]
TOOLS = Path(__file__).resolve().parents[3] / "tools"


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tmp_path_factory.mktemp("bank")


def bank_source(bank, unruly):
    textures = TextureBankSettings(count=3, first=0)
    return BankSource(
        folder=str(bank), settings=InputSettings(unruly=unruly, texture_bank=textures)
    )


def build(*overrides):
    return build_model(make_config(None, [*MUTE, *overrides])).eval()


def sample(height=48, width=64, count=None):
    image = torch.full((3, height, width), 200, dtype=torch.uint8)
    image[:, :, : width // 2] = 40
    hint = KHint() if count is None else KHint("fixed", count)
    return {"image": image, "height": height, "width": width, "k_hint": hint, "image_id": "x"}


# ---- training images -------------------------------------------------------------------


def test_mapper_refuses_evaluation():
    with pytest.raises(ConfigError, match="training only"):
        MosaicMapper(make_config(None, []), False, dataset_name="synthetic_mosaics")


# ---- training ------------------------------------------------------------------------------


def test_one_step_reaches_every_parameter_of_the_net(bank):
    cfg = make_config(
        None,
        [*MUTE, "INPUT.TEXTURE_BANK.FOLDER", str(bank), "INPUT.TEXTURE_BANK.COUNT", "3",
         "INPUT.TRAIN_SIZE", "64"],
    )  # fmt: skip
    mapper = MosaicMapper(cfg, True)
    batch = [mapper({"image_id": f"m{i}", "seed": 4, "index": i}) for i in range(2)]
    model = build_model(cfg).train()
    loss = model(batch)["loss_grouping"]
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("net."), name
    assert model(batch)["loss_grouping"].item() == loss.item()


# ---- answers -------------------------------------------------------------------------------


def test_known_number():
    (output,) = build()([sample(count=2)])
    assert output["sem_seg"].shape == (3, 48, 64)
    assert output["descriptions"] == ["", ""]
    labels = output["sem_seg"].argmax(dim=0)
    assert (labels[:, 4] != labels[:, 60]).float().mean() > 0.9
    assert (labels < 2).all()


def test_unknown_number_leaves_no_empty_region():
    (output,) = build()([sample()])
    labels = output["sem_seg"].argmax(dim=0)
    regions = len(output["sem_seg"]) - 1
    assert sorted(labels.unique().tolist()) == list(range(regions))
    assert len(output["descriptions"]) == regions


def test_encoding_is_used_and_batch_is_single():
    model = build()
    one, other = sample(count=2), sample(40, 90, count=3)
    together = model([one, other])
    alone = [model([dict(s, encoding=model.encode_image(s))])[0] for s in (one, other)]
    for a, b in zip(together, alone, strict=True):
        assert torch.equal(a["sem_seg"], b["sem_seg"])


def test_regions_are_described(tmp_path):
    words = ["MODEL.VLM.PROMPTS", "describe", "MODEL.VLM.TRAIN", "full"]
    cfg = make_config(None, [*micro_overrides(tmp_path), *words, *SMALL])
    model = build_model(cfg).eval()
    (output,) = model([sample(count=2)])
    assert len(output["descriptions"]) == 2
    assert any(name.startswith("describer.") for name in model.checkpoint_state())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WORKING_SIZE", "2"),
        ("SCALES", "()"),
        ("COMPONENTS", "(0,)"),
        ("STARTS", "0"),
        ("NETS", "0"),
        ("NETS", "2"),  # SMALL has one scale
    ],
)
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=key):
        build(f"MODEL.GROUPING.{key}", value)


def test_nothing_left_to_find_regions_by():
    with pytest.raises(ConfigError, match="nothing is left"):
        build("MODEL.GROUPING.USE_NET", "False", "MODEL.GROUPING.CLASSICAL_WEIGHTS", "(0.0,)")


# ---- selector and packaging ----------------------------------------------------------------


def test_selector_is_fitted_and_goes_on_where_it_was_killed(bank, tmp_path):
    model, cache = build(), tmp_path / "evidence.npz"
    mosaics = bank_source(bank, 0.5)
    first = collect(model, 10, mosaics, cache, 0)
    (tmp_path / "evidence.npz").touch()
    whole = collect(model, 20, mosaics, cache, 0)
    assert torch.equal(whole.evidence_BKE[:10], first.evidence_BKE)
    figures = fit(model.selector, whole, steps=50)
    assert figures["chosen"] <= figures["best"]
    assert not any(p.requires_grad for p in model.selector.parameters())
    with pytest.raises(ConfigError, match="too few"):
        fit(model.selector, first)


def test_some_images_have_a_region_of_two_textures(bank, monkeypatch):
    mosaics = bank_source(bank, 0.0)
    composed = [draw_image(number, mosaics) for number in range(12)]
    monkeypatch.setattr("detecture.recipes.selector_fit.COMPOSITE", 1.0)
    joined = [draw_image(number, mosaics) for number in range(12)]
    monkeypatch.setattr("detecture.recipes.selector_fit.COMPOSITE", 0.0)
    plain = [draw_image(number, mosaics) for number in range(12)]
    # How many regions an image has does not hang on whether one of them is composite.
    counts = [[len(masks) for _, masks in images] for images in (composed, joined, plain)]
    assert counts[0] == counts[1] == counts[2]
    for (_, masks), (_, apart), count in zip(joined, plain, counts[0], strict=True):
        assert masks.sum(axis=0).max() == 1
        assert (masks == apart).all() == (count in (1, 6))


def test_the_two_textures_of_a_region_touch():
    masks = np.zeros((3, 8, 30), bool)
    for number in range(3):
        masks[number, :, 10 * number : 10 * number + 10] = True
    for seed in range(5):
        joined = _join_two(masks, np.random.default_rng(seed))
        assert sorted(mask.sum() for mask in joined) == [80, 160]
        assert not (joined[0] & masks[0]).any() or not (joined[0] & masks[2]).any()
        assert (joined.sum(axis=0) == 1).all()


def test_evidence_that_cannot_be_used(bank, tmp_path):
    model, cache = build(), tmp_path / "evidence.npz"
    mosaics = bank_source(bank, 0.5)
    np.savez(cache, evidence=np.zeros((4, 6, 7)), quality=np.zeros((4, 6)))
    with pytest.raises(ConfigError, match=r"evidence\.npz: it holds other figures; remove it"):
        collect(model, 10, mosaics, cache, 0)
    for content in (b"", b"PK\x03\x04 cut off", b"text"):
        cache.write_bytes(content)
        with pytest.raises(ConfigError, match=r"evidence\.npz: .*remove it"):
            collect(model, 10, mosaics, cache, 0)


def _tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parts_are_joined(tmp_path):
    from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights

    config = tmp_path / "model.yaml"
    model = build()
    state = model.checkpoint_state()
    net = {n: t for n, t in state.items() if n.startswith("net.")}
    rest = {n: t for n, t in state.items() if not n.startswith("net.")}
    for name, part in (("net", net), ("rest", rest)):
        content = pack_weights(part, make_header("", {}))
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    config.write_text("{}\n")
    output = tmp_path / "joined.safetensors"
    arguments = ["--config-file", str(config), "--output", str(output), "--opts", *MUTE]
    parts = [str(tmp_path / "net.safetensors"), str(tmp_path / "rest.safetensors")]
    assert _tool("package_model").main([*arguments, "--parts", *parts]) == 0
    tensors, header = read_weights(output)
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert len(header["parts"]) == 2
    model.load_checkpoint_state(tensors)
    assert _tool("package_model").main([*arguments, "--parts", parts[0], parts[0]]) == 2
    assert _tool("package_model").main([*arguments, "--parts", parts[0]]) == 2


def test_nets_are_joined_after_they_were_trained_one_by_one(tmp_path):
    from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights

    two = ["MODEL.GROUPING.SCALES", "(1.0, 1.25)", "MODEL.GROUPING.NETS", "2"]
    states = [build("MODEL.RANDOM_WEIGHTS_SEED", str(s)).checkpoint_state() for s in (1, 2)]
    files = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    for file, state in zip(files, states, strict=True):
        file.write_bytes(pack_weights(state, make_header("", {})))
    config, output = tmp_path / "model.yaml", tmp_path / "joined.safetensors"
    config.write_text("{}\n")
    arguments = ["--config-file", str(config), "--output", str(output), "--parts", str(files[0])]
    arguments += ["--opts", *MUTE, *two]
    assert _tool("package_model").main([*arguments, "--more-nets", str(files[1])]) == 0
    tensors, header = read_weights(output)
    assert len(header["parts"]) == 2
    for name, tensor in states[0].items():
        assert torch.equal(tensors[name], tensor.half())
        if name.startswith("net."):
            other = tensors[f"more_nets.0.{name.removeprefix('net.')}"]
            assert torch.equal(other, states[1][name].half())
    model = build(*two)
    model.load_checkpoint_state(tensors)
    (output_two,) = model([sample(count=2)])
    assert output_two["sem_seg"].isfinite().all()
    with pytest.raises(ConfigError, match="one at a time"):
        model.train()([sample(count=2)])
    assert _tool("package_model").main(arguments) == 2


def test_a_shipped_file_that_is_not_there():
    from detecture.checkpoint.shipped import locate

    with pytest.raises(CheckpointError, match="ships with this version"):
        locate("detecture://nothing.safetensors")


def test_a_packaged_file_replaces_packaged_files_alone(tmp_path, capsys):
    """Not a checkpoint of hours of training, though this program wrote it too."""
    from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights

    state = build().checkpoint_state()
    (tmp_path / "part.safetensors").write_bytes(pack_weights(state, make_header("", {})))
    (tmp_path / "model.yaml").write_text("{}\n")
    output = tmp_path / "joined.safetensors"
    words = ["--config-file", str(tmp_path / "model.yaml"), "--output", str(output)]
    words += ["--parts", str(tmp_path / "part.safetensors")]
    for content in (b"mine", (tmp_path / "part.safetensors").read_bytes()):
        output.write_bytes(content)
        assert _tool("package_model").main([*words, "--opts", *MUTE]) == 2
        assert "give --overwrite" in capsys.readouterr().err
        assert output.read_bytes() == content
    for more in (["--overwrite"], []):
        assert _tool("package_model").main([*words, *more, "--opts", *MUTE]) == 0
    assert "parts" in read_weights(output)[1]


# ---- granularity ---------------------------------------------------------------------------


def test_proposals_are_encoded_once(monkeypatch):
    """Another granularity, or another count among the proposals, runs no nets and no mixtures."""
    from detecture.modeling.meta_arch import texture_grouping

    model = build()
    encoded = sample() | {"encoding": model.encode_image(sample())}
    proposals = model.proposals(encoded["encoding"])
    assert [one.division.posterior_NK.shape[1] for one in proposals] == [1, 2, 3, 4, 5, 6]

    def refuse(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(model.finder, "encode", refuse)
    monkeypatch.setattr(model.finder, "divide", refuse)
    monkeypatch.setattr(texture_grouping, "evidence", refuse)
    for granularity in (-1.0, -0.4, 0.0, 0.7, 1.0):
        (output,) = model([encoded | {"granularity": granularity}])
        assert output["sem_seg"].isfinite().all()
    for count in range(1, 7):
        (output,) = model([encoded | {"k_hint": KHint("fixed", count)}])
        assert len(output["descriptions"]) == count
        assert sum(share for _, share in output["alternatives"]) == pytest.approx(1.0)


def test_granularity_with_and_without_an_encoding():
    model = build()
    for granularity in (-1.0, 0.5, 1.0):
        asked = sample() | {"granularity": granularity}
        (plain,) = model([asked])
        (encoded,) = model([asked | {"encoding": model.encode_image(sample())}])
        assert torch.equal(plain["sem_seg"], encoded["sem_seg"])
        assert plain["alternatives"] == encoded["alternatives"]
    (coarsest,) = model([sample() | {"granularity": -1}])
    assert coarsest["descriptions"] == [""]


def test_the_granularity_of_the_config_holds_where_none_is_asked():
    finest = build("TEST.GRANULARITY", "1.0")([sample()])[0]
    asked = build()([sample() | {"granularity": 1.0}])[0]
    assert torch.equal(finest["sem_seg"], asked["sem_seg"])


def test_nothing_is_known_of_other_counts_where_one_is_told():
    assert build()([sample(count=2)])[0]["alternatives"] == []


def test_without_a_granularity_the_count_is_the_selectors(bank):
    """The label map is that of the finder for the count of greatest odds, as ever."""
    from detecture.modeling.grouping.evidence import evidence

    model = build()
    torch.nn.init.normal_(model.selector.members[0][0].weight, generator=torch.manual_seed(1))
    chosen = set()
    for number in range(4):
        image, _ = draw_image(number, bank_source(bank, 0.5))
        features = model.finder.encode(image)
        points = model.finder.points(features)
        figures = torch.from_numpy(evidence(features, model.divisions(points))).float()
        count = int(model.selector(figures[None]).argmax()) + 1
        label_hw = model.finder.scores(features, model.finder.divide(points, count)).argmax(dim=0)
        mapped = sample() | {"image": torch.from_numpy(image).permute(2, 0, 1)}
        mapped |= dict(zip(("height", "width"), label_hw.shape, strict=True))
        (output,) = model([mapped])
        _, expected = label_hw.unique(return_inverse=True)
        assert torch.equal(output["sem_seg"][:-1].argmax(dim=0), expected)
        assert model.choose_count(features, points) == count
        chosen.add(count)
    assert len(chosen) > 1


def test_the_fit_of_the_confidence_alone_keeps_all_else(bank, tmp_path, capsys):
    from detecture.checkpoint.weights_file import make_header, pack_weights, read_weights

    state = build().checkpoint_state()
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(pack_weights(state, make_header("", {}, parts=[{"sha256": "before"}])))
    (tmp_path / "model.yaml").write_text("{}\n")
    words = ["--config-file", str(tmp_path / "model.yaml"), "--images", "20"]
    more = ["INPUT.TEXTURE_BANK.FOLDER", str(bank), "INPUT.TEXTURE_BANK.COUNT", "3"]
    more += ["DATALOADER.NUM_WORKERS", "0"]
    more += ["MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(tmp_path / "out"), *MUTE]
    assert _tool("fit_selector").main([*words, "--confidence-alone", *more]) == 0
    printed = capsys.readouterr().out
    assert "selector: as before" in printed and "confidence: regions" in printed
    fitted = tmp_path / "out/selector.safetensors"
    tensors, header = read_weights(fitted)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())
    assert len(tensors) == len(state) + 4
    assert 0 <= header["confidence"]["ece"] <= 1 and header["selector"] == {}
    output = tmp_path / "joined.safetensors"
    arguments = ["--config-file", str(tmp_path / "model.yaml"), "--output", str(output)]
    assert _tool("package_model").main([*arguments, "--parts", str(fitted), "--opts", *MUTE]) == 0
    parts = read_weights(output)[1]["parts"]
    assert parts[0] == {"sha256": "before"} and parts[1]["confidence"] == header["confidence"]
    # The selector and the confidence at once.
    more[more.index("OUTPUT_DIR") + 1] = str(tmp_path / "both")
    assert _tool("fit_selector").main([*words, *more]) == 0
    printed = capsys.readouterr().out
    assert "selector: chosen" in printed and "confidence: regions" in printed

"""The meta-arch, its training pictures, its selector's fit, and the packaging of its parts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from detecture.config import make_config
from detecture.data import KHint
from detecture.data.mosaic_mapper import MosaicMapper
from detecture.data.synthetic.bank import draw_texture, open_bank
from detecture.data.synthetic.mosaic import compose_mosaic
from detecture.engine.selector_fit import collect, fit
from detecture.errors import CheckpointError, ConfigError, DatasetError
from detecture.modeling import build_model
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


def build(*overrides):
    return build_model(make_config(None, [*MUTE, *overrides])).eval()


def sample(height=48, width=64, count=None):
    image = torch.full((3, height, width), 200, dtype=torch.uint8)
    image[:, :, : width // 2] = 40
    hint = KHint() if count is None else KHint("fixed", count)
    return {"image": image, "height": height, "width": width, "k_hint": hint, "image_id": "x"}


# ---- pictures ------------------------------------------------------------------------------


def test_bank_is_drawn_once_and_grows_anew(bank):
    first = open_bank(bank, 3)
    written = (bank / "textures.npy").stat().st_mtime_ns
    again = open_bank(bank, 3)
    assert (bank / "textures.npy").stat().st_mtime_ns == written
    assert (first == again).all()
    assert (first[2] == draw_texture(2)).all()


def test_banks_that_do_not_overlap(bank, tmp_path):
    other = open_bank(tmp_path, 2, first=1)
    assert (other == open_bank(bank, 3)[1:]).all()
    assert (open_bank(tmp_path, 2, first=3)[0] == draw_texture(3)).all()
    with pytest.raises(DatasetError, match=r"INPUT\.TEXTURE_BANK\.FIRST -1"):
        open_bank(tmp_path, 2, first=-1)


def test_an_unusable_bank_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"INPUT\.TEXTURE_BANK\.FOLDER"):
        open_bank(tmp_path / "file", 2)
    with pytest.raises(DatasetError, match="at least one"):
        open_bank(tmp_path, 0)


def test_mosaics_are_the_same_at_every_call(bank):
    textures = open_bank(bank, 3)
    for index in range(6):
        image, labels = compose_mosaic(textures, 4, index, 64)
        same, also = compose_mosaic(textures, 4, index, 64)
        assert (image == same).all() and (labels == also).all()
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        present = np.unique(labels)
        assert (present == np.arange(len(present))).all() and 2 <= len(present) <= 6


def test_a_compound_of_two_textures_is_one_region(bank, monkeypatch):
    textures = open_bank(bank, 3)
    monkeypatch.setattr("detecture.data.synthetic.mosaic._COMPOUND", 0.0)
    plain, labels = compose_mosaic(textures, 4, 3, 96, 2)
    monkeypatch.setattr("detecture.data.synthetic.mosaic._COMPOUND", 1.0)
    mixed, same = compose_mosaic(textures, 4, 3, 96, 2)
    assert (labels == same).all()
    changed = np.abs(plain.astype(int) - mixed).max(axis=2) > 24
    # In patches: neither nothing nor everything of a region changes.
    for number in range(2):
        assert 0.05 < changed[labels == number].mean() < 0.95


def test_mosaics_larger_than_their_textures(bank, monkeypatch):
    for part in ("_COMPOUND", "_SPARSE"):
        monkeypatch.setattr(f"detecture.data.synthetic.mosaic.{part}", 1.0)
    image, labels = compose_mosaic(open_bank(bank, 3), 4, 0, 300, 2)
    assert image.shape == (300, 300, 3) and labels.shape == (300, 300)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_mosaics_of_a_given_number(bank, count):
    _, labels = compose_mosaic(open_bank(bank, 3), 4, 0, 64, count)
    assert len(np.unique(labels)) == count


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
    [("WORKING_SIZE", "2"), ("SCALES", "()"), ("COMPONENTS", "(0,)"), ("STARTS", "0")],
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
    first = collect(model, 10, (str(bank), 3, 0), cache, 0)
    (tmp_path / "evidence.npz").touch()
    whole = collect(model, 20, (str(bank), 3, 0), cache, 0)
    assert torch.equal(whole.evidence_BKE[:10], first.evidence_BKE)
    figures = fit(model.selector, whole, steps=50)
    assert figures["chosen"] <= figures["best"]
    assert not any(p.requires_grad for p in model.selector.parameters())
    with pytest.raises(ConfigError, match="too few"):
        fit(model.selector, first)


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


def test_a_shipped_file_that_is_not_there():
    from detecture.checkpoint.shipped import locate

    with pytest.raises(CheckpointError, match="ships with this version"):
        locate("detecture://nothing.safetensors")

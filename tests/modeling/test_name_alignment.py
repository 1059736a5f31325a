"""The first stage of the small AHSSeg, and names that differ from image to image."""

import pytest
import torch

from detecture.config import make_config
from detecture.data.vocabulary import Vocabulary
from detecture.errors import CheckpointError, ConfigError
from detecture.modeling import build_model

CONFIG = "configs/ahs_seg/base_tiny.yaml"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.CLIP.GRID", "4", "MODEL.COST_AGGREGATION.WINDOW", "4"),
    *("MODEL.COST_AGGREGATION.LAYERS", "1", "MODEL.COST_AGGREGATION.MOST_CLASSES", "8"),
]


def build(architecture, *overrides):
    cfg = make_config(CONFIG, ["MODEL.META_ARCHITECTURE", architecture, *SMALL, *overrides])
    return build_model(cfg)


def sample(seed, names):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, 48, 48), generator=generator, dtype=torch.uint8)
    labels = torch.zeros(48, 48, dtype=torch.int64)
    labels[:, 24:] = 1
    labels[:8] = 255
    vocabulary = Vocabulary.of(names)
    concepts = [
        {"kind": (own[-1],), "color": ("red", "brown"), "position": ("left",)} for own in names
    ]
    found = {"image": image, "sem_seg": labels, "vocabulary": vocabulary, "concepts": concepts}
    return {**found, "height": 48, "width": 48}


BATCH = [
    sample(0, [["red bricks", "bricks"], ["green grass"], ["blue sky"]]),
    sample(1, [["wet sand"], ["sea"]]),
]


@pytest.fixture(scope="module")
def aligner():
    return build("NameAlignment").train()


def test_every_tensor_that_trains_has_a_gradient_and_the_given_trunk_none(aligner):
    losses = aligner(BATCH)
    assert set(losses) == {"loss_patches", "loss_regions", "loss_concepts"}
    sum(losses.values()).backward()
    groups = aligner.parameter_groups()
    trained = {n: p for g in groups for n, p in zip(g["names"], g["params"], strict=True)}
    assert all(p.grad is not None for p in trained.values())
    assert not any(".trunk." in name or name.startswith("head.") for name in trained)
    without = [n for n, p in aligner.named_parameters() if p.grad is None and p.requires_grad]
    assert not without
    aligner.zero_grad()


def test_ahs_seg_goes_on_from_its_checkpoint(aligner):
    state, header = aligner.checkpoint_state(), aligner.checkpoint_header()
    assert not any(".trunk." in name for name in state)
    model = build("AHSSeg")
    model.load_checkpoint_header(header)
    model.load_checkpoint_state({name: tensor + 0.25 for name, tensor in state.items()})
    own = model.checkpoint_state()
    assert all(torch.equal(own[name], state[name] + 0.25) for name in state)


def test_another_trunk_is_another_clip(aligner):
    other = build("AHSSeg", "MODEL.CLIP.STEM_WEIGHTS", "")
    assert any(".trunk." in name for name in other.checkpoint_state())
    with pytest.raises(CheckpointError, match="clip"):
        other.load_checkpoint_header(aligner.checkpoint_header())


def test_stem_weights_that_do_not_go():
    with pytest.raises(CheckpointError, match="no trunk for"):
        build("AHSSeg", "MODEL.CLIP.STEM_WEIGHTS", "detecture://detecture_tiny.safetensors")
    with pytest.raises(ConfigError, match="no stem"):
        cfg = make_config(CONFIG, [*SMALL, "MODEL.CLIP.CONFIG", "tiny"])
        build_model(cfg)


@pytest.mark.parametrize("key", ["MODEL.CLIP.STEM_WEIGHTS", "MODEL.REGION_MEANS.WEIGHTS"])
def test_weights_that_are_not_there_are_told_by_their_key(key):
    with pytest.raises(CheckpointError, match=f"nowhere: no such checkpoint; check {key}$"):
        build("AHSSeg", key, "nowhere")


def test_regions_of_another_form_are_told_by_their_key():
    words = ("MODEL.GROUPING.NETS", "1", "MODEL.REGION_MEANS.WEIGHTS")
    with pytest.raises(CheckpointError, match=r"MODEL\.REGION_MEANS\.WEIGHTS .*MODEL\.GROUPING"):
        build("AHSSeg", *words, "detecture://texture_grouping.safetensors")


def test_images_need_names_of_their_own(aligner):
    bare = {key: value for key, value in BATCH[0].items() if key != "vocabulary"}
    with pytest.raises(ConfigError, match="without names"):
        aligner([bare])


def test_losses_of_a_batch_are_those_of_its_images():
    model = build("AHSSeg").train()
    with torch.no_grad():
        together = model(BATCH)
        norm = model.loss_normalizers(BATCH)
        alone = [model([one], norm) for one in BATCH]
        own = [model([one]) for one in BATCH]
    expected = sum(one["loss_sem_seg"] for one in alone)
    assert torch.allclose(together["loss_sem_seg"], expected, atol=1e-6)
    # Equally many pixels count in both, so that it is the mean of the images' own, too.
    assert torch.allclose(
        together["loss_sem_seg"], sum(one["loss_sem_seg"] for one in own) / 2, atol=1e-6
    )
    mean = sum(one["loss_contrast"] for one in own) / 2
    assert torch.allclose(together["loss_contrast"], mean, atol=1e-6)


def test_regions_have_their_mean_score():
    overrides = ("MODEL.GROUPING.NETS", "2", "MODEL.REGION_MEANS.WEIGHTS")
    shipped = "detecture://texture_grouping.safetensors"
    plain = build("AHSSeg").eval()
    model = build("AHSSeg", *overrides, shipped).eval()
    model.load_checkpoint_state(plain.checkpoint_state())
    one = {**BATCH[0], "image": BATCH[0]["image"].clone()}
    one["image"][:, :, :24] = 20
    del one["sem_seg"]
    (answer,) = model([one])
    assert answer["label_map"].shape == (48, 48)
    assert len(answer["score"][8:40, 2:20].round(decimals=4).unique()) == 1  # one flat region
    assert set(model.checkpoint_state()) == set(plain.checkpoint_state())


def test_each_name_has_a_region_where_that_is_known():
    overrides = ("MODEL.GROUPING.NETS", "2", "MODEL.REGION_MEANS.WEIGHTS")
    shipped = "detecture://texture_grouping.safetensors"
    every = ("MODEL.REGION_MEANS.EVERY_NAME", "True")
    plain, model = (build("AHSSeg", *overrides, shipped, *more).eval() for more in ((), every))
    model.load_checkpoint_state(plain.checkpoint_state())
    halves = torch.full((3, 48, 48), 200, dtype=torch.uint8)
    halves[:, :, :24] = 20
    # Whatever a model with random weights thinks, one of the two names is better in one half.
    for names in (["bricks", "grass"], ["grass", "bricks"]):
        one = {**BATCH[0], "image": halves, "vocabulary": Vocabulary.of(names)}
        del one["sem_seg"]
        (answer,) = model([one])
        assert answer["label_map"].unique().tolist() == [0, 1]
        (before,) = plain([one])
        kept = answer["label_map"] == before["label_map"]
        assert kept.float().mean() > 0.4  # where the pairs agree with the best names, all stays
        # Where two regions meet, scores are a mixture of both.
        kept[:, 20:28] = False
        assert kept.any() and torch.equal(answer["score"][kept], before["score"][kept])


def test_region_means_and_windows_do_not_go_together():
    with pytest.raises(ConfigError, match=r"TEST\.SLIDING\.ENABLED False"):
        build(
            "AHSSeg",
            *("MODEL.GROUPING.NETS", "2", "TEST.SLIDING.ENABLED", "True"),
            *("MODEL.REGION_MEANS.WEIGHTS", "detecture://texture_grouping.safetensors"),
        )

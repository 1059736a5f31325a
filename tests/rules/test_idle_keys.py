"""A key that is set and does nothing is named in a warning; the tables behind that are true."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from fvcore.common.config import CfgNode as AnyCfgNode
from torch import nn

from detecture.config import idle, make_config
from detecture.config import readers as of_models
from detecture.config.checks import all_keys
from detecture.config.readers import KNOWN, READERS, readers_of, warn_of_keys_without_effect
from detecture.config.sections.declaring import Settings
from detecture.d2 import META_ARCH_REGISTRY, MetadataCatalog
from detecture.data import known_datasets
from detecture.data.mapper import DATASET_MAPPER_REGISTRY
from detecture.engine import idle_keys as of_training
from detecture.engine.idle_keys import warn_of_idle_training_keys, warn_of_keys_of_scripts
from detecture.errors import ConfigError
from detecture.modeling import build_model

REPO = Path(__file__).parents[2]
# It goes on from the describer's config, without the VLM.
INHERITS = {"recipes/describer_nouns.yaml"}
SMALL = {
    "baselines/texture_clusters": (),
    "baselines/floor_half_split": (),
    "baselines/floor_one_region": (),
    "texture_grouping": (),
    "detecture_tiny": (),
    "baselines/describe_then_segment_tiny": (),
    "baselines/grounded_sam3_tiny": (),
    "baselines/sam3_text_tiny": (),
    "baselines/texture_sam_tiny": (),
    "ahs_seg/cat_seg_tiny": (),
    "ahs_seg/tiny_shipped": (),
    "recipes/describer": (),
    "recipes/describer_nouns": ("MODEL.DESCRIBER.TEXTURE_WEIGHTS", ""),
    "recipes/ahs_seg_tiny_encoders": (),
}


@pytest.fixture
def said(caplog):
    """The warnings so far, and forgets them."""
    logging.getLogger("detecture").propagate = True

    def take():
        found = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        caplog.clear()
        return [text for text in found if "without effect" in text]

    return take


def configs():
    for path in sorted((REPO / "configs").rglob("*.yaml")):
        try:
            yield str(path.relative_to(REPO / "configs")), make_config(path)
        except ConfigError:  # plans of benchmarks are no configs
            continue


def test_no_shipped_config_sets_what_its_model_does_not_read(said):
    names = []
    for name, cfg in configs():
        names.append(name)
        warn_of_keys_without_effect(cfg)
        warn_of_keys_of_scripts(cfg)
        assert (name in INHERITS) == bool(said()), name
    assert len(names) > 50


def test_no_shipped_config_sets_what_its_training_does_not_read(said):
    trained = 0
    for name, cfg in configs():
        if not cfg.DATASETS.TRAIN or name in INHERITS:
            continue
        trained += 1
        changed = idle.changed_keys(cfg)
        mappers = {of_training._mapper_of(dataset) for dataset in cfg.DATASETS.TRAIN}
        assert of_training._unread(changed, of_training.READERS_OF_IMAGES, mappers) == [], name
        rates = {cfg.SOLVER.LR_SCHEDULER_NAME}
        assert of_training._unread(changed, of_training.READERS_OF_RATES, rates) == [], name
        assert idle.switched_off(cfg, ("SOLVER",)) == [], name
    assert trained > 8


def test_the_tables_name_what_there_is():
    cfg = make_config(None)
    keys = set(all_keys(cfg))
    tables = (READERS, of_training.READERS_OF_IMAGES, of_training.READERS_OF_RATES)
    assert [key for table in tables for key in table if key not in keys] == []
    assert [key for key in of_training.OF_SCRIPTS if key not in keys] == []
    needs = [*of_models.NEEDS, *of_models.NEEDS_SOME]
    assert [key for names, on, *_ in needs for key in (*names, on) if key not in keys] == []
    assert set(KNOWN) == {name for name, _ in META_ARCH_REGISTRY if name in vars_of_package()}
    mappers = {name for names in of_training.READERS_OF_IMAGES.values() for name in names}
    assert mappers == {
        MetadataCatalog.get(name).get("mapper", "TextureMapper") for name in known_datasets()
    }
    assert all(name in DATASET_MAPPER_REGISTRY for name in mappers)


def vars_of_package():
    """Models of this package: tests register some of their own."""
    return {name for name, kind in META_ARCH_REGISTRY if kind.__module__.startswith("detecture.")}


def test_every_section_of_a_method_is_in_the_table():
    sections = {f"MODEL.{n}" for n, v in make_config(None).MODEL.items() if isinstance(v, dict)}
    theirs = {"MODEL." + key.split(".")[1] for key in READERS if key.startswith("MODEL.")}
    detectron2s = {name for name in sections - theirs if name.split(".")[1] in DETECTRON2S}
    assert sections - theirs - detectron2s == set()


DETECTRON2S = {
    *("BACKBONE", "FPN", "PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "RPN", "ROI_HEADS"),
    *("ROI_BOX_HEAD", "ROI_BOX_CASCADE_HEAD", "ROI_MASK_HEAD", "ROI_KEYPOINT_HEAD"),
    *("PANOPTIC_FPN", "RETINANET", "RESNETS"),
}


@pytest.mark.parametrize("name", SMALL)
def test_what_a_model_reads_is_what_the_table_says(name, monkeypatch):
    """Of every section in the table: it is read in building exactly the models named there."""
    cfg = make_config(REPO / f"configs/{name}.yaml", ["MODEL.DEVICE", "cpu", *SMALL[name]])
    read = set()
    of_keys = {frozenset(node): path for path, node in sections_of(cfg, "")}
    plain = AnyCfgNode.__getattr__

    def get(node, key):
        value = plain(node, key)
        if not isinstance(value, AnyCfgNode) and (path := of_keys.get(frozenset(node))):
            read.add(f"{path}.{key}")
        return value

    whole = Settings.from_config.__func__

    def from_config(kind, given):
        read.update(f"{kind.PATH}.{key}" for key, *_ in kind.declarations())
        with monkeypatch.context() as off:
            off.setattr(AnyCfgNode, "__getattr__", plain)
            return whole(kind, given)

    monkeypatch.setattr("detecture.modeling.build.warn_of_keys_without_effect", lambda _: None)
    monkeypatch.setattr(Settings, "from_config", classmethod(from_config))
    monkeypatch.setattr(AnyCfgNode, "__getattr__", get)
    build_model(cfg)
    model = cfg.MODEL.META_ARCHITECTURE
    for key in read:
        models = readers_of(key)
        if models is not None and model not in models:
            assert key in READ_IN_VAIN.get(model, ()), f"{model} reads {key}"
    for path, models in READERS.items():
        if model in models and (path, model) not in READ_LATER:
            assert any(idle.is_of(key, [path]) for key in read), f"{model} does not read {path}"


# Read in building a part, of which the model does not use what hangs on it.
_VLM = ("LOSS.LM_WEIGHT", "MODEL.VLM.TRAIN", "MODEL.VLM.TRAIN_COUNT")
_LOSS = ("LOSS.GROUPING.PIXELS", "LOSS.GROUPING.TEMPERATURE", "LOSS.GROUPING.CONTRAST_WEIGHT")
READ_IN_VAIN = {
    "TextureGrouping": _VLM,
    "DescribeThenSegment": _VLM,
    "AHSSeg": (*_LOSS, "TEST.DUSTBIN_LOGIT", "TEST.GRANULARITY"),
    "RegionDescriber": ("MODEL.VLM.TRAIN_COUNT",),
}
READ_LATER = {
    ("LOSS.NORMALIZER", "RegionDescriber"),  # by the trainer
    # By MODEL.REGION_MEANS, where it has weights, and by a head that CATSeg's subclass has.
    *((path, "NameAlignment") for path in ("MODEL.MAX_REGIONS", "MODEL.GROUPING")),
}


def sections_of(node, path):
    for name, value in node.items():
        if isinstance(value, AnyCfgNode):
            full = f"{path}.{name}" if path else name
            yield full, value
            yield from sections_of(value, full)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("MODEL.ADAPTIVE_ENERGY.ENABLED", "True"), "TextureClusters does not read them"),
        (("TEST.AUG.ENABLED", "True"), "TextureClusters does not read them"),
        (("MODEL.GROUPING.STARTS", "2"), "TextureClusters does not read them"),
        (("LOSS.DICE_WEIGHT", "1.0"), "TextureClusters does not read them"),
    ],
)
def test_a_key_of_another_model(overrides, named, said):
    build_model(make_config(None, ["MODEL.DEVICE", "cpu", *overrides]))
    assert said() == [f"{overrides[0]}: set without effect, since {named}"]
    build_model(make_config(None, ["MODEL.DEVICE", "cpu", "MODEL.TEXTURE_CLUSTERS.SEED", "3"]))
    assert said() == []


@pytest.mark.parametrize(
    ("config", "overrides", "why"),
    [
        ("ahs_seg/cat_seg_tiny", ("MODEL.RECTIFICATION.WEIGHT", "0.2"), "CATSeg does not read"),
        ("ahs_seg/cat_seg_tiny", ("TEST.AUG.MIN_SIZES", "(300,)"), "ENABLED beside them is False"),
        ("ahs_seg/cat_seg_tiny", ("MODEL.CLIP.ORTHOGONAL.BLOCK", "8"), "MODEL.CLIP.FINETUNE is"),
        (
            "detecture_qwen3vl8b_sam3",
            ("MODEL.REFINEMENT.WEIGHT", "0.9"),
            "MODEL.REFINEMENT.STEPS is 0",
        ),
        ("detecture_tiny", ("TEST.DUSTBIN_LOGIT", "0.5"), "Detecture does not read"),
    ],
)
def test_a_key_that_hangs_on_another(config, overrides, why, said):
    warn_of_keys_without_effect(make_config(REPO / f"configs/{config}.yaml", overrides))
    found = said()
    assert any(text.startswith(f"{overrides[0]}: set without") and why in text for text in found)


def test_a_model_of_a_users_own_may_read_what_it_likes(said):
    cfg = make_config(None, ["MODEL.META_ARCHITECTURE", "Mine", "MODEL.BRIDGE.DROPOUT", "0.1"])
    warn_of_keys_without_effect(cfg)
    assert said() == []


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("INPUT.RANDOM_FLIP", "vertical"), "the data sets synthetic_train do not read them"),
        (("INPUT.COLOR_AUG_SSD", "True"), "the data sets synthetic_train do not read them"),
        (("INPUT.UNRULY", "0.5"), "the data sets synthetic_train do not read them"),
        (("SOLVER.MIN_LR", "1e-5"), "WarmupMultiStepLR does not read them"),
        (("SOLVER.AMP.PRECISION", "float16"), "ENABLED beside them is False"),
        (("SOLVER.LR_FACTOR.BRIDGE", "2.0"), "the SGD of Linear does not read them"),
    ],
)
def test_a_key_that_a_training_does_not_read(overrides, why, said):
    given = ["DATASETS.TRAIN", "('synthetic_train',)", *overrides]
    warn_of_idle_training_keys(make_config(None, given), nn.Linear(2, 2))
    (text,) = said()
    assert text.startswith(f"{overrides[0]}: set without effect, since ") and text.endswith(why)


def test_keys_of_an_optimiser(said):
    cfg = make_config(None, ["SOLVER.OPTIMIZER", "AdamW", "SOLVER.MOMENTUM", "0.5"])
    warn_of_idle_training_keys(cfg, nn.Linear(2, 2))
    assert said() == [
        "SOLVER.MOMENTUM: set without effect, since the AdamW of Linear does not read them"
    ]


def test_keys_that_only_scripts_of_detectron2_read(said):
    warn_of_keys_of_scripts(make_config(None, ["INPUT.MIN_SIZE_TEST", "800"]))
    (text,) = said()
    assert text.startswith("INPUT.MIN_SIZE_TEST: ") and "Detectron2's own" in text


def test_other_processes_say_nothing(said, monkeypatch):
    monkeypatch.setattr(idle, "comm", SimpleNamespace(is_main_process=lambda: False))
    warn_of_keys_of_scripts(make_config(None, ["INPUT.MIN_SIZE_TEST", "800"]))
    assert said() == []

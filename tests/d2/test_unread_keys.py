"""Keys of Detectron2 that its config files set and that nothing here reads."""

import logging

import pytest

from detecture.d2 import BACKEND, CfgNode, get_cfg
from detecture.d2.lite.config import get_cfg as lite_get_cfg
from detecture.d2.lite.unread_keys import UNREAD_KEYS, leaves
from detecture.d2.unread_keys import warn_of_unread_keys

# In the style of Detectron2's own files: a base, tuples as text.
BASE = """
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  BACKBONE: {NAME: "build_resnet_fpn_backbone"}
  RESNETS: {OUT_FEATURES: ["res2", "res3", "res4", "res5"]}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}
  RPN: {IN_FEATURES: ["p2", "p3"], PRE_NMS_TOPK_TRAIN: 2000, NMS_THRESH: 0.7}
DATASETS:
  TRAIN: ("coco_2017_train",)
SOLVER:
  STEPS: (60000, 80000)
INPUT:
  MIN_SIZE_TRAIN: (640, 672)
VERSION: 2
"""
CHILD = """
_BASE_: "base.yaml"
MODEL:
  WEIGHTS: "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
  MASK_ON: True
  PIXEL_MEAN: [100.0, 110.0, 120.0]
  ROI_BOX_CASCADE_HEAD:
    IOUS: (0.5, 0.6, 0.8)
"""
# Everything that has another value than the default, and nothing else.
SET = {
    *("MODEL.BACKBONE.NAME", "MODEL.RESNETS.OUT_FEATURES", "MODEL.ANCHOR_GENERATOR.SIZES"),
    *("MODEL.RPN.IN_FEATURES", "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.MASK_ON"),
    *("MODEL.PIXEL_MEAN", "MODEL.ROI_BOX_CASCADE_HEAD.IOUS"),
}


@pytest.fixture
def yaml_file(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "child.yaml").write_text(CHILD)
    return str(tmp_path / "child.yaml")


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def named(message):
    return set(message.rpartition(": ")[2].split(", "))


def test_a_detectron2_yaml_loads(yaml_file):
    cfg = get_cfg()
    cfg.merge_from_file(yaml_file)
    assert cfg.SOLVER.STEPS == (60000, 80000)
    assert cfg.MODEL.MASK_ON is True
    assert cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN == 2000
    assert cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS == (0.5, 0.6, 0.8)
    assert isinstance(cfg.MODEL.RPN, CfgNode)


@pytest.mark.lite_only  # detectron2 has models that read them
def test_one_warning_names_what_has_no_effect(yaml_file, caplog):
    cfg = get_cfg()
    cfg.merge_from_file(yaml_file)
    (told,) = warnings(caplog)
    assert yaml_file in told and named(told) == SET
    caplog.clear()
    cfg.merge_from_list(["SEED", "3", "MODEL.RPN.NMS_THRESH", "0.5", "VIS_PERIOD", "0"])
    (told,) = warnings(caplog)
    assert named(told) == {"MODEL.RPN.NMS_THRESH"}


@pytest.mark.lite_only
def test_a_dumped_config_warns_of_nothing(tmp_path, caplog):
    (tmp_path / "config.yaml").write_text(get_cfg().dump())
    get_cfg().merge_from_file(str(tmp_path / "config.yaml"))
    assert warnings(caplog) == []


def test_the_warning_of_the_active_backend(caplog):
    warn_of_unread_keys({"MODEL.MASK_ON": True, "SEED": 1}, "here")
    assert [named(m) for m in warnings(caplog)] == [{"MODEL.MASK_ON"}] * (BACKEND == "lite")


def test_the_table_is_that_of_detectron2():
    """Names, values and types: the same yaml gives the same config with either."""
    detectron2 = pytest.importorskip("detectron2.config", reason="needs detectron2 to compare with")
    ours, theirs = dict(leaves(lite_get_cfg())), dict(leaves(detectron2.get_cfg()))
    ours.pop("MODEL.DEVICE")  # the best device of this machine
    theirs.pop("MODEL.DEVICE")
    assert ours == theirs
    assert {k: type(v) for k, v in ours.items()} == {k: type(v) for k, v in theirs.items()}


def test_the_table_is_part_of_the_defaults():
    defaults = dict(leaves(lite_get_cfg()))
    assert {key: defaults[key] for key in UNREAD_KEYS} == UNREAD_KEYS

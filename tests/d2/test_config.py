import ast
import importlib.util
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

import detecture.d2
from detecture.d2 import CfgNode, Registry, configurable, get_cfg
from detecture.d2.names import NAMES
from detecture.errors import ConfigError


def write(path, text):
    path.write_text(text)
    return str(path)


# ---- which backend ------------------------------------------------------------------------


def import_with(value):
    environment = {**os.environ, "DETECTURE_D2": value}
    return subprocess.run(
        [sys.executable, "-c", "import detecture.d2"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_unknown_backend_is_refused():
    result = import_with("light")
    assert result.returncode != 0
    assert "set it to lite or detectron2" in result.stderr
    assert "'light'" in result.stderr


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="it is installed")
def test_forced_but_absent_detectron2_is_an_error_with_a_remedy():
    result = import_with("detectron2")
    assert result.returncode != 0
    assert "detectron2 is not installed" in result.stderr
    assert "unset DETECTURE_D2" in result.stderr


def test_a_folder_called_detectron2_is_not_detectron2(tmp_path, monkeypatch):
    if importlib.util.find_spec("detectron2") is not None:
        pytest.skip("detectron2 is installed")
    (tmp_path / "detectron2").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("DETECTURE_D2", raising=False)
    assert importlib.util.find_spec("detectron2") is not None
    assert detecture.d2._pick_backend() == "lite"


def test_all_names_are_there():
    assert len(set(NAMES)) == len(NAMES) > 30
    assert set(detecture.d2.__all__) == {*NAMES, "BACKEND"}
    missing = [name for name in detecture.d2.__all__ if not hasattr(detecture.d2, name)]
    assert missing == []


def test_lite_has_these_names_and_no_others():
    from detecture.d2 import lite

    public = {name for name in vars(lite) if not name.startswith("_")}
    modules = {name for name in public if isinstance(getattr(lite, name), types.ModuleType)}
    assert public - modules | {"comm", "hooks"} == set(NAMES)
    assert {"comm", "hooks"} <= modules


def test_every_name_is_under_this_suite():
    imported = {
        alias.name
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "detecture.d2"
        for alias in node.names
    }
    assert sorted(set(NAMES) - imported) == []


# ---- defaults, merging ----------------------------------------------------------------------


def test_defaults_are_detectron2s():
    cfg = get_cfg()
    assert cfg.VERSION == 2
    assert cfg.SOLVER.IMS_PER_BATCH == 16
    assert cfg.SOLVER.STEPS == (30000,)
    assert cfg.SOLVER.BASE_LR == 0.001
    assert cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE == 255
    assert cfg.DATALOADER.NUM_WORKERS == 4
    assert cfg.TEST.EXPECTED_RESULTS == []
    assert cfg.SEED == -1
    torch.device(cfg.MODEL.DEVICE)


def test_get_cfg_gives_a_new_copy_each_time():
    first = get_cfg()
    first.SOLVER.MAX_ITER = 7
    first.TEST.EXPECTED_RESULTS.append(["a", "b", 1.0, 0.1])
    assert get_cfg().SOLVER.MAX_ITER == 40000
    assert get_cfg().TEST.EXPECTED_RESULTS == []


def test_merge_from_file_with_base(tmp_path):
    write(tmp_path / "base.yaml", "SOLVER:\n  MAX_ITER: 10\n  BASE_LR: 0.5\nSEED: 3\n")
    (tmp_path / "sub").mkdir()
    child = write(
        tmp_path / "sub" / "child.yaml",
        "_BASE_: ../base.yaml\nSOLVER:\n  MAX_ITER: 20\nDATASETS:\n  TRAIN: ['a', 'b']\n",
    )
    cfg = get_cfg()
    cfg.merge_from_file(child)
    assert cfg.SOLVER.MAX_ITER == 20  # the child wins
    assert cfg.SOLVER.BASE_LR == 0.5  # of the base
    assert cfg.SEED == 3
    assert tuple(cfg.DATASETS.TRAIN) == ("a", "b")
    assert cfg.SOLVER.WEIGHT_DECAY == 0.0001  # untouched default


def test_merge_refuses_unknown_keys_and_other_types(tmp_path):
    with pytest.raises(KeyError, match=r"SOLVER\.MAXITER"):
        get_cfg().merge_from_file(
            write(tmp_path / "key.yaml", "VERSION: 2\nSOLVER:\n  MAXITER: 1\n")
        )
    with pytest.raises(ValueError, match=r"SOLVER\.MAX_ITER"):
        get_cfg().merge_from_file(
            write(tmp_path / "type.yaml", "VERSION: 2\nSOLVER:\n  MAX_ITER: 'x'\n")
        )


def test_merge_from_list_overrides_and_parses():
    cfg = get_cfg()
    cfg.merge_from_list(
        ["SOLVER.MAX_ITER", "5", "DATASETS.TRAIN", "('a','b')", "OUTPUT_DIR", "there/x"]
    )
    assert cfg.SOLVER.MAX_ITER == 5
    assert cfg.DATASETS.TRAIN == ("a", "b")
    assert cfg.OUTPUT_DIR == "there/x"


def test_freeze_and_defrost():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(AttributeError):
        cfg.SOLVER.MAX_ITER = 1
    clone = cfg.clone()
    clone.defrost()
    clone.SOLVER.MAX_ITER = 1
    assert (cfg.SOLVER.MAX_ITER, clone.SOLVER.MAX_ITER) == (40000, 1)


def test_dump_can_be_merged_again(tmp_path):
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 123
    cfg.NEW = CfgNode({"KEY": [1, 2]})
    again = get_cfg()
    again.NEW = CfgNode({"KEY": []})
    again.merge_from_file(write(tmp_path / "dump.yaml", cfg.dump()))
    # As plain values: a tuple in a tuple comes back as a list.
    assert yaml.safe_load(again.dump()) == yaml.safe_load(cfg.dump())


def test_missing_file_is_named(tmp_path):
    missing = str(tmp_path / "missing.yaml")
    with pytest.raises(Exception, match=r"missing\.yaml.* does not exist"):
        get_cfg().merge_from_file(missing)


@pytest.mark.lite_only
@pytest.mark.parametrize("allow_unsafe", [False, True])
@pytest.mark.parametrize("depth", ["file", "base"])
def test_yaml_that_runs_code_is_refused_and_named(tmp_path, allow_unsafe, depth):
    touched = tmp_path / "touched"
    bad = write(
        tmp_path / "bad.yaml", f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{touched}"]\n'
    )
    path = bad if depth == "file" else write(tmp_path / "child.yaml", "_BASE_: bad.yaml\n")
    with pytest.raises(Exception, match=r"bad\.yaml: .* \(refused, it asks for a Python object"):
        get_cfg().merge_from_file(path, allow_unsafe=allow_unsafe)
    assert not touched.exists()


@pytest.mark.lite_only
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVER: [1", "bad.yaml: cannot be read as yaml"),
        ("[" * 3000, "bad.yaml: cannot be read as yaml .*levels deep"),
        ("A: &a [*a]", "bad.yaml: cannot be read as yaml .*inside what it refers to"),
        ("SEED: " + "9" * 5000, "bad.yaml: cannot be read as yaml .*5000 digits"),
        ("SEED: 1\nSEED: 2\n", "bad.yaml: cannot be read as yaml .*'SEED' stands twice"),
        ("1: 2\n", "bad.yaml: cannot be read as yaml .*write it in quotes"),
        ("#" * (1 << 20) + "\n", "bad.yaml is larger than 1,048,576 bytes"),
        ("_BASE_: 5\n", "bad.yaml: _BASE_ is 5, no file"),
        ("- 1\n- 2\n", "bad.yaml must hold KEY: value pairs"),
        ("_BASE_: bad.yaml\n", "_BASE_ files include each other"),
        ("VERSION: 1\n", "has VERSION 1, but only 2"),
    ],
)
def test_malformed_files_are_named(tmp_path, text, message):
    with pytest.raises(Exception, match=message):
        get_cfg().merge_from_file(write(tmp_path / "bad.yaml", text))


@pytest.mark.lite_only
def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"SEED: \xff\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml cannot be read .*utf-8"):
        get_cfg().merge_from_file(str(tmp_path / "bad.yaml"))


@pytest.mark.lite_only
def test_a_section_where_the_base_has_a_value_is_named(tmp_path):
    write(tmp_path / "base.yaml", "SOLVER: 1\n")
    child = write(tmp_path / "child.yaml", "_BASE_: base.yaml\nSOLVER:\n  MAX_ITER: 20\n")
    with pytest.raises(ConfigError, match=r"child\.yaml: 'SOLVER' is a section"):
        get_cfg().merge_from_file(child)


def test_several_bases_and_absolute_ones(tmp_path):
    write(tmp_path / "one.yaml", "SEED: 1\nSOLVER:\n  MAX_ITER: 1\n")
    two = write(tmp_path / "two.yaml", "SOLVER:\n  MAX_ITER: 2\n  BASE_LR: 0.5\n")
    child = write(
        tmp_path / "child.yaml", f"_BASE_: [one.yaml, '{two}']\nSOLVER:\n  BASE_LR: .25\n"
    )
    cfg = get_cfg()
    cfg.merge_from_file(child)
    assert (cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (1, 2, 0.25)


def test_infinity_is_a_value_of_detectron2s_keys(tmp_path):
    cfg = get_cfg()
    text = "SOLVER:\n  CLIP_GRADIENTS:\n    NORM_TYPE: .inf\n"
    cfg.merge_from_file(write(tmp_path / "a.yaml", text))
    assert float("inf") == cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE


@pytest.mark.lite_only
def test_empty_file_changes_nothing(tmp_path):
    cfg = get_cfg()
    cfg.merge_from_file(write(tmp_path / "empty.yaml", "# nothing yet\n"))
    assert cfg == get_cfg()


@pytest.mark.lite_only
def test_default_device_is_one_of_this_machine():
    torch.zeros(1, device=get_cfg().MODEL.DEVICE)


# ---- configurable ---------------------------------------------------------------------------


class Head:
    @configurable
    def __init__(self, *, classes, width=8, depth=1):
        self.values = (classes, width, depth)

    @classmethod
    def from_config(cls, cfg, depth=2):
        return {"classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, "depth": depth * 10}


class WideHead(Head):
    @classmethod
    def from_config(cls, cfg):
        return {**super().from_config(cfg), "width": 99}


def test_configurable_init():
    cfg = get_cfg()
    assert Head(classes=3).values == (3, 8, 1)
    assert Head(cfg).values == (54, 8, 20)
    assert Head(cfg=cfg).values == (54, 8, 20)
    assert Head(cfg, width=16).values == (54, 16, 20)
    assert Head(cfg, classes=1).values == (1, 8, 20)
    # An argument that from_config takes itself goes there.
    assert Head(cfg, depth=3).values == (54, 8, 30)
    assert Head(cfg, 3).values == (54, 8, 30)
    assert WideHead(cfg).values == (54, 99, 20)


def test_configurable_subclass_may_call_the_parent_with_explicit_arguments():
    class Child(Head):
        @configurable
        def __init__(self, *, extra, **kwargs):
            super().__init__(**kwargs)
            self.extra = extra

        @classmethod
        def from_config(cls, cfg):
            return {**Head.from_config(cfg), "extra": cfg.SEED}

    child = Child(get_cfg())
    assert (child.values, child.extra) == ((54, 8, 20), -1)


def test_configurable_function():
    @configurable(from_config=lambda cfg, name="x": {"rate": cfg.SOLVER.BASE_LR, "name": name})
    def build(rate, *, name, extra=None):
        return rate, name, extra

    cfg = get_cfg()
    assert build(1.0, name="y") == (1.0, "y", None)
    assert build(cfg) == (0.001, "x", None)
    assert build(cfg, "z", extra=4) == (0.001, "z", 4)
    assert build(cfg=cfg, rate=2.0) == (2.0, "x", None)


def test_configurable_from_config_with_kwargs_gets_all():
    @configurable(from_config=lambda cfg, **kwargs: {"seen": sorted(kwargs)})
    def build(seen):
        return seen

    assert build(get_cfg(), b=1, a=2) == ["a", "b"]


def test_configurable_errors():
    class NoFromConfig:
        @configurable
        def __init__(self, a=1): ...

    with pytest.raises((TypeError, AttributeError), match="from_config"):
        NoFromConfig(get_cfg())

    class NotAClassmethod:
        @configurable
        def __init__(self, a=1): ...

        def from_config(self, cfg): ...

    with pytest.raises(TypeError, match="classmethod"):
        NotAClassmethod(get_cfg())

    class NoCfgArgument:
        @configurable
        def __init__(self, a=1): ...

        @classmethod
        def from_config(cls, config):
            return {}

    with pytest.raises(TypeError, match=r"'cfg' as (its|the) first argument"):
        NoCfgArgument(get_cfg())

    with pytest.raises((TypeError, AssertionError)):

        @configurable
        def not_an_init(): ...


def test_registry_is_exported():
    registry = Registry("THINGS")

    @registry.register()
    def thing(): ...

    assert registry.get("thing") is thing

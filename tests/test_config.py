"""Strict and safe config loading."""

from pathlib import Path

import pytest
import yaml

from detecture.config import add_detecture_config, make_config
from detecture.config.sections.declaring import did_you_mean
from detecture.d2 import BACKEND, get_cfg
from detecture.errors import ConfigError
from detecture.modeling import build_model

REPO = Path(__file__).parents[1]
# No configs: tests/benchmark reads them.
PROTOCOLS = {REPO / "configs" / name for name in ("benchmark.yaml", "benchmark_semantic.yaml")}
CONFIGS = sorted(set((REPO / "configs").rglob("*.yaml")) - PROTOCOLS)


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_loads(path):
    make_config(path)


def test_bases_are_merged_first(tmp_path):
    write(tmp_path / "root.yaml", "SEED: 1\nOUTPUT_DIR: root\n")
    write(tmp_path / "base.yaml", "_BASE_: root.yaml\nSEED: 2\nTEST: {COUNT: 3}\n")
    (tmp_path / "sub").mkdir()
    leaf = write(tmp_path / "sub/leaf.yaml", "_BASE_: ../base.yaml\nTEST: {EVAL_PERIOD: 5}\n")
    cfg = make_config(leaf, ["TEST.EVAL_PERIOD", "7"])
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.TEST.COUNT, cfg.TEST.EVAL_PERIOD) == (2, "root", "3", 7)
    assert cfg.is_frozen()


def test_several_bases_in_order(tmp_path):
    write(tmp_path / "a.yaml", "SEED: 1\nVIS_PERIOD: 1\n")
    write(tmp_path / "b.yaml", "SEED: 2\n")
    leaf = write(tmp_path / "leaf.yaml", "_BASE_: [a.yaml, b.yaml]\n")
    assert (make_config(leaf).SEED, make_config(leaf).VIS_PERIOD) == (2, 1)


def test_a_dumped_config_loads_as_itself(tmp_path):
    cfg = make_config(CONFIGS[0], ["DATASETS.TEST", '("rwtd",)', "SOLVER.BASE_LR", "1e-5"])
    dumped = write(tmp_path / "config.yaml", cfg.dump())
    assert make_config(dumped) == cfg


DETECTRON2 = """
_BASE_: base.yaml
MODEL:
  RPN: {PRE_NMS_TOPK_TEST: 2000, NMS_THRESH: 0.7}
  ROI_BOX_CASCADE_HEAD:
    BBOX_REG_WEIGHTS: ((10, 10, 5, 5), (20, 20, 10, 10))
SOLVER:
  STEPS: (60000, 80000)
"""


def test_a_detectron2_yaml_loads_with_one_warning(tmp_path, caplog):
    write(tmp_path / "base.yaml", "MODEL: {MASK_ON: true, PIXEL_MEAN: [1.0, 2.0, 3.0]}\n")
    path = write(tmp_path / "cascade.yaml", DETECTRON2)
    cfg = make_config(path, ["MODEL.FPN.NORM", "GN"])
    assert cfg.SOLVER.STEPS == (60000, 80000)
    weights = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0))
    assert weights == cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    # With detectron2 its own models read these keys.
    due = [(str(path), 4), ("command line", 1)] if BACKEND == "lite" else []
    assert [(text.partition(" sets ")[0], text.count("MODEL.")) for text in told] == due
    path = write(tmp_path / "misspelt.yaml", "MODEL: {RPN: {NMS_TRESH: 0.5}}\n")
    with pytest.raises(ConfigError, match=r"MODEL\.RPN\.NMS_TRESH; did you mean .*NMS_THRESH\?"):
        make_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SOLVR: {BASE_LR: 1}", r"unknown key SOLVR; did you mean SOLVER\?"),
        ("SOLVER: {BASE_LRR: 1}", r"unknown key SOLVER.BASE_LRR; did you mean SOLVER.BASE_LR\?"),
        ("MODEL: {NOPE: 3}", r"unknown key MODEL\.NOPE$"),
        ("SOLVR: {BASE_LRR: 1}", r"unknown key SOLVR"),
        ("SEED: 1\n---\nSEED: 2\n", r"two documents or more, the next from line 2\); .*remove the"),
        ("COUNT: regime", r"unknown key COUNT; did you mean TEST.COUNT\?"),
        ("SOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER must be of type int, got the str 'many'"),
        ("SOLVER: {MAX_ITER: 1.5}", "must be of type int"),
        ("SOLVER: {MAX_ITER: true}", "must be of type int"),
        ("SOLVER: {BASE_LR: fast}", "must be of type float"),
        ("CUDNN_BENCHMARK: 1", "must be of type bool"),
        ("OUTPUT_DIR: 3", "must be of type str"),
        ("DATASETS: {TEST: rwtd}", r"write it as \('rwtd',\)"),
        ("INPUT: {MICRO_CROP: {SIDE: [a, b]}}", r"MICRO_CROP.SIDE\[0\] must be of type float"),
        ("_BASE_: 5", "_BASE_ must name a file"),
        ("SOLVER: 3", "SOLVER is a section with the keys"),
        ("SEED: {X: 1}", "SEED must be of type int"),
        ("[1, 2]", "must hold keys and values"),
        ("a: b: c", "cannot be read as yaml"),
        ("\x00", "cannot be read as yaml"),
    ],
)
def test_bad_yaml_is_refused_by_name(tmp_path, text, message):
    path = write(tmp_path / "bad.yaml", text)
    with pytest.raises(ConfigError, match=message) as caught:
        make_config(path)
    assert str(path) in str(caught.value)


def test_a_base_is_only_suggested_where_its_name_is_near(tmp_path):
    for name in ("unk.yaml", "texture_clusters.yaml"):
        write(tmp_path / name, "SEED: 1\n")
    for base, meant in (
        ("zzz.yaml", r"the shipped ones are under configs/$"),
        ("texture_cluster.yaml", r"did you mean .*/texture_clusters\.yaml\?$"),
    ):
        path = write(tmp_path / "mine.yaml", f"_BASE_: {base}\n")
        with pytest.raises(ConfigError, match=meant):
            make_config(path)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_told(tmp_path, text, caplog):
    path = write(tmp_path / "empty.yaml", text)
    assert make_config(path) == make_config(None)
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: is empty, so that it sets no key; is it the right file?"
    ]


@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_what_is_no_file_is_refused_with_a_remedy(path):
    with pytest.raises(ConfigError, match=r"cannot be read \(.*\); give the path of a file"):
        make_config(path)


def test_a_common_section_makes_no_name_near():
    measured = ["texture/ARI", "texture/mIoU"]
    assert did_you_mean("texture/foo", measured) == ""
    for name in ("texture/miou", "textur/mIoU", "mIoU"):
        assert did_you_mean(name, measured) == "; did you mean texture/mIoU?"


def test_an_unknown_method_is_refused_with_the_known_ones():
    cfg = make_config(None, ["MODEL.META_ARCHITECTURE", "TextureClustrs"])
    message = (
        r"META_ARCHITECTURE 'TextureClustrs': .*did you mean TextureClusters\?; known are .*HalfS"
    )
    with pytest.raises(ConfigError, match=message):
        build_model(cfg)


@pytest.mark.parametrize(
    "text",
    [
        "SEED: !!python/object/apply:os.system ['touch {proof}']",
        "_BASE_: !!python/object/apply:os.system ['touch {proof}']",
        "!!python/object/new:subprocess.Popen [['touch', '{proof}']]",
    ],
)
def test_yaml_that_runs_code_is_refused(tmp_path, text):
    proof = tmp_path / "proof"
    path = write(tmp_path / "evil.yaml", text.replace("{proof}", str(proof)))
    with pytest.raises(ConfigError, match="refused, it asks for a Python object"):
        make_config(path)
    assert not proof.exists()
    # The file would do it, if it were loaded the way that Detectron2 loads configs.
    yaml.unsafe_load(path.read_text())


def test_nothing_is_merged_from_a_bad_file(tmp_path):
    from detecture.config import merge_yaml_file

    cfg = get_cfg()
    add_detecture_config(cfg)
    before = cfg.dump()
    for text in ("SEED: 5\nNOPE: 1\n", "SEED: 5\nSOLVER: {MAX_ITER: x}\n"):
        with pytest.raises(ConfigError):
            merge_yaml_file(cfg, write(tmp_path / "bad.yaml", text))
    assert cfg.dump() == before


def test_missing_and_circular_files(tmp_path):
    with pytest.raises(
        ConfigError, match=r"texture_cluster\.yaml: no such.*did you mean.*clusters"
    ):
        make_config(REPO / "configs/baselines/texture_cluster.yaml")
    a = write(tmp_path / "a.yaml", "_BASE_: b.yaml\n")
    write(tmp_path / "b.yaml", "_BASE_: a.yaml\n")
    with pytest.raises(ConfigError, match="goes in a circle"):
        make_config(a)
    with pytest.raises(ConfigError, match="cannot be read"):
        make_config(tmp_path)
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such .*named as _BASE_ of .*c\.yaml"):
        make_config(write(tmp_path / "c.yaml", "_BASE_: gone.yaml\n"))
    assert make_config(write(tmp_path / "empty.yaml", "")) == make_config(None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SEED"], "pairs of KEY VALUE, got 1 words"),
        (["SED", "1"], r"command line: unknown key SED; did you mean SEED\?"),
        (["MODEL", "1"], "MODEL is a section"),
        (["SEED", "x"], "SEED must be of type int"),
        (["MODEL.DEVICE", "gpu"], "no device name"),
        (["TEST.BOOTSTRAP_SAMPLES", "0"], "TEST.BOOTSTRAP_SAMPLES is 0; it must be at least 1"),
        (["DATALOADER.NUM_WORKERS", "-1"], "DATALOADER.NUM_WORKERS is -1"),
        (["TEST.EXPECTED_RESULTS", '[["texture", "mIoU"]]'], "each row is"),
        (["TEST.EXPECTED_RESULTS", '[["texture", "mIoU", 0.5, 1e999]]'], "each row is"),
        (["TEST.EXPECTED_RESULTS", '[["texture", "mIoU", "a", 1]]'], "each row is"),
        (["MODEL.DEVICE", "cuda:77"], "does not exist here"),
        (["MODEL.VLM.IMAGE_SIZE", "15"], "MODEL.VLM.IMAGE_SIZE is 15; it must be at least 16"),
        (["MODEL.VLM.IMAGE_SIZE", "9000"], "IMAGE_SIZE is 9000; it must be at most 8192"),
        (["MODEL.CLIP.GRID", "100000"], "MODEL.CLIP.GRID is 100000; it must be at most 256"),
        (["MODEL.COST_AGGREGATION.HIDDEN", "1000000"], "HIDDEN is 1000000; it must be at most"),
        (["MODEL.COST_AGGREGATION.DECODER", "(64, 1000000)"], "DECODER is 1000000; it must be at"),
        (["TEST.SLIDING.CANVAS", "(640, 1000000)"], "16384 pixels a side is the most"),
        (["SEED", str(2**63)], "SEED is 9223372036854775808; it must be at most"),
        (["SOLVER.LR_FACTOR.VLM", "-1.0"], "SOLVER.LR_FACTOR.VLM is -1.0; it must be at least 0"),
        (["SOLVER.WARMUP_FACTOR", "-0.1"], "SOLVER.WARMUP_FACTOR is -0.1"),
        (["SOLVER.CURRICULUM.BRIDGE_FACTOR", "nan"], "SOLVER.CURRICULUM.BRIDGE_FACTOR is nan"),
        (["SOLVER.MAX_EPOCHS", "inf"], "SOLVER.MAX_EPOCHS is inf; it must be a finite number"),
    ],
)
def test_bad_overrides_are_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message):
        make_config(None, overrides)


def test_coercion_loses_nothing(tmp_path):
    path = write(
        tmp_path / "c.yaml",
        "SOLVER: {BASE_LR: 1, WEIGHT_DECAY: 1e-4}\n"
        "DATASETS:\n  TEST: [a, b]\n  TRAIN: ('c',)\nTEST: {COUNT: 4}\n",
    )
    cfg = make_config(path, ["SOLVER.MOMENTUM", "1", "OUTPUT_DIR", "2024", "SOLVER.STEPS", "[3]"])
    values = (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.MOMENTUM)
    assert values == (1.0, 1e-4, 1.0)
    assert {type(v) for v in values} == {float}
    assert (cfg.DATASETS.TEST, cfg.DATASETS.TRAIN) == (("a", "b"), ("c",))
    assert (cfg.OUTPUT_DIR, cfg.SOLVER.STEPS, cfg.TEST.COUNT) == ("2024", (3,), "4")

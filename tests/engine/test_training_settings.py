"""Settings of a training that are told before it, and what guards the folder of a running one."""

import pytest
from staged_toy import StagedToy
from toy import ToySegmenter

from detecture.config import make_config
from detecture.engine import argument_parser, load_model, setup
from detecture.engine.optimizer import build_training_optimizer
from detecture.engine.run_folder import reserved
from detecture.engine.trainer import _check_plan
from detecture.engine.validation import _less_is_better
from detecture.errors import ConfigError


def config(*overrides, model=StagedToy):
    words = ["MODEL.META_ARCHITECTURE", model.__name__, "MODEL.DEVICE", "cpu", *overrides]
    return make_config(None, list(map(str, words)))


def test_what_can_never_act_is_told(caplog):
    overrides = ["SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine", "SOLVER.MAX_ITER", 10]
    overrides += ["SOLVER.BASE_LR", 0.05, "SOLVER.WARMUP_ITERS", 2]
    cfg = config(*overrides)
    _check_plan(cfg, StagedToy(cfg), in_epochs=False)
    assert not caplog.text
    late = ["WARMUP_ITERS", "CURRICULUM.STAGE2_ITER", "RESTART.ITER"]
    overrides += [word for key in late for word in (f"SOLVER.{key}", 10)]
    _check_plan(config(*overrides, "SOLVER.MIN_LR", 0.1), StagedToy(cfg), in_epochs=False)
    for key in late:
        assert f"SOLVER.{key} is 10, not below SOLVER.MAX_ITER 10" in caplog.text
    assert "SOLVER.MIN_LR is 0.1, above SOLVER.BASE_LR 0.05" in caplog.text


def test_a_refused_training_leaves_the_config_of_the_running_one(tmp_path):
    args = argument_parser().parse_args(["OUTPUT_DIR", str(tmp_path), "MODEL.DEVICE", "cpu"])
    with reserved(tmp_path), pytest.raises(ConfigError, match="another training is running"):
        setup(args)
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("metric", "less"),
    [("texture/mIoU", False), ("loss_mask", True), ("Total_Loss", True), ("texture/K_MAE", True)],
)
def test_of_losses_and_errors_less_is_better(metric, less):
    assert _less_is_better(metric) == less


def test_a_part_whose_factor_is_0_is_frozen():
    cfg = config("SOLVER.LR_FACTOR.VLM", 0.0, "SOLVER.OPTIMIZER", "AdamW")
    model = StagedToy(cfg)
    groups = build_training_optimizer(cfg, model).param_groups
    assert {group["name"]: group["lr"] > 0 for group in groups}["vlm"] is False
    for group in groups:
        assert all(p.requires_grad == (group["lr"] > 0) for p in group["params"])
    nothing = config(*(w for g in groups for w in (f"SOLVER.LR_FACTOR.{g['name'].upper()}", 0.0)))
    with pytest.raises(ConfigError, match=r"would learn nothing: .*LR_FACTOR\.VLM"):
        build_training_optimizer(nothing, StagedToy(nothing))


def test_a_model_without_its_weights_is_told(caplog):
    load_model(config(model=ToySegmenter))
    assert "MODEL.WEIGHTS is empty" not in caplog.text
    load_model(config())
    assert "MODEL.WEIGHTS is empty: StagedToy runs with random weights" in caplog.text

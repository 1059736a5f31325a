"""Settings of a training that are told before it, and what guards the folder of a running one."""

import pytest
import torch
from staged_toy import StagedToy
from toy import ToySegmenter

from detecture.config import make_config
from detecture.engine import argument_parser, load_model, setup
from detecture.engine.curriculum import enter_stage
from detecture.engine.optimizer import build_training_optimizer
from detecture.engine.plan import check_plan
from detecture.engine.run_folder import reserved
from detecture.engine.validation import _less_is_better
from detecture.errors import ConfigError


def config(*overrides, model=StagedToy):
    words = ["MODEL.META_ARCHITECTURE", model.__name__, "MODEL.DEVICE", "cpu", *overrides]
    return make_config(None, list(map(str, words)))


def test_what_can_never_act_is_told(caplog):
    overrides = ["SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine", "SOLVER.MAX_ITER", 10]
    overrides += ["SOLVER.BASE_LR", 0.05, "SOLVER.WARMUP_ITERS", 2]
    cfg = config(*overrides)
    check_plan(cfg, StagedToy(cfg), in_epochs=False)
    assert not caplog.text
    late = ["WARMUP_ITERS", "CURRICULUM.STAGE2_ITER", "RESTART.ITER"]
    overrides += [word for key in late for word in (f"SOLVER.{key}", 10)]
    check_plan(config(*overrides, "SOLVER.MIN_LR", 0.1), StagedToy(cfg), in_epochs=False)
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


def test_a_part_whose_factor_is_0_is_frozen_in_every_stage():
    cfg = config("SOLVER.LR_FACTOR.VLM", 0.0, "SOLVER.OPTIMIZER", "AdamW")
    model = StagedToy(cfg)
    optimizer = build_training_optimizer(cfg, model)
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert groups["vlm"]["lr"] == 0.0 and len(groups) > 1

    def trains(name):
        return {p.requires_grad for p in groups[name]["params"]}

    assert trains("vlm") == {False}
    for stage in (1, 2):
        enter_stage(model, stage, optimizer)
        assert trains("vlm") == {False}
    assert all(trains(name) == {True} for name in groups if name != "vlm")

    def without(names):
        return config(*(w for n in names for w in (f"SOLVER.LR_FACTOR.{n.upper()}", 0.0)))

    nothing = without(groups)
    with pytest.raises(ConfigError, match=r"would learn nothing: .*LR_FACTOR\.VLM"):
        build_training_optimizer(nothing, StagedToy(nothing))
    plain = config("SOLVER.BASE_LR", 0.0, model=ToySegmenter)
    with pytest.raises(ConfigError, match=r"would learn nothing: SOLVER\.BASE_LR is 0"):
        build_training_optimizer(plain, torch.nn.Linear(2, 2))
    late = without(set(groups) - {"vlm"})
    model = StagedToy(late)
    optimizer = build_training_optimizer(late, model)
    enter_stage(model, 2, optimizer)
    with pytest.raises(ConfigError, match="stage 1 would train nothing"):
        enter_stage(model, 1, optimizer)


def test_a_model_without_its_weights_is_told(caplog):
    load_model(config(model=ToySegmenter))
    assert "MODEL.WEIGHTS is empty" not in caplog.text
    load_model(config())
    assert "MODEL.WEIGHTS is empty: StagedToy runs with random weights" in caplog.text


OUT_OF_RANGE = {
    "BASE_LR": (-0.1, "nan", "inf"),
    "BASE_LR_END": (-0.1, "nan"),
    "BIAS_LR_FACTOR": (-1.0, "inf"),
    "CLIP_GRADIENTS.CLIP_VALUE": (0.0, -1.0, "nan"),
    "CLIP_GRADIENTS.NORM_TYPE": (0.0, -2.0, "nan"),
    "GAMMA": (-0.1, "nan"),
    "MIN_LR": (-1e-6, "nan"),
    "MOMENTUM": (2.0, -0.1, "nan"),
    "NUM_DECAYS": (-1,),
    "REFERENCE_WORLD_SIZE": (-1,),
    "STEPS": ("(-3,)", "(5, 3)", "(3, 3)", "(0,)"),
    "WARMUP_FACTOR": (-0.1, 1.5, "nan"),
    "WEIGHT_DECAY": (-0.1, "inf"),
    "WEIGHT_DECAY_BIAS": (-0.1, "True", "word", "nan"),
}


@pytest.mark.parametrize("key", OUT_OF_RANGE)
def test_a_number_of_the_solver_out_of_its_range_is_refused(key):
    for value in OUT_OF_RANGE[key]:
        with pytest.raises(ConfigError, match=rf"SOLVER\.{key}"):
            config(f"SOLVER.{key}", value)


def test_numbers_of_the_solver_at_the_ends_of_their_ranges():
    config("SOLVER.STEPS", "()", "SOLVER.MOMENTUM", 0, "SOLVER.WARMUP_FACTOR", 1)
    config("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "inf", "SOLVER.WEIGHT_DECAY_BIAS", 0)
    with pytest.raises(ConfigError, match=r"SOLVER\.NESTEROV needs SOLVER\.MOMENTUM above 0"):
        config("SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0)

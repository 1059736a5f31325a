"""Optimiser and learning-rate schedule from a config."""

import pytest
import torch
from torch import nn

from detecture.d2 import build_lr_scheduler, build_optimizer, get_cfg


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.layer_norm = nn.LayerNorm(4)
        self.linear = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.linear.weight
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def settings_by_name(cfg, model):
    """Learning rate and weight decay that the optimiser uses for each parameter."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(cfg, model)
    found = [
        (names[parameter], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found))  # each parameter once
    return dict(found)


def base_cfg():
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 0.5
    cfg.SOLVER.WEIGHT_DECAY = 0.01
    cfg.SOLVER.MOMENTUM = 0.7
    cfg.SOLVER.NESTEROV = True
    cfg.SOLVER.WEIGHT_DECAY_NORM = 0.0
    return cfg


def test_sgd_of_the_trainable_parameters():
    cfg, model = base_cfg(), Net()
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.SGD)
    assert all(group["momentum"] == 0.7 and group["nesterov"] for group in optimizer.param_groups)
    settings = settings_by_name(cfg, model)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(settings) == trainable
    assert "frozen.weight" not in settings


def test_weight_decay_of_norm_layers():
    settings = settings_by_name(base_cfg(), Net())
    for name, (lr, decay) in settings.items():
        assert lr == 0.5
        assert decay == (0.0 if "norm" in name else 0.01), name


def test_biases_have_their_own_settings():
    cfg = base_cfg()
    cfg.SOLVER.BIAS_LR_FACTOR = 2.0
    cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.03
    settings = settings_by_name(cfg, Net())
    assert settings["conv.bias"] == (1.0, 0.03)
    assert settings["norm.bias"] == (1.0, 0.03)
    assert settings["conv.weight"] == (0.5, 0.01)
    assert settings["norm.weight"] == (0.5, 0.0)


def test_number_of_groups_is_small():
    assert len(build_optimizer(base_cfg(), Net()).param_groups) == 2


@pytest.mark.parametrize("norm", [0.0, 0.01])
def test_state_is_laid_out_as_in_detectron2(norm):
    """A state of the optimiser that was saved with either backend fits the other, byte for byte."""
    cfg = base_cfg()
    cfg.SOLVER.WEIGHT_DECAY_NORM = norm
    groups = build_optimizer(cfg, Net()).state_dict()["param_groups"]
    assert [group["params"] for group in groups] == [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    assert [group["weight_decay"] for group in groups] == [0.01, norm]
    rest = ["momentum", "dampening", "nesterov", "maximize", "foreach"]
    assert list(groups[0])[:6] == ["lr", *rest[:2], "weight_decay", *rest[2:4]]
    assert list(groups[1])[:6] == ["lr", "weight_decay", *rest[:4]]
    assert all(group["foreach"] for group in groups)


def one_step(clip_type, clip_value):
    """Change of two parameters with gradients (3, 4) and (0, 0.1) in one step of lr 1."""
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 1.0
    cfg.SOLVER.MOMENTUM = cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clip_type is not None
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type or "value"
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = clip_value
    model = nn.ParameterList([nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))])
    optimizer = build_optimizer(cfg, model)
    model[0].grad = torch.tensor([3.0, 4.0])
    model[1].grad = torch.tensor([0.0, 0.1])
    optimizer.step()
    return [[round(-v, 4) for v in p.tolist()] for p in model]


def test_gradient_clipping():
    assert one_step(None, 1.0) == [[3.0, 4.0], [0.0, 0.1]]
    assert one_step("value", 3.5) == [[3.0, 3.5], [0.0, 0.1]]
    # The norm of each parameter by itself: the small gradient is not touched.
    assert one_step("norm", 2.5) == [[1.5, 2.0], [0.0, 0.1]]


def test_unknown_clip_type():
    with pytest.raises(ValueError, match="full_model"):
        one_step("full_model", 1.0)


def test_clipping_optimizer_is_what_it_was_otherwise():
    cfg = get_cfg()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.SGD)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    build_optimizer(cfg, model).load_state_dict(optimizer.state_dict())


def schedule(name, max_iter=20, **solver):
    """The factor on BASE_LR in each iteration, and after the last one."""
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = name
    cfg.SOLVER.MAX_ITER = max_iter
    cfg.SOLVER.BASE_LR = 0.5
    cfg.SOLVER.WARMUP_ITERS = 0
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    model = nn.Linear(1, 1)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    factors = []
    for _ in range(max_iter + 1):
        factors.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        if len(factors) <= max_iter:
            scheduler.step()
    return factors


def test_multi_step():
    factors = schedule("WarmupMultiStepLR", STEPS=(10, 15), GAMMA=0.1)
    assert factors == pytest.approx([1.0] * 10 + [0.1] * 5 + [0.01] * 6)


def test_linear_warm_up():
    factors = schedule("WarmupMultiStepLR", STEPS=(10,), WARMUP_ITERS=4, WARMUP_FACTOR=0.2)
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:12] == pytest.approx([1.0] * 5 + [0.1] * 2)


def test_constant_warm_up():
    factors = schedule(
        "WarmupMultiStepLR",
        STEPS=(),
        WARMUP_ITERS=4,
        WARMUP_FACTOR=0.2,
        WARMUP_METHOD="constant",
    )
    assert factors[:6] == pytest.approx([0.2] * 4 + [1.0] * 2)


def test_cosine():
    factors = schedule("WarmupCosineLR", BASE_LR_END=0.05)
    cosine = [0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * i / 20))) / 2 for i in range(21)]
    assert factors == pytest.approx([float(value) for value in cosine], abs=1e-6)


def test_warm_up_ends_on_the_schedule():
    """Detectron2's warm-up cuts the schedule's beginning off; it does not squeeze it."""
    plain = schedule("WarmupCosineLR")
    warm = schedule("WarmupCosineLR", WARMUP_ITERS=5, WARMUP_FACTOR=0.0)
    assert warm[5:] == pytest.approx(plain[5:])
    assert warm[:5] == pytest.approx([plain[5] * i / 5 for i in range(5)])


def test_rescaled_interval():
    warm = schedule("WarmupCosineLR", WARMUP_ITERS=10, WARMUP_FACTOR=0.0, RESCALE_INTERVAL=True)
    assert warm[:11] == pytest.approx([i / 10 for i in range(11)])
    assert warm[15] == pytest.approx(0.5)  # half of what the warm-up left


@pytest.mark.lite_only  # fvcore's StepParamScheduler, which detectron2 uses, fails after the end
@pytest.mark.parametrize("max_iter", [20, 21, 7])
def test_fixed_gamma(max_iter):
    from fvcore.common.param_scheduler import StepWithFixedGammaParamScheduler

    factors = schedule("WarmupStepWithFixedGammaLR", max_iter, NUM_DECAYS=3, GAMMA=0.5)
    reference = StepWithFixedGammaParamScheduler(1.0, 3, 0.5, max_iter)
    assert factors[:-1] == pytest.approx([reference(i / max_iter) for i in range(max_iter)])
    assert factors[0] == 1.0
    assert factors[-1] == 0.125


def test_warm_up_of_the_whole_training():
    factors = schedule("WarmupMultiStepLR", 4, STEPS=(), WARMUP_ITERS=100, WARMUP_FACTOR=0.0)
    assert factors == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_steps_behind_the_end_are_reported(caplog):
    assert schedule("WarmupMultiStepLR", STEPS=(10, 30))[10:] == pytest.approx([0.1] * 11)
    assert "STEPS" in caplog.text


@pytest.mark.lite_only  # detectron2 fails
def test_a_step_at_the_end_has_no_effect():
    assert schedule("WarmupMultiStepLR", STEPS=(20,)) == pytest.approx([1.0] * 21)


def test_every_group_keeps_its_proportion():
    cfg = base_cfg()
    cfg.SOLVER.BIAS_LR_FACTOR = 2.0
    cfg.SOLVER.WARMUP_FACTOR = 0.5
    optimizer = build_optimizer(cfg, Net())
    build_lr_scheduler(cfg, optimizer)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25, 0.5}


def test_state_of_the_scheduler():
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupCosineLR"
    cfg.SOLVER.MAX_ITER = 10
    cfg.SOLVER.WARMUP_ITERS = 3

    def build():
        optimizer = build_optimizer(cfg, nn.Linear(1, 1))
        return optimizer, build_lr_scheduler(cfg, optimizer)

    def steps(optimizer, scheduler, n):
        for _ in range(n):
            optimizer.step()
            scheduler.step()
        return optimizer.param_groups[0]["lr"]

    whole = steps(*build(), 7)
    optimizer, scheduler = build()
    steps(optimizer, scheduler, 4)
    other_optimizer, other_scheduler = build()
    other_scheduler.load_state_dict(scheduler.state_dict())
    other_optimizer.load_state_dict(optimizer.state_dict())
    assert steps(other_optimizer, other_scheduler, 3) == whole


@pytest.mark.parametrize(
    ("key", "value"),
    [("LR_SCHEDULER_NAME", "Sawtooth"), ("WARMUP_METHOD", "sudden")],
)
def test_unknown_names(key, value):
    cfg = get_cfg()
    cfg.SOLVER[key] = value
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    with pytest.raises(ValueError, match=value):
        build_lr_scheduler(cfg, optimizer)


def test_final_rate_above_the_base_rate():
    with pytest.raises((ValueError, AssertionError)):
        schedule("WarmupCosineLR", BASE_LR_END=0.6)

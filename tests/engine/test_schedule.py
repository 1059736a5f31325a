"""Learning rates against numbers worked out by hand, for the published recipe."""

import math

import pytest

from detecture.config import add_detecture_config, make_config
from detecture.d2 import get_cfg
from detecture.engine.schedule import CurriculumCosine, resolve_epochs
from detecture.errors import ConfigError

PUBLISHED = [
    *("SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine", "SOLVER.IMS_PER_BATCH", "8"),
    *("SOLVER.MAX_EPOCHS", "30", "SOLVER.WARMUP_EPOCHS", "5", "SOLVER.BASE_LR", "1e-4"),
    *("SOLVER.CURRICULUM.STAGE2_EPOCH", "8", "SOLVER.RESTART.EPOCH", "20"),
    *("SOLVER.RESTART.WARMUP_EPOCHS", "2"),
]
IMAGES = 13_331
PEAKS = {"bridge": 1e-4, "mask_head": 1e-4, "dustbin": 1e-4, "vlm": 1e-6, "seg_rows": 1e-4}


def published(*overrides):
    return resolve_epochs(make_config(None, [*PUBLISHED, *overrides]), IMAGES)


def test_epochs_become_iterations():
    solver = published().SOLVER
    assert solver.MAX_ITER == 49_991  # 13331 * 30 / 8 = 49991.25
    assert solver.WARMUP_ITERS == 8_332  # 8331.875
    assert solver.CURRICULUM.STAGE2_ITER == 13_331
    assert solver.RESTART.ITER == 33_328  # 33327.5
    assert solver.RESTART.WARMUP_ITERS == 3_333  # 3332.75
    assert resolve_epochs(published(), IMAGES) == published()
    given = ["SOLVER.MAX_ITER", "7", "SOLVER.RESTART.WARMUP_ITERS", "3"]
    plain = resolve_epochs(make_config(None, given), IMAGES).SOLVER
    assert (plain.MAX_ITER, plain.WARMUP_ITERS, plain.CURRICULUM.STAGE2_ITER) == (7, 1000, 0)
    assert plain.RESTART.WARMUP_ITERS == 3


# Iteration, and the learning rates of bridge, mask_head = dustbin = seg_rows, and vlm.
GOLDEN = [
    # A share of 0.001 of every peak.
    (0, 1e-7, 1e-7, 1e-9),
    # 0.001 + 0.999 / 2 of it, half-way.
    (4_166, 5.005e-5, 5.005e-5, 5.005e-7),
    (8_332, 1e-4, 1e-4, 1e-6),
    # (13330 - 8332) / (49990 - 8332) = 0.1199769552; (1 + cos(pi * that)) / 2 = 0.9649015673;
    # 1e-6 + 99e-6 * that.
    (13_330, 9.6525255e-5, 9.6525255e-5, 1e-6),
    # (13331 - 8332) / 41658 = 0.1200009602, 0.9648876877: the bridge's peak is now 1e-5.
    (13_331, 9.6839892e-6, 9.6523881e-5, 1e-6),
    # (33327 - 8332) / 41658 = 0.6000048010, 0.3454843305.
    (33_327, 4.1093589e-6, 3.5202948e-5, 1e-6),
    # The restart: 0.15 of the original peak of each, the bridge's too, at 0.001 of that;
    (33_328, 1.5e-8, 1.5e-8, 1.5e-10),
    # its warm-up ends 3333 later; the vlm's peak 1.5e-7 lies below the least rate and stays.
    (36_661, 1.5e-5, 1.5e-5, 1.5e-7),
    # (43326 - 36661) / (49990 - 36661) = 0.5000375122, 0.4999410760: 1e-6 + 14e-6 * that.
    (43_326, 7.9991751e-6, 7.9991751e-6, 1.5e-7),
    (49_990, 1e-6, 1e-6, 1.5e-7),
]


@pytest.mark.parametrize(("iteration", "bridge", "others", "vlm"), GOLDEN)
def test_published_recipe(iteration, bridge, others, vlm):
    schedule = CurriculumCosine.from_config(published())
    found = {n: schedule.learning_rate(iteration, peak, n) for n, peak in PEAKS.items()}
    due = dict.fromkeys(PEAKS, others) | {"bridge": bridge, "vlm": vlm}
    assert found == pytest.approx(due, rel=2e-7)


# As the published code runs: a cosine of 20 epochs, then the restart; no warm-up share.
AS_IT_RUNS = [
    *("SOLVER.COSINE_EPOCHS", "20", "SOLVER.FIRST_STEP_AT_PEAK", "True"),
    *("SOLVER.RESTART.LEAST_PEAK", "1e-6", "SOLVER.WARMUP_FACTOR", "0.0"),
]
GOLDEN_AS_IT_RUNS = [
    # The first step at the full rate, and only that one: 1 / 8332 of it in the second.
    (0, 1e-4, 1e-4, 1e-6),
    (1, 1.2001920e-8, 1.2001920e-8, 1.2001920e-10),
    (8_332, 1e-4, 1e-4, 1e-6),
    # (13331 - 8332) / (33327 - 8332) = 0.2; (1 + cos(pi / 5)) / 2 = 0.9045084972: 1e-6 + 9e-6 * it
    # of the bridge, and 1e-6 + 99e-6 * it.
    (13_331, 9.1405765e-6, 9.0546341e-5, 1e-6),
    # The cosine's end, in the last iteration in front of the restart.
    (33_327, 1e-6, 1e-6, 1e-6),
    (33_328, 0.0, 0.0, 0.0),
    # The vlm's peak would be 1.5e-7, below the least one.
    (36_661, 1.5e-5, 1.5e-5, 1e-6),
    (43_326, 7.9991751e-6, 7.9991751e-6, 1e-6),
    (49_990, 1e-6, 1e-6, 1e-6),
]


@pytest.mark.parametrize(("iteration", "bridge", "others", "vlm"), GOLDEN_AS_IT_RUNS)
def test_the_published_recipe_as_its_code_runs(iteration, bridge, others, vlm):
    due = dict.fromkeys(PEAKS, others) | {"bridge": bridge, "vlm": vlm}
    cfg = resolve_epochs(make_config("configs/detecture_qwen3vl8b_sam3.yaml"), IMAGES)
    for schedule in map(CurriculumCosine.from_config, (published(*AS_IT_RUNS), cfg)):
        found = {n: schedule.learning_rate(iteration, peak, n) for n, peak in PEAKS.items()}
        assert found == pytest.approx(due, rel=2e-7)


def test_a_cosine_that_ends_early_stays_at_the_least_rate():
    schedule = CurriculumCosine.from_config(
        published("SOLVER.COSINE_EPOCHS", "20", "SOLVER.RESTART.EPOCH", "0")
    )
    assert schedule.learning_rate(33_326, 1e-4) > 1e-6
    rates = {schedule.learning_rate(i, 1e-4) for i in (33_327, 33_328, 40_000, 49_990)}
    assert rates == {1e-6}


def test_a_part_that_does_not_train_has_no_least_peak():
    schedule = CurriculumCosine.from_config(published(*AS_IT_RUNS))
    assert {schedule.learning_rate(i, 0.0) for i in (0, 33_328, 36_661, 49_990)} == {0.0}


def test_without_a_restart_the_cosine_goes_on():
    schedule = CurriculumCosine.from_config(published("SOLVER.RESTART.EPOCH", "0"))
    assert schedule.learning_rate(33_328, 1e-4) < schedule.learning_rate(33_327, 1e-4)
    assert schedule.learning_rate(33_328, 1e-4) == pytest.approx(3.52e-5, rel=1e-3)
    assert schedule.learning_rate(49_990, 1e-4) == pytest.approx(1e-6)
    assert schedule.learning_rate(49_990, 1e-4, "bridge") == pytest.approx(1e-6)
    assert schedule.learning_rate(49_990, 1e-6, "vlm") == 1e-6


def test_stage_2_from_the_start_is_no_switch():
    schedule = CurriculumCosine.from_config(published("SOLVER.CURRICULUM.STAGE2_EPOCH", "0"))
    for iteration in (0, 9_000, 20_000):
        one, other = (schedule.learning_rate(iteration, 1e-4, n) for n in ("bridge", "mask_head"))
        assert one == other


@pytest.mark.parametrize("warmup", [0, 1, 5, 10, 20])
def test_short_runs(warmup):
    schedule = CurriculumCosine(10, warmup, 0.1, 0.0)
    rates = [schedule.learning_rate(i, 1.0) for i in range(10)]
    assert all(math.isfinite(rate) and 0.0 <= rate <= 1.0 for rate in rates)
    assert rates[0] == (1.0 if warmup == 0 else 0.1)
    assert warmup > 9 or rates[min(warmup, 9)] == 1.0


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("SOLVER.MAX_ITER", "-1", "SOLVER.MAX_ITER is -1; it must be at least 1"),
        ("SOLVER.CHECKPOINT_PERIOD", "0", "SOLVER.CHECKPOINT_PERIOD is 0; it must be at least 1"),
        ("SOLVER.KEEP_CHECKPOINTS", "1", "SOLVER.KEEP_CHECKPOINTS is 1; it must be at least 2"),
        ("SOLVER.BASE_LR", "nan", "SOLVER.BASE_LR is nan"),
        ("SOLVER.LR_SCHEDULER_NAME", "CuriculumCosine", "did you mean CurriculumCosine"),
        ("SOLVER.OPTIMIZER", "Adam", "SOLVER.OPTIMIZER is 'Adam'; use one of AdamW, SGD"),
        ("SOLVER.AMP.PRECISION", "half", "bfloat16, float16"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full", "full_model"),
    ],
)
def test_bad_values_name_the_key(key, value, told):
    with pytest.raises(ConfigError, match=told.split(";")[0].replace("'", ".")) as error:
        make_config(None, [key, value])
    assert told in str(error.value)


def test_defaults_are_sound():
    cfg = get_cfg()
    add_detecture_config(cfg)
    assert CurriculumCosine.from_config(cfg).learning_rate(0, 1.0) > 0

"""Two processes train as one does. One launch makes all the runs: starting is what costs time."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from staged_toy import StagedToy
from toy import write_toy_dataset

from detecture.config import make_config
from detecture.d2 import DatasetCatalog, comm, launch
from detecture.data import register_texture_dataset
from detecture.engine import Trainer
from detecture.errors import EvaluationError
from detecture.evaluation.records import records_lock

pytestmark = pytest.mark.slow  # whole commands, killed or in several processes

EXACT = [
    *("MODEL.META_ARCHITECTURE", "StagedToy", "MODEL.DEVICE", "cpu", "SEED", "3"),
    *("MODEL.DTYPE", "float64", "MODEL.BRIDGE.DROPOUT", "0.0", "INPUT.TRAIN_SIZE", "24"),
    *("INPUT.MICRO_CROP.PROB", "0.5", "INPUT.MICRO_CROP.MIN_REGIONS", "1"),
    *("DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "4", "SOLVER.ACCUMULATION", "2"),
    *("SOLVER.BASE_LR", "0.05", "SOLVER.OPTIMIZER", "AdamW", "SOLVER.LR_FACTOR.VLM", "0.5"),
    *("SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine", "SOLVER.CURRICULUM.STAGE2_ITER", "3"),
    *("SOLVER.WARMUP_ITERS", "2", "SOLVER.MAX_ITER", "6", "SOLVER.LOG_PERIOD", "1"),
    *("SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TEST", "()"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
]


def register(root):
    names = tuple(f"processes_k{k}" for k in (1, 2, 3))
    for name in names:
        if name not in DatasetCatalog.list():
            folder = Path(root) / name
            register_texture_dataset(name, folder / "metadata.json", folder)
    return names


def run(root, output, *overrides, resume=False):
    data = ("DATASETS.TRAIN", repr(register(root)), "OUTPUT_DIR", str(Path(root) / output))
    trainer = Trainer(make_config(None, [*EXACT, *data, *overrides]))
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def in_each_process(root):
    comm.synchronize()
    trainer = run(root, "two")
    sums = [comm.all_gather(float(p.double().sum())) for p in trainer.model.parameters()]
    assert all(one == other for one, other in sums)  # the processes hold the same weights
    run(root, "continued", resume=True)
    an_evaluation_fails_in_the_second_process(root)
    records_are_held_by_another_run(root)
    StagedToy.poisoned = "/toy_1.png"
    try:
        run(root, "poisoned")
    except FloatingPointError as error:
        Path(root, f"error{comm.get_rank()}.txt").write_text(str(error))
    comm.synchronize()


def evaluating(root, output):
    """Train and evaluate; what the run ends with goes into a file of each process."""
    test = ("DATASETS.TEST", repr(register(root)[1:2]), "TEST.EVAL_PERIOD", "2")
    try:
        run(root, output, *test, "TEST.MAX_FAILURES_IN_A_ROW", "1", "TEST.BOOTSTRAP_SAMPLES", "5")
    except EvaluationError as error:
        Path(root, f"{output}{comm.get_rank()}.txt").write_text(str(error))
    comm.synchronize()


def an_evaluation_fails_in_the_second_process(root):
    answer = StagedToy._output

    def fail(self, sample):
        if comm.get_rank() == 1:
            raise ValueError("no answer")
        return answer(self, sample)

    StagedToy._output = fail
    try:
        evaluating(root, "failing")
    finally:
        StagedToy._output = answer


def records_are_held_by_another_run(root):
    lock = records_lock(Path(root, "held/inference/processes_k2"))
    if comm.is_main_process():
        lock.acquire()
    evaluating(root, "held")
    lock.release()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    if torch.accelerator.is_available():
        pytest.skip("two CPU processes: hide the accelerators to run this")
    root = tmp_path_factory.mktemp("processes")
    for k in (1, 2, 3):
        write_toy_dataset(root / f"processes_k{k}", count=3, k=k)
    run(root, "one")
    run(root, "continued", "SOLVER.MAX_ITER", "6")
    # As if it had been killed after iteration 3 (in stage 2), in the middle of a line.
    continued = root / "continued"
    (continued / "last_checkpoint").write_text("model_0000003.safetensors")
    with (continued / "metrics.json").open("a") as file:
        file.write('{"iter')
    launch(in_each_process, 2, dist_url="auto", args=(str(root),))
    return root


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    found = [{k: v for k, v in one.items() if "loss" in k or k == "grad_norm"} for one in lines]
    return [one for one in found if one]  # an evaluation has a line of its own at the end


@pytest.mark.parametrize("other", ["two", "continued", "failing", "held"])
def test_two_processes_equal_one(root, other):
    one, two = losses(root / "one"), losses(root / other)
    assert len(one) == len(two) == 6
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)
    mine, theirs = (load_file(root / f"{n}/model_final.safetensors") for n in ("one", other))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.allclose(tensor, theirs[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("output", "told"),
    [("failing", "no answer"), ("held", "another run is writing its records here")],
)
def test_an_error_in_an_evaluation_is_one_of_both(root, output, told):
    for rank in (0, 1):
        text = Path(root, f"{output}{rank}.txt").read_text()
        assert "its weights are saved" in text and told in text


def test_a_nan_in_one_process_stops_both_with_the_same_words(root):
    zero, one = (Path(root, f"error{rank}.txt").read_text() for rank in (0, 1))
    assert zero == one
    assert "before the update: loss_mask is nan for" in zero
    assert "toy_1.png" in zero

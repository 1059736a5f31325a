"""Detecture itself through the trainer: real classes, tiny widths, random weights."""

import json
import re
from pathlib import Path

import pytest
import torch
from micro import micro_overrides, segmenter_config
from safetensors import safe_open
from safetensors.torch import load_file
from toy import register_toy_dataset, write_toy_dataset

from detecture.config import make_config
from detecture.d2 import CfgNode, DatasetCatalog, hooks, launch
from detecture.data import load_registered
from detecture.data.mapper import build_mapper
from detecture.engine import Trainer, evaluate, load_model

TRAINING = [
    *("DATASETS.TRAIN", '("synthetic_train",)', "DATASETS.TEST", "()", "SEED", "5"),
    *("SOLVER.IMS_PER_BATCH", "4", "SOLVER.OPTIMIZER", "AdamW", "SOLVER.BASE_LR", "0.002"),
    *("SOLVER.LR_SCHEDULER_NAME", "CurriculumCosine", "SOLVER.WARMUP_ITERS", "3"),
    *("SOLVER.WEIGHT_DECAY", "0.1", "SOLVER.LR_FACTOR.VLM", "1.0", "SOLVER.LOG_PERIOD", "1"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
    *("SOLVER.CHECKPOINT_PERIOD", "2", "TEST.BOOTSTRAP_SAMPLES", "5"),
]


def config(folder, output, *overrides):
    words = [*micro_overrides(folder), *TRAINING, "OUTPUT_DIR", str(folder / output)]
    return make_config(None, [*words, *map(str, overrides)])


class Stop(hooks.HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


def train(cfg, *, resume=False, stop=None):
    torch.manual_seed(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    if stop is None:
        trainer.train()
    else:
        trainer.register_hooks([Stop(stop)])
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    return trainer


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{k: v for k, v in one.items() if "loss" in k or k == "grad_norm"} for one in lines]


def test_a_short_training_lowers_both_losses(tmp_path):
    """On procedural images, measured on the same 12 before and after."""
    whole = ("MODEL.VLM.TRAIN", "full", "MODEL.SEGMENTER.TRAIN", "True", "MODEL.BRIDGE.DROPOUT", 0)
    cfg = config(tmp_path, "out", *whole, "SOLVER.MAX_ITER", 40, "SOLVER.IMS_PER_BATCH", 6)
    mapper = build_mapper(cfg, "SyntheticMapper", True, "synthetic_val")
    records = load_registered("synthetic_val")
    batch = [mapper(records[i]) for i in range(12)]
    trainer = Trainer(cfg)
    with torch.no_grad():
        before = {name: float(loss) for name, loss in trainer.model(batch).items()}
    trainer.train()
    with torch.no_grad():
        after = {name: float(loss) for name, loss in trainer.model(batch).items()}
    assert after["loss_lm"] < 0.8 * before["loss_lm"]
    assert after["loss_ce"] + after["loss_dice"] < before["loss_ce"] + before["loss_dice"]


def test_resumed_equals_unbroken_bit_by_bit_over_the_stage_switch(tmp_path):
    stages = ("SOLVER.MAX_ITER", 8, "SOLVER.CURRICULUM.STAGE2_ITER", 4, "SOLVER.ACCUMULATION", 2)
    train(config(tmp_path, "whole", *stages))
    due = losses(tmp_path / "whole")
    assert "loss_lm" not in due[3] and "loss_lm" in due[4]
    for stop in (3, 7):
        cfg = config(tmp_path, f"stopped_at_{stop}", *stages)
        train(cfg, stop=stop)
        train(cfg, resume=True)
        assert losses(Path(cfg.OUTPUT_DIR)) == due
        files = [
            tmp_path / run / "model_final.safetensors" for run in ("whole", f"stopped_at_{stop}")
        ]
        ours, theirs = (load_file(file) for file in files)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_tables_stay_bit_identical_and_cost_nothing(tmp_path):
    """Weight decay on, stage 2, three steps: in fp32 the published way shrinks every row."""
    trainer = Trainer(config(tmp_path, "out", "SOLVER.MAX_ITER", 3))
    vlm = trainer.model.vlm.model
    tables = [vlm.get_input_embeddings().base.weight, vlm.lm_head.base.weight]
    before = [table.clone() for table in tables]
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    trainer.train()
    for table, was in zip(tables, before, strict=True):
        assert torch.equal(table, was)
        assert table.grad is None
    parameters = dict(trainer.model.named_parameters())
    for name, was in frozen.items():
        assert torch.equal(parameters[name], was), name
        assert parameters[name].grad is None
    moments = {id(p) for p in trainer.optimizer.state}
    assert moments == {id(p) for p in parameters.values() if p.requires_grad}
    saved = load_file(tmp_path / "out/model_final.safetensors")
    assert set(saved) == {n for n, p in parameters.items() if p.requires_grad}
    assert max(tensor.numel() for tensor in saved.values()) < tables[0].numel()


def in_each_process(folder):
    train(exact(Path(folder), "two"))


def exact(folder, output, *overrides):
    return config(
        folder,
        output,
        *("MODEL.DTYPE", "float64", "MODEL.BRIDGE.DROPOUT", 0.0, "SOLVER.MAX_ITER", 4),
        *("SOLVER.CURRICULUM.STAGE2_ITER", 2),
        *overrides,
    )


@pytest.mark.slow
def test_two_processes_and_accumulation_equal_one_process(tmp_path):
    if torch.accelerator.is_available():
        pytest.skip("two CPU processes: hide the accelerators to run this")
    train(exact(tmp_path, "one"))
    train(exact(tmp_path, "accumulated", "SOLVER.ACCUMULATION", 4))
    launch(in_each_process, 2, dist_url="auto", args=(str(tmp_path),))
    due = losses(tmp_path / "one")
    assert len(due) == 4 and "loss_lm" in due[3]
    for other in ("accumulated", "two"):
        for mine, theirs in zip(losses(tmp_path / other), due, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9), other


FULL = "configs/detecture_qwen3vl8b_sam3"


@pytest.mark.parametrize("recipe", ["", "_ours"])
def test_the_recipes_of_full_size_train_and_resume_bit_by_bit(tmp_path, recipe):
    """All that they switch on, at small widths, over the stage switch and the restart."""
    structure = segmenter_config()
    structure["detr_encoder_config"]["dropout"] = 0.1  # as the full one has it
    (tmp_path / "dropout.json").write_text(json.dumps(structure))
    words = [*micro_overrides(tmp_path), "MODEL.SEGMENTER.CONFIG", str(tmp_path / "dropout.json")]
    words += ["MODEL.VLM.BASE", "", "MODEL.SEGMENTER.BASE", "", "INPUT.MICRO_CROP.PROB", "0.5"]
    words += ["DATASETS.TRAIN", '("synthetic_train",)', "DATASETS.TEST", "()"]
    words += ["TEST.EVAL_PERIOD", "0", "TEST.BEST_METRIC", "", "SOLVER.CHECKPOINT_PERIOD", "2"]
    words += ["SOLVER.MAX_EPOCHS", "0", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.MAX_ITER", "6"]
    words += ["SOLVER.CURRICULUM.STAGE2_EPOCH", "0", "SOLVER.CURRICULUM.STAGE2_ITER", "2"]
    words += ["SOLVER.WARMUP_ITERS", "1", "SOLVER.LOG_PERIOD", "1"]
    if not recipe:
        words += ["SOLVER.COSINE_EPOCHS", "0", "SOLVER.COSINE_ITERS", "4"]
        words += ["SOLVER.RESTART.EPOCH", "0", "SOLVER.RESTART.WARMUP_EPOCHS", "0"]
        words += ["SOLVER.RESTART.ITER", "4", "SOLVER.RESTART.WARMUP_ITERS", "1"]

    def cfg(output):
        return make_config(f"{FULL}{recipe}.yaml", [*words, "OUTPUT_DIR", str(tmp_path / output)])

    whole = train(cfg("whole"))
    assert whole.model.segmenter.training == (not recipe)
    assert whole.model.segmenter.dtype == (torch.bfloat16 if recipe else torch.float32)
    train(cfg("stopped"), stop=5)
    train(cfg("stopped"), resume=True)
    due = losses(tmp_path / "whole")
    assert losses(tmp_path / "stopped") == due and len(due) == 6
    assert "loss_lm" not in due[1] and "loss_lm" in due[2]


def test_the_two_recipes_differ_in_what_the_document_says(tmp_path):
    """The table of docs/detecture.md names every key in which they do, and no other."""
    configs = [make_config(f"{FULL}{recipe}.yaml") for recipe in ("", "_ours")]
    published, ours = (dict(leaves(cfg)) for cfg in configs)
    differ = {key for key in published if published[key] != ours[key]} - {"OUTPUT_DIR"}
    text = Path("docs/detecture.md").read_text(encoding="utf-8")
    part = text.split("## The two recipes of full size")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    named = set(re.findall(r"`([A-Z][A-Z0-9_.]+\.[A-Z0-9_]+)", "\n".join(rows)))
    assert named == differ


def leaves(node, prefix=""):
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_a_training_chooses_by_teacher_forced_answers_where_told(tmp_path):
    """Its own evaluations alone: one behind it answers live, with the same words of the config."""
    name = register_toy_dataset(write_toy_dataset(tmp_path / "toys", count=2))
    try:
        data = ("DATASETS.TRAIN", f'("{name}",)', "DATASETS.TEST", f'("{name}",)')
        best = ("TEST.EVAL_PERIOD", 2, "TEST.BEST_METRIC", "texture/mIoU", "SOLVER.MAX_ITER", 2)
        for told in (False, True):
            cfg = config(
                tmp_path, f"told_{told}", *data, *best, "TEST.ORACLE_IN_TRAINING", str(told)
            )
            train(cfg)
            assert (Path(cfg.OUTPUT_DIR) / "model_best.safetensors").is_file()
            assert oracle_of_records(cfg, name) == {told}
            evaluate(cfg, load_model(cfg))
            assert oracle_of_records(cfg, name) == {False}
    finally:
        DatasetCatalog.remove(name)


def oracle_of_records(cfg, name):
    lines = (Path(cfg.OUTPUT_DIR) / f"inference/{name}/records.jsonl").read_text().splitlines()
    return {record["oracle"] for record in map(json.loads, lines) if "image_id" in record}


def test_evaluation_live_and_oracle_with_the_trained_weights(tmp_path):
    name = register_toy_dataset(write_toy_dataset(tmp_path / "toys", count=3))
    try:
        data = ("DATASETS.TRAIN", f'("{name}",)', "DATASETS.TEST", f'("{name}",)')
        prompts = tmp_path / "prompts.yaml"
        prompts.write_text(
            'system: "Answer briefly."\nuser: "Name {N} surfaces."\n'
            'assistant_line: "TEXTURE_{i}: {description} <|seg|>"\nassistant_join: "\\n"\n'
            'seg_token: "<|seg|>"\nwarm_start_token: "<|im_end|>"\n'
        )
        own = (*data, "MODEL.VLM.PROMPTS", prompts, "SOLVER.MAX_ITER", 2)
        train(config(tmp_path, "trained", *own))
        weights = tmp_path / "trained/model_final.safetensors"
        with safe_open(weights, "pt") as file:
            assert "Name {N} surfaces." in json.dumps(file.metadata()).encode().decode(
                "unicode_escape"
            )
        # The wording comes with the weights: the config here says another.
        again = (*data, "MODEL.WEIGHTS", weights, "MODEL.VLM.PROMPTS", "tiny")
        for output, oracle in (("live", False), ("oracle", True)):
            cfg = config(tmp_path, output, *again, "TEST.ORACLE", oracle)
            model = load_model(cfg)
            assert model.vlm.chat.prompts.user == "Name {N} surfaces."
            evaluate(cfg, model)
            lines = (Path(cfg.OUTPUT_DIR) / f"inference/{name}/records.jsonl").read_text()
            records = [json.loads(line) for line in lines.splitlines()]
            records = [record for record in records if "image_id" in record]
            assert len(records) == 3
            for record in records:
                assert record["status"] in ("ok", "no_region", "count_violated")
                assert isinstance(record["generated_text"], str)
                if oracle:
                    assert record["oracle"]
                    assert "Texture of strip 1 <|seg|>" in record["generated_text"]
                    assert record["k_pred"] == 2
    finally:
        DatasetCatalog.remove(name)

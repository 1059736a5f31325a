#!/usr/bin/env python
"""A Detectron2 user's own script, with models, data sets and the evaluator of this project.

  python tools/plain_script.py
  python tools/plain_script.py --resume SOLVER.MAX_ITER 8
  python tools/plain_script.py --eval-only --config-file configs/texture_grouping.yaml

It trains as the config says, evaluates, and predicts one image. All names but those of this
project are Detectron2's: docs/detectron2.md shows it with Detectron2's own imports. What this
project can do beyond that (tools/train_net.py) it does not use.
"""

import argparse
from pathlib import Path

import detecture.modeling  # noqa: F401 - registers the models
from detecture.config import add_detecture_config, merge_overrides, merge_yaml_file
from detecture.d2 import (
    CfgNode,
    DatasetCatalog,
    DefaultPredictor,
    DefaultTrainer,
    DetectionCheckpointer,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    build_model,
    comm,
    default_argument_parser,
    default_setup,
    get_cfg,
    inference_on_dataset,
    launch,
    print_csv_format,
    setup_logger,
)
from detecture.data import TextureMapper, read_image
from detecture.evaluation import TextureSegEvaluator

CONFIG = "configs/plain_script.yaml"


def register() -> None:
    """Your own data set: dicts as this project describes them, and what is known about it."""
    DatasetCatalog.register("my_images", lambda: DatasetCatalog.get("samples")[:2])
    MetadataCatalog.get("my_images").set(evaluator_type="texture", k_regime="autonomous")


def test_loader(cfg: CfgNode, name: str) -> object:
    """Every image of a data set once."""
    mapper = TextureMapper(cfg, is_train=False, dataset_name=name)
    return build_detection_test_loader(cfg, name, mapper=mapper)


def evaluator(cfg: CfgNode, name: str, folder: str = "inference") -> TextureSegEvaluator:
    """Scores every image anew, into OUTPUT_DIR/<folder>/<data set>."""
    return TextureSegEvaluator(cfg, name, Path(cfg.OUTPUT_DIR) / folder / name, resume=False)


class TextureTrainer(DefaultTrainer):
    """Detectron2's trainer on data of this project."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> object:
        """Endless batches."""
        return build_detection_train_loader(cfg, mapper=TextureMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> object:
        """The loader of the evaluations during training."""
        return test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> TextureSegEvaluator:
        """The evaluator of the evaluations during training."""
        return evaluator(cfg, dataset_name, "inference_in_training")


def main(args: argparse.Namespace) -> None:
    """Run in every process."""
    cfg = get_cfg()
    add_detecture_config(cfg)
    # Like merge_from_file and merge_from_list, but no yaml file can run code.
    merge_yaml_file(cfg, args.config_file or CONFIG)
    merge_overrides(cfg, args.opts)
    register()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="detecture")

    if not args.eval_only:
        trainer = TextureTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        trainer.train()
        cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")

    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    for name in cfg.DATASETS.TEST:
        results = inference_on_dataset(model, test_loader(cfg, name), evaluator(cfg, name))
        print_csv_format(results)

    first = DatasetCatalog.get(cfg.DATASETS.TEST[0])[0]
    rgb = read_image(first["file_name"], cfg.INPUT.MAX_PIXELS)
    output = DefaultPredictor(cfg)(rgb[:, :, ::-1])
    labels = output["sem_seg"].argmax(dim=0)
    print(f"{first['image_id']}: {len(output['descriptions'])} regions, {tuple(labels.shape)}")


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    launch(main, arguments.num_gpus, dist_url="auto", args=(arguments,))

"""CATSeg in a Detectron2 script: built, loaded and evaluated by Detectron2's own functions."""

import numpy as np
import pytest
import torch
from PIL import Image
from semantic_toy import NAMES, write_semantic_part

import detecture.modeling  # noqa: F401 - registers the models
from detecture.config import add_detecture_config
from detecture.d2 import (
    DatasetCatalog,
    DetectionCheckpointer,
    MetadataCatalog,
    SemSegEvaluator,
    build_detection_test_loader,
    build_model,
    get_cfg,
    inference_on_dataset,
)
from detecture.modeling.cost.published_names import to_published

NAME = "a_users_own_set"


def config(arch):
    cfg = get_cfg()
    add_detecture_config(cfg)
    cfg.merge_from_file("configs/ahs_seg/cat_seg_tiny.yaml")
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = arch, "cpu"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), (NAME,)
    return cfg


@pytest.fixture
def own_set(tmp_path):
    write_semantic_part(tmp_path, 3)
    records = [
        {
            "file_name": str(tmp_path / f"images/toy_{number}.png"),
            "sem_seg_file_name": str(tmp_path / f"labels/toy_{number}.png"),
            "image_id": f"toy_{number}",
        }
        for number in range(3)
    ]
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(
        stuff_classes=NAMES, ignore_label=255, evaluator_type="sem_seg", thing_classes=[]
    )
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.pop(NAME)


def mapped(record):
    """A user's own mapper: Detectron2's usual entries."""
    pixels = np.array(Image.open(record["file_name"]).convert("RGB"))
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return {**record, "image": image, "height": image.shape[1], "width": image.shape[2]}


@pytest.mark.parametrize("arch", ["CATSeg", "AHSSeg"])
def test_built_loaded_and_evaluated(own_set, tmp_path, arch):
    cfg = config(arch)
    torch.manual_seed(1)
    source = build_model(cfg).eval()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    file = tmp_path / "model_base.pth"
    torch.save({"model": to_published(source.state_dict())}, file)

    torch.manual_seed(2)
    model = build_model(cfg).eval()
    loader = build_detection_test_loader(cfg, NAME, mapper=mapped)
    (sample,) = next(iter(loader))
    due = source([sample])[0]["sem_seg"]
    assert not torch.allclose(model([sample])[0]["sem_seg"], due)
    DetectionCheckpointer(model).load(str(file))
    assert torch.equal(model([sample])[0]["sem_seg"], due)
    assert due.shape == (len(NAMES), sample["height"], sample["width"])

    evaluator = SemSegEvaluator(NAME, distributed=False, output_dir=str(tmp_path / "inference"))
    found = inference_on_dataset(model, loader, evaluator)["sem_seg"]
    right, union = torch.zeros(len(NAMES)), torch.zeros(len(NAMES))
    for (one,) in loader:
        truth = torch.from_numpy(np.array(Image.open(one["sem_seg_file_name"]), np.int64))
        label = model([one])[0]["sem_seg"].argmax(dim=0)
        for number in range(len(NAMES)):
            here, there = (label == number) & (truth != 255), truth == number
            right[number] += (here & there).sum()
            union[number] += (here | there).sum()
    assert found["mIoU"] == pytest.approx(100 * float((right / union).mean()), abs=1e-4)

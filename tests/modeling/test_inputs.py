"""Every meta-arch takes what a plain Detectron2 script gives."""

import pytest
import torch

from detecture.config import add_detecture_config, make_config
from detecture.d2 import META_ARCH_REGISTRY, build_model, get_cfg
from detecture.data import KHint
from detecture.modeling import build_model as build_any
from detecture.modeling import meta_arch
from detecture.modeling.meta_arch.inputs import takes_plain_inputs


@pytest.mark.parametrize("name", meta_arch.__all__)
def test_every_meta_arch_is_decorated(name):
    layers = [META_ARCH_REGISTRY.get(name).forward]
    while hasattr(layers[-1], "__wrapped__"):
        layers.append(layers[-1].__wrapped__)
    due = takes_plain_inputs(lambda self, batch: None).__code__
    assert due in [layer.__code__ for layer in layers]


class Echo(torch.nn.Module):
    @takes_plain_inputs
    def forward(self, batch, more=None):
        return batch, more


def test_what_is_left_out_is_filled_in():
    image = torch.tensor([[[-3.0, 0.4, 254.6, 300.0]]])
    (given,), more = Echo().eval()([{"image": image, "height": 1, "width": 4}], more=7)
    assert given["image"].dtype is torch.uint8
    assert given["image"].tolist() == [[[0, 0, 255, 255]]]
    assert (given["k_hint"], given["height"], more) == (KHint(), 1, 7)


def test_mapped_dicts_go_through_as_they_are():
    sample = {"image": torch.zeros(3, 1, 1, dtype=torch.uint8), "k_hint": KHint("fixed", 2)}
    assert Echo().eval()([sample])[0][0] is sample
    training = {"image": torch.zeros(3, 1, 1)}
    assert Echo().train()([training])[0][0] is training


def test_a_plain_config_builds_a_model_that_answers():
    cfg = get_cfg()
    add_detecture_config(cfg)
    assert (cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST) == ("RGB", 0)
    model = build_model(cfg).eval()  # MODEL.DEVICE is one that torch knows
    image = torch.full((3, 32, 48), 200, dtype=torch.uint8)
    image[:, :, :24] = 40
    plain = {"image": image.float(), "height": 32, "width": 48}
    mapped = {**plain, "image": image, "k_hint": KHint()}
    (one,), (other,) = model([plain]), model([mapped])
    assert torch.equal(one["sem_seg"], other["sem_seg"])
    assert one["descriptions"] == other["descriptions"]


def test_auto_is_a_device_for_our_own_build_model():
    cfg = make_config(None, ["MODEL.META_ARCHITECTURE", "HalfSplit"]).clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "auto"
    cfg.freeze()
    assert build_any(cfg) is not None
    assert cfg.MODEL.DEVICE == "auto"

import pytest
import torch

from detecture.d2 import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model, get_cfg


@META_ARCH_REGISTRY.register()
class ContractModel(torch.nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layer = torch.nn.Linear(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, 2)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "ContractModel"
    cfg.MODEL.DEVICE = "cpu"
    return cfg


def test_build_model_calls_the_registered_class_with_the_config(cfg):
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    model = build_model(cfg)
    assert isinstance(model, ContractModel)
    assert model.layer.weight.shape == (2, 5)


def test_build_model_puts_it_on_the_device(cfg):
    cfg.MODEL.DEVICE = "meta"
    assert build_model(cfg).layer.weight.device.type == "meta"


def test_unknown_model_is_a_key_error_that_names_it(cfg):
    cfg.MODEL.META_ARCHITECTURE = "Nothing"
    with pytest.raises(KeyError, match="Nothing"):
        build_model(cfg)


@pytest.mark.lite_only
def test_unknown_model_error_lists_what_there_is(cfg):
    cfg.MODEL.META_ARCHITECTURE = "Nothing"
    with pytest.raises(KeyError, match=r"^no model named 'Nothing'.*ContractModel"):
        build_model(cfg)


def test_names_are_unique():
    with pytest.raises(AssertionError, match="ContractModel"):
        META_ARCH_REGISTRY.register(type("ContractModel", (), {}))


def test_registries_state_their_calling_contract():
    assert "obj(cfg)" in META_ARCH_REGISTRY.__doc__
    assert "egmentation" in SEM_SEG_HEADS_REGISTRY.__doc__


@pytest.mark.lite_only  # detectron2's says only what is registered
def test_the_registry_of_heads_states_its_calling_contract():
    assert "cfg, input_shape" in SEM_SEG_HEADS_REGISTRY.__doc__

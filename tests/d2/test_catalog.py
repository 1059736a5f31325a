import pytest

from detecture.d2 import DatasetCatalog, MetadataCatalog

NAME = "contract_catalog_set"


@pytest.fixture
def registered():
    DatasetCatalog.register(NAME, lambda: [{"image_id": 1}])
    yield NAME
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)


@pytest.fixture
def metadata():
    yield MetadataCatalog.get(NAME)
    if NAME in MetadataCatalog:
        MetadataCatalog.remove(NAME)


def test_register_get_list_remove(registered):
    assert registered in DatasetCatalog
    assert registered in DatasetCatalog.list()
    assert DatasetCatalog.get(registered) == [{"image_id": 1}]
    DatasetCatalog.remove(registered)
    assert registered not in DatasetCatalog
    assert registered not in DatasetCatalog.list()


def test_pop_returns_the_loader(registered):
    assert DatasetCatalog.pop(registered)() == [{"image_id": 1}]
    assert registered not in DatasetCatalog


def test_loading_happens_at_get_only():
    calls = []
    DatasetCatalog.register("contract_lazy", lambda: calls.append(1) or [{}])
    try:
        assert calls == []
        DatasetCatalog.get("contract_lazy")
        DatasetCatalog.get("contract_lazy")
        assert calls == [1, 1]
    finally:
        DatasetCatalog.remove("contract_lazy")


def test_duplicate_name_is_refused_and_changes_nothing(registered):
    with pytest.raises((ValueError, AssertionError), match=registered):
        DatasetCatalog.register(registered, lambda: [])
    assert DatasetCatalog.get(registered) == [{"image_id": 1}]


def test_only_functions_can_be_registered():
    with pytest.raises((TypeError, AssertionError)):
        DatasetCatalog.register("contract_list", [{"image_id": 1}])
    assert "contract_list" not in DatasetCatalog


def test_unknown_name_error_lists_the_known_ones(registered):
    with pytest.raises(KeyError, match=f"nothing_here.*{registered}"):
        DatasetCatalog.get("nothing_here")


@pytest.mark.lite_only
def test_unknown_name_error_reads_as_a_sentence():
    with pytest.raises(KeyError) as caught:
        DatasetCatalog.get("nothing_here")
    assert str(caught.value).startswith("data set 'nothing_here' is not registered. Registered: ")


def test_removing_an_unknown_name_is_an_error():
    with pytest.raises(KeyError):
        DatasetCatalog.remove("nothing_here")


def test_metadata_is_one_object_per_name(metadata):
    assert metadata.name == NAME
    metadata.evaluator_type = "texture"
    assert MetadataCatalog.get(NAME).evaluator_type == "texture"
    assert NAME in MetadataCatalog.list()
    MetadataCatalog.remove(NAME)
    assert MetadataCatalog.get(NAME).get("evaluator_type") is None


def test_metadata_set_get_as_dict(metadata):
    assert metadata.set(k_regime="pair", subject="water") is metadata
    assert metadata.get("k_regime") == "pair"
    assert metadata.get("missing", 3) == 3
    as_dict = metadata.as_dict()
    assert as_dict == {"name": NAME, "k_regime": "pair", "subject": "water"}
    as_dict["subject"] = "changed"
    assert metadata.subject == "water"


def test_metadata_values_do_not_change(metadata):
    metadata.k_regime = "pair"
    metadata.k_regime = "pair"  # the same value again is fine
    with pytest.raises((ValueError, AssertionError), match="k_regime"):
        metadata.k_regime = "single"
    assert metadata.k_regime == "pair"


def test_missing_attribute_error_lists_what_there_is(metadata):
    metadata.k_regime = "pair"
    with pytest.raises(AttributeError, match=f"nothing_here.*{NAME}|{NAME}.*nothing_here") as error:
        _ = metadata.nothing_here
    assert "k_regime" in str(error.value)
    assert not hasattr(metadata, "nothing_here")

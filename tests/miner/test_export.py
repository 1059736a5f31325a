"""One pass over the items for all formats."""

import importlib.util
from dataclasses import replace
from functools import partial

import pytest

from detecture.data.formats.coco_rle import CocoSettings, read_coco, writing_coco
from detecture.data.formats.fiftyone_directory import read_fiftyone
from detecture.data.formats.labelled_layout import read_layout
from detecture.errors import ConfigError, DatasetError
from detecture.miner.export import WRITERS, export
from tests.data.formats.conftest import items, same  # noqa: F401

NAMES = [n for n in WRITERS if n != "parquet" or importlib.util.find_spec("pyarrow")]


def test_all_formats_in_one_pass(items, tmp_path, caplog):  # noqa: F811
    gone = replace(items[1], item_id="gone", image_path=tmp_path / "gone.png")
    report = export(iter([*items, gone]), NAMES, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(NAMES)
    assert report.folders == {name: tmp_path / "out" / name for name in NAMES}
    for name in NAMES:
        left_out = [item_id for item_id, _ in report.left_out[name]]
        # An image without regions has no place in the published layout.
        assert left_out == ([items[0].item_id] if name == "published_layout" else []) + ["gone"]
        assert report.written[name] == len(items) + 1 - len(left_out)
    assert "does not exist" in caplog.text
    same(list(read_coco(tmp_path / "out" / "coco")), items)
    same(list(read_fiftyone(tmp_path / "out" / "fiftyone")), items)
    same(list(read_layout(tmp_path / "out" / "published_layout")), items[1:], more=False)


def test_settings_of_a_format(items, tmp_path):  # noqa: F811
    own = partial(writing_coco, settings=CocoSettings(first_image_id=7))
    export(items, ["coco", "coco"], tmp_path, {"coco": own})
    assert '"id": 7,' in (tmp_path / "coco/annotations/instances_default.json").read_text()
    with pytest.raises(DatasetError, match="use one of texture, class"):
        CocoSettings(categories="none")


def test_what_cannot_be_exported_is_known_before_the_first_item(items, tmp_path):  # noqa: F811
    with pytest.raises(ConfigError, match="use one of published_layout, coco"):
        export(items, ["coco", "yolo"], tmp_path)
    (tmp_path / "fiftyone").mkdir()
    (tmp_path / "fiftyone" / "mine").touch()

    def never():
        raise AssertionError
        yield

    with pytest.raises(DatasetError, match="choose another folder"):
        export(never(), ["coco", "fiftyone"], tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"fiftyone", "sources"}


def test_two_runs_do_not_write_one_export(items, tmp_path):  # noqa: F811
    def nested():
        yield items[1]
        with pytest.raises(DatasetError, match="another run is writing"):
            export(items, ["coco"], tmp_path)
        yield items[2]

    assert export(nested(), ["coco"], tmp_path).written == {"coco": 2}
    assert len(list(read_coco(tmp_path / "coco"))) == 2


def test_the_formats_of_the_config_are_those_that_there_are():
    from detecture.config.sections.miner import EXPORT_FORMATS
    from detecture.miner.export import WRITERS

    assert set(EXPORT_FORMATS) == set(WRITERS)

"""Protocols of open-vocabulary segmentation: what they run, and what they refuse."""

from pathlib import Path

import pytest
import yaml
from benchmark.toy_semantic import SEVEN

from detecture.benchmark.cells import require_right_kind
from detecture.benchmark.protocol import read_protocols
from detecture.benchmark.results import SEMANTIC
from detecture.config import make_config
from detecture.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
SHIPPED = REPO / "configs" / "benchmark_semantic.yaml"
TEXTURE = REPO / "configs" / "benchmark.yaml"


def write(tmp_path, change=None):
    for name, arch in (("regions", "HalfSplit"), ("names", "CATSeg"), ("none", "NoSuchModel")):
        (tmp_path / f"{name}.yaml").write_text(f"MODEL:\n  META_ARCHITECTURE: {arch}\n")
    variants = {
        "usual": {"TEST.SEMANTIC.VOCABULARY": "full"},
        "oracle": {"TEST.SEMANTIC.VOCABULARY": "per_image"},
    }
    semantic = {"semantic": {"variants": ["usual"]}}
    content = {
        "methods": {
            "names": {"label": "N", "config": "names.yaml", "weights": "n.pth"},
            "regions": {"label": "R", "config": "regions.yaml"},
            "none": {"label": "-", "config": "none.yaml"},
        },
        "protocols": {
            "p": {
                "note": "a note",
                "datasets": ["ade20k_150_test_sem_seg", "voc_2012_test_sem_seg"],
                "leaks": False,
                "methods": {
                    "names": semantic,
                    "regions": {"pair": {"variants": ["usual"], "k": "regime"}},
                },
            }
        },
    }
    for method in content["methods"].values():
        method["variants"] = variants
    if change:
        change(content)
    path = tmp_path / "protocols.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def methods_of(content):
    return content["protocols"]["p"]["methods"]


# ---- the shipped file --------------------------------------------------------------------------


@pytest.mark.parametrize("random_weights", [False, True])
def test_every_cell_of_the_shipped_file_has_a_config_of_its_kind(random_weights):
    file = read_protocols(SHIPPED)
    for name in file.protocols:
        cells = file.cells(name, random_weights=random_weights)
        assert list(dict.fromkeys(cell.dataset for cell in cells)) == list(SEVEN)
        require_right_kind(cells)
        for cell in cells:
            make_config(cell.config, cell.overrides())


def test_methods_are_the_five_and_figures_depend_on_the_same_for_all():
    file = read_protocols(SHIPPED)
    configs = {name: method.config.name for name, method in file.methods.items()}
    assert configs == {
        "cat_seg": "cat_seg_vitb.yaml",
        "cat_seg_l": "cat_seg_vitl.yaml",
        "ahs_seg": "vitb_384_enhanced.yaml",
        "ahs_seg_l": "vitl_336_enhanced.yaml",
        "ahs_seg_tiny": "tiny_shipped.yaml",
    }
    due = {
        "open_vocabulary": ("present", "full", "first", 0.0, ""),
        "open_vocabulary_names": ("present", "full", "all", 0.0, ""),
        "open_vocabulary_oracle": ("present", "per_image", "first", 0.0, ""),
    }
    assert due.keys() == file.protocols.keys()
    for name, values in due.items():
        for cell in file.cells(name, datasets=["voc_2012_test_sem_seg"]):
            cfg = make_config(cell.config, cell.overrides())
            test = cfg.TEST.SEMANTIC
            found = (test.MIOU_RULE, test.VOCABULARY, test.SYNONYMS, test.BACKGROUND_THRESHOLD)
            assert (*found, cfg.MODEL.VOCABULARY.TEST) == values, cell


def test_nobody_is_told_of_a_number_of_regions(tmp_path):
    file = read_protocols(SHIPPED)
    cells = [cell for name in file.protocols for cell in file.cells(name)]
    assert {cell.k_access for cell in cells} == {SEMANTIC}
    assert not any("TEST.COUNT" in cell.overrides() for cell in cells)
    # Protocols that ask for different things never share a folder.
    assert len({cell.folder(tmp_path) for cell in cells}) == len(cells)


def test_weights_are_the_methods_own_until_a_setting_says_otherwise():
    file = read_protocols(SHIPPED)

    def weights(**options):
        (cell,) = file.cells("open_vocabulary", ["cat_seg"], ["voc_2012_test_sem_seg"], **options)
        return make_config(cell.config, cell.overrides()).MODEL.WEIGHTS

    assert weights() == "weights/model_base.pth"
    assert weights(settings=[("cat_seg", "MODEL.WEIGHTS", "mine.pth")]) == "mine.pth"
    assert weights(random_weights=True) == ""


def test_the_texture_protocols_have_none_of_it():
    file = read_protocols(TEXTURE)
    cells = [cell for name in file.protocols for cell in file.cells(name)]
    assert SEMANTIC not in {cell.k_access for cell in cells}
    for cell in cells:
        assert "TEST.COUNT" in cell.overrides()


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "protocol", "datasets", "message"),
    [
        (TEXTURE, "fair", ["ade20k_150_test_sem_seg"], "give the method an entry `semantic`"),
        (TEXTURE, "fair", ["rwtd", "ade20k_150_test_sem_seg"], "give --datasets of one kind"),
        (SHIPPED, "open_vocabulary", ["rwtd"], "asked for classes by name: give sets of semantic"),
        (SHIPPED, "open_vocabulary", ["rwtd", "voc_2012_test_sem_seg"], "of one kind"),
    ],
)
def test_data_of_the_other_kind(file, protocol, datasets, message):
    with pytest.raises(ConfigError, match=message):
        read_protocols(file).cells(protocol, datasets=datasets)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: methods_of(c)["names"]["semantic"].update(k="none"),
            "names.semantic has unknown k",
        ),
        (
            lambda c: methods_of(c)["regions"]["pair"].pop("k"),
            "regions.pair lacks k",
        ),
        (
            lambda c: methods_of(c)["names"]["semantic"].update(variants=["oracle"]),
            "variant oracle asks each image only for the classes that it has, .* `leaks: false`",
        ),
        (
            lambda c: methods_of(c)["names"].update(
                voc_2012_test_sem_seg={"variants": ["usual"], "k": "none"}
            ),
            "names.voc_2012_test_sem_seg has unknown k",
        ),
        (lambda c: c["methods"]["names"].update(weights=7), "names.weights must be a text, not 7"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        read_protocols(write(tmp_path, change))


def test_an_entry_of_a_data_set_goes_before_the_kind(tmp_path):
    def change(content):
        content["protocols"]["p"]["leaks"] = True
        methods_of(content)["names"]["voc_2012_test_sem_seg"] = {"variants": ["oracle"]}

    cells = read_protocols(write(tmp_path, change)).cells("p")
    assert [(c.method.name, c.dataset, c.variant) for c in cells] == [
        ("names", "ade20k_150_test_sem_seg", "usual"),
        ("names", "voc_2012_test_sem_seg", "oracle"),
    ]


@pytest.mark.parametrize(
    ("change", "datasets", "message"),
    [
        (
            lambda m: m.update(regions=m["names"]),
            (),
            r"regions \(HalfSplit, .*regions.yaml\) finds regions, and ade20k_150_test_sem_seg is "
            "a set of semantic segmentation: its figures would mean nothing",
        ),
        (
            lambda m: m.update(names=m["regions"]),
            ["rwtd"],
            r"names \(CATSeg, .*\) is asked for classes by name, and rwtd is a set of regions",
        ),
    ],
)
def test_models_of_the_other_kind(tmp_path, change, datasets, message):
    path = write(tmp_path, lambda content: change(methods_of(content)))
    with pytest.raises(ConfigError, match=message):
        require_right_kind(read_protocols(path).cells("p", datasets=datasets))


def test_unknown_models_are_left_to_the_run(tmp_path):
    def change(content):
        methods_of(content)["none"] = methods_of(content)["names"]

    require_right_kind(read_protocols(write(tmp_path, change)).cells("p", ["none", "names"]))

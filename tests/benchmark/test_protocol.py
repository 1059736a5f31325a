"""The protocol file: what it says, and what it refuses."""

from pathlib import Path

import pytest
import yaml

from detecture.benchmark.protocol import read_protocols
from detecture.config import make_config
from detecture.d2 import MetadataCatalog
from detecture.errors import ConfigError, DatasetError

REPO = Path(__file__).resolve().parents[2]
SHIPPED = REPO / "configs" / "benchmark.yaml"


def write(tmp_path, change=None):
    (tmp_path / "method.yaml").write_text("MODEL:\n  META_ARCHITECTURE: HalfSplit\n")
    content = {
        "methods": {
            "a": {"label": "A", "config": "method.yaml"},
            "b": {
                "label": "B",
                "config": "method.yaml",
                "random_config": "method.yaml",
                "variants": {
                    "word": {"MODEL.WEIGHTS": "{subject} here"},
                    "plain": {"TEST.DUSTBIN_LOGIT": -1.0},
                },
            },
        },
        "protocols": {
            "p": {
                "note": "a note",
                "datasets": ["rwtd", "caid", "bsds_coarse"],
                "leaks": False,
                "methods": {
                    "b": {
                        "single": {"variants": ["word", "plain"], "k": "regime"},
                        "bsds_coarse": {"variants": ["plain"], "k": "none"},
                    },
                    "a": {"pair": {"variants": ["default"], "k": "regime"}},
                },
            }
        },
    }
    if change:
        change(content)
    path = tmp_path / "protocols.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_cells_of_regimes_and_data_sets(tmp_path):
    cells = read_protocols(write(tmp_path)).cells("p")
    assert [(c.method.name, c.dataset, c.variant, c.k_access) for c in cells] == [
        ("a", "rwtd", "default", "regime"),
        ("b", "caid", "word", "regime"),
        ("b", "caid", "plain", "regime"),
        ("b", "bsds_coarse", "plain", "none"),
    ]
    assert len({c.folder(tmp_path) for c in cells}) == 4


def test_overrides_go_through_the_config(tmp_path):
    cells = read_protocols(write(tmp_path)).cells("p", ["b"], ["caid", "bsds_coarse"], limit=3)
    word = make_config(cells[0].config, cells[0].overrides())
    assert word.MODEL.WEIGHTS == "water surface here"
    assert word.DATASETS.TEST == ("caid",)
    assert word.TEST.COUNT == "regime"
    assert word.TEST.LIMIT == 3
    plain = make_config(cells[2].config, cells[2].overrides())
    assert plain.TEST.DUSTBIN_LOGIT == -1.0
    assert plain.TEST.COUNT == "autonomous"


def test_settings_are_those_of_a_method_or_of_all(tmp_path):
    file = read_protocols(write(tmp_path))
    settings = [("b", "TEST.DUSTBIN_LOGIT", "-2.0"), ("all", "MODEL.MAX_REGIONS", "3")]
    cells = file.cells("p", datasets=["rwtd", "caid"], settings=settings)
    found = {}
    for cell in cells:
        cfg = make_config(cell.config, cell.overrides())
        found[cell.method.name, cell.variant] = (cfg.TEST.DUSTBIN_LOGIT, cfg.MODEL.MAX_REGIONS)
    # What a variant says stands.
    assert found == {
        ("a", "default"): (0.0, 3),
        ("b", "word"): (-2.0, 3),
        ("b", "plain"): (-1.0, 3),
    }
    with pytest.raises(ConfigError, match="method of a setting 'a' is unknown; use one of all, b"):
        file.cells("p", ["b"], settings=[("a", "MODEL.MAX_REGIONS", "3")])
    with pytest.raises(ConfigError, match="a setting sets TEST"):
        file.cells("p", settings=[("a", "TEST.LIMIT", "3")])


def test_random_weights_and_limits_have_folders_of_their_own(tmp_path):
    file = read_protocols(write(tmp_path))
    usual = file.cells("p", ["b"], ["caid"])[0]
    tiny = file.cells("p", ["b"], ["caid"], random_weights=True)[0]
    few = file.cells("p", ["b"], ["caid"], limit=2)[0]
    assert tiny.random_weights
    assert not usual.random_weights
    assert not file.cells("p", ["a"], ["rwtd"], random_weights=True)[0].random_weights
    assert len({cell.folder(tmp_path) for cell in (usual, tiny, few)}) == 3


def entry(content):
    return content["protocols"]["p"]["methods"]["b"]["single"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(extra=1), "has unknown extra"),
        (lambda c: c.pop("protocols"), "lacks protocols"),
        (lambda c: c["methods"]["a"].pop("label"), "methods.a lacks label"),
        (lambda c: c["methods"]["a"].update(label=" "), "methods.a.label must be a text"),
        (lambda c: c["methods"]["a"].update(config="no.yaml"), "no.yaml, which does not exist"),
        (lambda c: c["protocols"]["p"].update(leaks="no"), "leaks must be true or false"),
        (lambda c: c["protocols"]["p"].update(datasets="rwtd"), "datasets must be a list"),
        (lambda c: c["protocols"]["p"].update(datasets=["rwtd"] * 2), "has 'rwtd' twice"),
        (lambda c: c["protocols"]["p"].update(datasets=[["rwtd"]]), "datasets must be a list"),
        (lambda c: c["methods"].update({"../a": c["methods"]["a"]}), "'../a' is no name"),
        (lambda c: c["methods"].update({"": c["methods"]["a"]}), "'' is no name"),
        (lambda c: c["protocols"].update({"p/q": c["protocols"]["p"]}), "'p/q' is no name"),
        (lambda c: c["methods"]["a"].update(variants={"..": {}}), "'..' is no name"),
        (
            lambda c: c["methods"]["a"].update(variants={"v": {"OUTPUT_DIR": "x"}}),
            "sets OUTPUT_DIR, which every cell sets by itself",
        ),
        (lambda c: c["methods"]["a"].update(config="n" * 300), "which does not exist"),
        (lambda c: entry(c).update(variants=["word", "word"]), "has 'word' twice"),
        (lambda c: entry(c).update(variants=[["word"]]), "variants must be a list of names"),
        (lambda c: entry(c).update(k=["none"]), "is unknown; use one of none, regime"),
        (lambda c: c["protocols"]["p"]["methods"].update(z={}), "'z' is unknown; use one of a, b"),
        (lambda c: entry(c).update(variants=[]), "variants is empty"),
        (lambda c: entry(c).update(variants=["other"]), "'other' is unknown; use one of word, pla"),
        (lambda c: entry(c).update(k="all"), "'all' is unknown; use one of none, regime"),
        (lambda c: entry(c).update(k="per_image"), "the protocol says `leaks: false`"),
        (lambda c: entry(c).update(k="ground_truth_top_k"), "the protocol says `leaks: false`"),
        (
            lambda c: c["protocols"]["p"]["methods"]["b"].update(triple=entry(c)),
            "'triple' is unknown; use one of single, pair, autonomous, rwtd",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    path = write(tmp_path, change)
    with pytest.raises(ConfigError, match=message) as caught:
        read_protocols(path)
    assert str(path) in str(caught.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_protocols(tmp_path / "none.yaml")
    path = tmp_path / "code.yaml"
    path.write_text("methods: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="plain values only"):
        read_protocols(path)
    path.write_text("")
    with pytest.raises(ConfigError, match="must be a mapping"):
        read_protocols(path)
    path.write_text("methods: {}\nprotocols: {}\nmethods: {}\n")
    with pytest.raises(ConfigError, match="the key 'methods' stands twice"):
        read_protocols(path)
    path.write_text("[" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_protocols(path)


def test_unknown_names_and_missing_subjects(tmp_path):
    file = read_protocols(write(tmp_path))
    with pytest.raises(ConfigError, match="protocol 'q' is unknown; use one of p"):
        file.cells("q")
    with pytest.raises(ConfigError, match="'c' is unknown; use one of b, a"):
        file.cells("p", ["c"])
    with pytest.raises(ConfigError, match="has no cell for a on caid"):
        file.cells("p", ["a"], ["caid"])
    assert len(file.cells("p", ["a", "a"], ["rwtd", "rwtd"])) == 1
    with pytest.raises(DatasetError, match="did you mean rwtd"):
        file.cells("p", datasets=["rwtf"])
    path = write(tmp_path, lambda c: entry(c).update(variants=["word"]))
    MetadataCatalog.get("rwtd")
    content = yaml.safe_load(path.read_text())
    content["protocols"]["p"]["methods"]["b"]["rwtd"] = {"variants": ["word"], "k": "regime"}
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="names the subject of a data set, and rwtd has none"):
        read_protocols(path).cells("p")


# ---- the shipped protocols ---------------------------------------------------------------------


def test_every_cell_of_the_shipped_file_has_a_valid_config():
    file = read_protocols(SHIPPED)
    for name in file.protocols:
        for random_weights in (False, True):
            for cell in file.cells(name, random_weights=random_weights):
                make_config(cell.config, cell.overrides())


def test_nothing_is_told_where_nothing_may_be_known():
    file = read_protocols(SHIPPED)
    for name in ("fair", "blind"):
        for cell in file.cells(name):
            regime = MetadataCatalog.get(cell.dataset).k_regime
            due = "regime" if name == "fair" and regime != "autonomous" else "none"
            assert cell.k_access == due, cell
    assert {cell.k_access for cell in file.cells("counted")} == {"per_image"}


def test_own_methods_have_one_variant_only():
    for method in read_protocols(SHIPPED).methods.values():
        if "(ours)" in method.label:
            assert len(method.variants) == 1


PUBLISHED = ("rwtd", "stld", "ade20k_detecture", "caid")


def test_the_published_cells_and_what_each_is_told():
    cells = read_protocols(SHIPPED).cells("published")
    table = {(c.method.name, c.dataset): (c.variant, c.k_access) for c in cells}
    assert len(table) == len(cells) == 16
    assert table == {
        ("detecture", "rwtd"): ("default", "regime"),
        ("detecture", "stld"): ("default", "regime"),
        ("detecture", "ade20k_detecture"): ("default", "none"),
        ("detecture", "caid"): ("default", "regime"),
        ("sam3_text", "rwtd"): ("texture_inverse", "regime"),
        ("sam3_text", "stld"): ("texture_inverse", "regime"),
        ("sam3_text", "ade20k_detecture"): ("published_proposals", "ground_truth_top_k"),
        ("sam3_text", "caid"): ("subject", "regime"),
        ("grounded_sam3", "rwtd"): ("pair_inverse", "regime"),
        ("grounded_sam3", "stld"): ("pair_inverse", "regime"),
        ("grounded_sam3", "ade20k_detecture"): ("published_exemplar", "none"),
        ("grounded_sam3", "caid"): ("subject_exemplar", "regime"),
        ("sa2va", "rwtd"): ("published_caption", "regime"),
        ("sa2va", "stld"): ("published_caption", "regime"),
        ("sa2va", "ade20k_detecture"): ("published_caption", "none"),
        ("sa2va", "caid"): ("published_subject_caption", "regime"),
    }
    phrases = {
        (c.dataset, key): cfg.MODEL.SAM3_TEXT.PHRASES
        for c in cells
        for key, cfg in [("sam3_text", make_config(c.config, c.overrides()))]
        if c.method.name == "sam3_text"
    }
    assert phrases["caid", "sam3_text"] == ("water surface",)
    assert phrases["ade20k_detecture", "sam3_text"] == ("texture regions",)
    assert phrases["rwtd", "sam3_text"] == ("texture",)


def test_one_cell_alone_has_the_true_number_as_published():
    file = read_protocols(SHIPPED)
    told = [c for name in file.protocols for c in file.cells(name) if "top_k" in c.k_access]
    assert [(c.method.name, c.dataset) for c in told] == [("sam3_text", "ade20k_detecture")]


def test_every_method_of_the_fair_protocol_is_told_the_same():
    file = read_protocols(SHIPPED)
    for dataset in PUBLISHED:
        for name in ("fair", "blind", "counted"):
            cells = file.cells(name, datasets=[dataset])
            assert len({cell.k_access for cell in cells}) == 1
            assert {cell.method.name for cell in cells} == set(file.methods)


def test_each_baseline_of_several_variants_declares_them_for_every_regime():
    cells = read_protocols(SHIPPED).cells("fair", ["sam3_text", "grounded_sam3", "sa2va"])
    for name in ("sam3_text", "grounded_sam3", "sa2va"):
        for dataset in PUBLISHED:
            assert sum(c.method.name == name and c.dataset == dataset for c in cells) >= 2


def test_what_the_tables_have_no_columns_for_is_refused(tmp_path):
    file = read_protocols(write(tmp_path))
    with pytest.raises(ConfigError, match=r"bsds500_test.*\(regions\).*train_net.*--eval-only"):
        file.cells("p", datasets=["bsds500_test"])

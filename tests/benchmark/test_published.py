"""Published figures: as the specification has them, apart from our own, and checked when read."""

import pytest
from benchmark.toy_cells import PUBLISHED, cell

from detecture.benchmark.markdown import report_markdown
from detecture.benchmark.published import load_published
from detecture.benchmark.report import build_report
from detecture.errors import ConfigError

GOOD = """
- title: t
  source: s
  differs: [d]
  metrics: [mIoU, ARI]
  datasets: [A]
  rows:
    - {method: m, values: [[.5, -0.1]]}
"""


def test_shipped_figures_are_those_of_the_releases():
    main, earlier = load_published()
    rows = {row.method: row.values for row in main.rows}
    assert main.datasets == ["RWTD", "STLD", "ADE20K", "CAID"]
    own = [[0.8162, 0.6895], [0.7441, 0.6062], [0.7419, 0.7138], [0.7450, 0.5883]]
    assert rows["Detecture"] == own
    assert rows["SA2VA"][1] == [0.3739, 0.7140]
    assert next(row.note for row in main.rows if row.method == "TextureSAM") == "another metric"
    assert {row.method: [tuple(v) for v in row.values] for row in earlier.rows} == PUBLISHED
    for table in (main, earlier):
        assert any("own code" in sentence for sentence in table.differs)


def test_they_stand_in_a_block_of_their_own():
    text = report_markdown(build_report([cell("sa2va", "rwtd", 0.1234)], "toy"))
    own, others = text.split("## Figures of others")
    assert "0.3561" not in own
    assert "Grounding" not in own
    assert "0.1234" not in others
    assert others.count("Not measured here. Source:") == 2


def test_a_well_formed_file_is_read(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(GOOD)
    (table,) = load_published(path)
    assert table.rows[0].values == [[0.5, -0.1]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: s", "", "table 0 must have exactly the keys"),
        ("title: t", "title: t\n  more: 1", "table 0 must have exactly the keys"),
        ("[mIoU, ARI]", "[mIoU, PQ]", "'PQ'; use some of mIoU, pIoU"),
        ("[d]", "[]", "differs must be a list of texts"),
        ("[[.5, -0.1]]", "[[.5]]", r"rows\[0\].values must hold"),
        ("[[.5, -0.1]]", "[[.5, 61.2]]", r"rows\[0\].values must hold"),
        ("[[.5, -0.1]]", "[[.5, .nan]]", r"rows\[0\].values\[0\]\[1\]: holds NaN"),
        ("[[.5, -0.1]]", "[[.5, -0.1], [.5, .5]]", r"rows\[0\].values must hold"),
        ("method: m", "method: 7", r"rows\[0\].method must be a text, is 7"),
        ("title: t", "title: !!python/object/apply:os.getcwd []", "cannot be read as yaml"),
        (GOOD, "a: 1", "must hold a list of tables"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, old, new, message):
    path = tmp_path / "p.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_published(path)
    assert str(path) in str(caught.value)

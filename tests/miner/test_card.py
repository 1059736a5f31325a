"""The data card says what was counted, and shows texts as they are."""

from detecture.miner.card import CardExample, CardFacts, CardSource, count_facts, render_card
from detecture.miner.validate import ValidationSummary


def rows():
    extract = {"regions": [{"class_name": "wall"}, {"class_name": "floor"}]}
    model = {"describer": "api", "model": "m-1", "descriptions": ["Texture of a b", "Texture of c"]}
    offline = {"describer": "offline", "model": "", "offline": True, "descriptions": ["x y"] * 3}
    three = {"regions": [{"class_name": "wall"}, {"class_name": ""}, {"class_name": "sky"}]}
    return [(extract, model), (extract, model), (three, offline)]


def facts(**more):
    return CardFacts(
        title="A set",
        sources=[CardSource(name="ade20k", licence="BSD 3-clause", images=3)],
        funnel={"source": 100, "score": 20, "extract": 15, "validate": 3},
        splits={"train": 2, "val": 1, "test": 0},
        **count_facts(rows()),
        **more,
    )


def test_counts():
    found = count_facts(rows())
    assert found["regions"] == {2: 2, 3: 1}
    assert found["classes"] == {"wall": 3, "floor": 2, "sky": 1}
    assert found["describers"] == {
        "api m-1": 2,
        "offline (measured, or by the small model that ships)": 1,
    }
    assert found["words"] == (2 * (4 + 3) + 6, 7)


def test_the_card():
    summary = ValidationSummary(15, 12, {"words_few": 12}, {"words_many": 1})
    example = CardExample(item_id="a_1", descriptions=["Texture of wall"], overlay="o.jpg")
    card = render_card(
        facts(
            validation=summary,
            settings={"MINER.EXTRACT.MODE": "texture"},
            examples=[example],
            notes=["Made for a test."],
        )
    )
    assert card.startswith("# A set\n\nImages with")
    assert "3 images, 7 regions, 2.33 an image" in card
    assert "- Made for a test." in card
    flat = " ".join(card.split())
    for row in (
        "| ade20k | 3 | BSD 3-clause |",
        "| score | 20 | 20.0% |",
        "| validate | 3 | 20.0% |",
        "| train | 2 |",
        "| wall | 3 |",
        "| rejected | a description is short | 12 |",
        "| MINER.EXTRACT.MODE | texture |",
    ):
        assert row in flat
    assert "7 descriptions, 2.9 words each." in card
    assert "### a_1\n\n![a_1](<o.jpg>)\n\n1. Texture of wall" in card
    assert render_card(facts()) == render_card(facts())


def test_texts_of_others_are_shown_as_they_are():
    hostile = "a | <script>alert(1)</script>\n# head `x`"
    card = render_card(
        CardFacts(
            title=hostile,
            sources=[CardSource(name=hostile, licence="", images=1)],
            examples=[
                CardExample(item_id=hostile, descriptions=[hostile * 99], overlay="a>\n<b.jpg")
            ],
        )
    )
    assert "<script>" not in card.replace(r"\<script\>", "")
    assert "\n# head" not in card
    assert "unknown: ask its makers" in card
    assert "](<a%3E%0A%3Cb.jpg>)" in card
    assert max(map(len, card.splitlines())) < 1500


def test_marks_at_the_beginning_make_no_blocks():
    texts = ["# x", "- x", "3. x", "12) x", "a. x", "3 x"]
    card = render_card(
        CardFacts(title="A", examples=[CardExample(item_id="a", descriptions=texts)])
    )
    assert [line.partition(" ")[2] for line in card.splitlines()[-6:]] == [
        r"\# x",
        r"\- x",
        r"3\. x",
        r"12\) x",
        "a. x",
        "3 x",
    ]


def test_an_empty_set():
    card = render_card(CardFacts(title="Nothing"))
    assert "0 images, 0 regions." in card
    assert "\n\n\n" not in card

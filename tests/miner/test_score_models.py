"""What models' answers do to the score: fusion, selection, rubrics, batches."""

import pytest

from detecture.config.sections.miner_stages import AskSettings
from detecture.errors import MinerError
from detecture.miner.score.batching import balanced_counts, balanced_subset, batch_numbers
from detecture.miner.score.fusion import Verdict, clip_percents, fuse, fused_score
from detecture.miner.score.generalized import (
    NATURAL_VIEWS,
    ULTRA_STRICT,
    Judged,
    SelectionModel,
    SelectionWeights,
    SemanticLimits,
    Semantics,
    beyond,
    fused_mean,
    judge,
    panoptic_semantics,
    soft_penalty,
    top_only,
)
from detecture.miner.score.rubric import (
    FLAGS,
    OverlayVerdict,
    count_in,
    decision_of,
    hard_rules,
    json_in,
    overlay_rubric,
    parse_verdict,
    rubric,
    yes_or_no,
)

close = pytest.approx
GOOD = {
    "real": True,
    "texture": True,
    "boundary": True,
    "object": False,
    "salient": False,
    "regions": 3,
}


def test_the_scale_of_clip():
    found = clip_percents([0, 0.05, 0.1, 0.15, 0.2])
    assert found == close([0, 22.2222, 50, 77.7778, 100], abs=1e-4)
    assert clip_percents([0.3, 0.3, None]) == [50, 50, None]
    assert clip_percents([None, None]) == [None, None]
    # Almost all equal: the quantiles are, the ends are not.
    assert clip_percents([0.0] * 30 + [1.0]) == [0.0] * 30 + [100.0]


@pytest.mark.parametrize(
    ("clip100", "verdict", "with_clip", "expected"),
    [
        (None, None, False, 80),
        (50, None, True, 77.6),
        (50, Verdict(score=90, decision="match"), True, 79.8),
        (
            50,
            Verdict(score=45, decision="not_match", flags=("no_clear_texture_boundary",)),
            True,
            73.3,
        ),
        (
            None,
            Verdict(
                score=40,
                decision="not_match",
                flags=("mosaic_or_collage", "synthetic_or_graphic"),
            ),
            False,
            66.0,
        ),
    ],
)
def test_published_fusion(clip100, verdict, with_clip, expected):
    found = fused_score(80, clip100, verdict, with_clip=with_clip, published=True)
    assert found == close(expected, abs=1e-9)


@pytest.mark.parametrize(("clip100", "base"), [(0, 75.2222), (50, 70.7778), (100, 66.3333)])
def test_the_published_penalty_of_a_missing_overlay(clip100, base):
    verdict = Verdict(score=45, decision="not_match", flags=("no_clear_texture_boundary",))
    assert fused_score(base, clip100, verdict, published=True) == close(65, abs=1e-4)


def test_a_row_that_was_published_with_models():
    verdict = Verdict(score=82, decision="match")
    assert fused_score(87.7507, 100, verdict, published=True) == close(90.616, abs=1e-3)


def test_published_flags_cost_without_a_score():
    verdict = Verdict(flags=("no_clear_texture_boundary",))
    assert fused_score(80, 50, verdict, published=True) == close(77.6 - 1.6)
    assert fused_score(80, 50, verdict) == fused_score(80, 50)


def test_what_is_missing_costs_nothing():
    assert fused_score(80) == 80
    assert fused_score(80, 80) == close(80)
    assert fused_score(80, None, Verdict(score=80)) == close(80)
    assert fused_score(80, 50) == close((0.90 * 80 + 0.08 * 50) / 0.98)
    assert fused_score(80, 50, Verdict(score=90, decision="match")) == close(79.8)


def test_fusion_touches_all_rows_alike():
    assert fuse([60.0, 80.0], [None, None], [None, None]) == [60, 80]
    fused = fuse([60.0, 60.0, 60.0], [0.1, 0.3, None], [None, None, None])
    assert fused[0] < fused[2] < fused[1]
    assert fuse([60.0], [None], [None], published=True) == [60]
    published = fuse([60.0, 60.0], [0.1, None], [None, None], published=True)
    assert published == close([0.92 * 60 + 4, 0.92 * 60])


def test_generalized_scores():
    strict = ULTRA_STRICT.weights
    assert fused_mean(90, 50, 80, strict) == close(82.4)
    assert fused_mean(90, 50, None, strict) == close(83.0)
    assert fused_mean(90, 50, 80, SelectionWeights()) == close(81.4)
    assert fused_mean(None, None, None, strict) == 0
    semantics = Semantics(
        thing=0.1, largest_thing=0.05, large_things=2, living=0.02, sky=0.2, built=0.1
    )
    assert soft_penalty(semantics, 0.03, strict) == close(18.7)
    assert soft_penalty(semantics, 0.03, SelectionWeights()) == close(8.92)
    assert soft_penalty(Semantics(), 0.0, strict) == 0


def test_a_sure_texture_has_a_bonus():
    found = judge(SelectionModel(), geometry=88.0)
    assert (found.score, found.selected, found.override) == (100, "selected", True)
    for more in (
        {"geometry": 87.9},
        {"geometry_object": 0.09},
        {"semantics": Semantics(thing=0.04)},
        {"semantics": Semantics(largest_thing=0.016)},
        {"semantics": Semantics(living=0.011)},
        {"verdict": Verdict(flags=("object_centric",))},
    ):
        assert not judge(SelectionModel(), **{"geometry": 88.0, **more}).override


@pytest.mark.parametrize(
    ("semantics", "veto"),
    [
        (Semantics(thing=0.36), "thing"),
        (Semantics(largest_thing=0.16), "largest_thing"),
        (Semantics(large_things=4), "large_things"),
        (Semantics(living=0.09), "living"),
    ],
)
def test_vetoes(semantics, veto):
    found = judge(SelectionModel(), geometry=100.0, semantics=semantics)
    assert (found.vetoes, found.selected) == ((veto,), "rejected")
    at_limit = judge(SelectionModel(), geometry=100.0, semantics=Semantics(thing=0.35))
    assert at_limit.vetoes == ()


def test_flags_veto_but_for_rare_images():
    salient = Verdict(score=96, decision="match", flags=("salient_semantic_subject",))
    assert judge(SelectionModel(), geometry=96.9, verdict=salient).vetoes == FLAGS[3:4]
    assert judge(SelectionModel(), geometry=97.0, verdict=salient).selected == "selected"
    crowded = Verdict(score=96, flags=("salient_semantic_subject", "too_many_objects"))
    assert judge(SelectionModel(), geometry=97.0, verdict=crowded).vetoes
    centric = Verdict(score=99, flags=("object_centric",))
    assert judge(SelectionModel(), geometry=99.0, verdict=centric).vetoes == ("object_centric",)


def test_a_match_may_be_required():
    model = SelectionModel(match_required=True, vlm_required=True)
    for decision, expected in (
        ("match", "selected"),
        ("borderline", "borderline"),
        ("not_match", "rejected"),
    ):
        verdict = Verdict(score=90, decision=decision)
        assert judge(model, geometry=95.0, verdict=verdict).selected == expected
    assert judge(model, geometry=95.0).vetoes == ("no VLM",)


def test_gates_mark_and_may_refuse():
    semantics = Semantics(thing=0.04, largest_thing=0.0, large_things=0, living=0.0)
    model = SelectionModel(gates=NATURAL_VIEWS.gates)
    marked = judge(model, geometry=95.0, semantics=semantics)
    assert (marked.gates, marked.selected) == (("thing",), "selected")
    refusing = SelectionModel(gates=NATURAL_VIEWS.gates, gates_refuse=True)
    assert judge(refusing, geometry=95.0, semantics=semantics).selected == "rejected"
    assert beyond(Semantics(), SemanticLimits()) == ()
    assert beyond(Semantics(), SemanticLimits(), missing_fails=True) == (
        "thing",
        "largest_thing",
        "large_things",
        "living",
    )


def test_the_best_alone():
    judged = [Judged(score=s, selected="selected") for s in (80.0, 90.0, 85.0)]
    judged.append(Judged(score=99.0, selected="rejected"))
    assert top_only(judged, 2) == [False, True, True, False]


def test_semantics_of_panoptic_segments():
    categories = {
        1: {"name": "person", "isthing": 1},
        2: {"name": "sky-other-merged", "isthing": 0},
        3: {"name": "building-other-merged", "isthing": 0},
        4: {"name": "cup", "isthing": 1},
        5: {"name": "house", "isthing": 0},
    }
    areas = {1: 100, 2: 300, 3: 200, 4: 4, 5: 396}
    segments = [{"category_id": c, "area": a} for c, a in areas.items()]
    found = panoptic_semantics(segments, categories)
    assert found == Semantics(
        thing=0.104, largest_thing=0.1, large_things=1, living=0.1, sky=0.3, built=0.596
    )
    assert panoptic_semantics([], categories) == Semantics()
    with pytest.raises(MinerError, match="category"):
        panoptic_semantics([{"category_id": 9, "area": 3}], categories)


def test_the_rubric():
    assert (rubric(GOOD).score, rubric(GOOD).decision, rubric(GOOD).flags) == (100, "match", ())
    assert rubric({}) == Verdict(score=50, decision="not_match")
    bad = {name: not answer for name, answer in GOOD.items()} | {"regions": 1}
    assert rubric(bad).score == 0
    assert rubric(bad).flags == (
        "mosaic_or_collage",
        "synthetic_or_graphic",
        "object_centric",
        "salient_semantic_subject",
        "no_clear_texture_boundary",
        "low_texture_content",
    )
    assert rubric({"regions": 5}) == Verdict(
        score=42, decision="not_match", flags=("too_many_objects",), reason="5 regions"
    )
    assert rubric(GOOD).reason.count(";") == 2


def test_a_salient_subject_overrules():
    verdict = rubric(GOOD | {"salient": True})
    assert verdict.score == 90
    assert verdict.flags == ("object_centric", "salient_semantic_subject")
    ruled = hard_rules(verdict, OverlayVerdict(), AskSettings.published())
    assert (ruled.score, ruled.decision) == (45, "not_match")
    forced = AskSettings(force_object=True, object_cap=55)
    ruled = hard_rules(verdict, OverlayVerdict(), forced)
    assert (ruled.score, ruled.decision) == (55, "not_match")


def test_the_rubric_of_overlays():
    found = overlay_rubric({"clear": True, "coarse": False, "regions": 3, "noisy": False})
    assert found == OverlayVerdict(score=74, passed=True)
    found = overlay_rubric({"clear": True, "coarse": True, "regions": 6, "noisy": False})
    assert found == OverlayVerdict(score=82, passed=True)
    assert overlay_rubric({"clear": False}) == OverlayVerdict(score=22, passed=False)


def test_overlays_overrule():
    verdict = Verdict(score=82, decision="match")
    rules = AskSettings.published()
    assert hard_rules(verdict, OverlayVerdict(score=70, passed=True), rules).score == 88
    failed = hard_rules(verdict, OverlayVerdict(score=40, passed=False), rules)
    assert (failed.score, failed.decision) == (31, "not_match")
    missing = hard_rules(verdict, OverlayVerdict(), rules)
    assert (missing.score, missing.decision) == (45, "not_match")
    assert failed.flags == missing.flags == ("no_clear_texture_boundary",)
    # Ours asks for an overlay only where there can be one.
    assert hard_rules(verdict, OverlayVerdict(), AskSettings()) == verdict
    assert hard_rules(Verdict(), OverlayVerdict(), rules) == Verdict()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("yes", True),
        ("Y", True),
        ("True.", True),
        ("Yes, it is", True),
        ("no", False),
        ("No people", False),
        ("false", False),
        ("I think yes", True),
        ("there is no wall", False),
        ("maybe yes, maybe no", None),
        ("perhaps", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_yes_or_no(answer, expected):
    assert yes_or_no(answer) is expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("3", 3), ("about 12 regions", 12), ("two or three", 2), ("Five.", 5), ("six", None)],
)
def test_counts(answer, expected):
    assert count_in(answer) == expected


def test_verdicts_in_words():
    answer = 'Sure!\n```json\n{"score": 104.4, "decision": "wow", "flags": ["x", "object_centric"]}'
    found = parse_verdict(answer + "\n``` bye")
    assert found == Verdict(score=100, decision="match", flags=("object_centric",))
    assert parse_verdict('{"score": 61}').decision == "borderline"
    assert decision_of(59) == "not_match"
    for bad in ("", "} {", "no", '{"score": "high"}', '{"score": true}', '{"score": NaN}'):
        with pytest.raises(MinerError):
            parse_verdict(bad)
    with pytest.raises(MinerError):
        json_in("{" * 50_000 + "}")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([3, 3, 3], [0, 1, 2]), ([2, 2, 2], [0, 0, 1]), ([10, 1], [0, 1]), ([], [])],
)
def test_batches(sizes, expected):
    assert batch_numbers(sizes, 5) == expected


def test_a_balanced_subset():
    assert balanced_counts(20, 10, 1000, 100) == [20, 10, 70]
    assert balanced_counts(1000, 1000, 1000, 100) == [35, 25, 40]
    assert balanced_counts(1, 1, 1, 100) == [1, 1, 1]
    assert balanced_counts(50, 0, 3, 20) == [17, 0, 3]
    # 35 are missing: 15 each until the borderline ones are all in, and 5 more of the selected.
    assert balanced_counts(200, 40, 5, 100) == [55, 40, 5]
    scores = {f"i{n:03}": float(n) for n in range(100)}
    statuses = {
        name: "selected" if s >= 80 else "borderline" if s >= 70 else "rejected"
        for name, s in scores.items()
    }
    chosen = balanced_subset(scores, statuses, 20)
    assert chosen == balanced_subset(scores, statuses, 20)
    assert len(set(chosen)) == 20
    assert chosen == sorted(chosen, reverse=True)
    selected = [n for n in chosen if statuses[n] == "selected"]
    assert selected == [f"i{n:03}" for n in range(99, 92, -1)]
    rejected = [n for n in chosen if statuses[n] == "rejected"]
    assert rejected[:4] == ["i069", "i068", "i067", "i066"]
    assert rejected != balanced_subset(scores, statuses, 20, seed=1)[-8:]

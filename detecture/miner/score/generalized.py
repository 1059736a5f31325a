"""Selection where there are things to be counted: COCO's panoptic annotations and the like."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from detecture.errors import MinerError, brief
from detecture.miner.score.fusion import Verdict

LIVING_AND_VEHICLES = frozenset(
    {
        *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
        *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    }
)
"""COCO's 19 classes of people, vehicles and animals."""

_LARGE_THING = 0.005  # share of the image from which a thing is large


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """Shares of an image; None where they are not known.

    Attributes:
        thing: of all things.
        largest_thing: of the largest one.
        large_things: number of things above half a percent.
        living: of people, vehicles and animals.
        sky: of sky.
        built: of buildings.
    """

    thing: float | None = None
    largest_thing: float | None = None
    large_things: int | None = None
    living: float | None = None
    sky: float | None = None
    built: float | None = None


@dataclass(frozen=True, kw_only=True)
class SelectionWeights:
    """Of the fused score, and of what is taken off it; by the names of `Semantics`."""

    geometry: float = 0.62
    clip: float = 0.16
    vlm: float = 0.22
    thing: float = 28.0
    largest_thing: float = 36.0
    living: float = 42.0
    geometry_object: float = 16.0
    large_things: float = 3.0
    sky: float = 0.0
    built: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SemanticLimits:
    """Beyond any of them an image is refused; None: no limit."""

    thing: float | None = 0.35
    largest_thing: float | None = 0.15
    large_things: int | None = 3
    living: float | None = 0.08
    sky: float | None = None
    built: float | None = None


@dataclass(frozen=True, kw_only=True)
class SelectionModel:
    """The generalized model of selection.

    Attributes:
        weights: see `SelectionWeights`.
        veto: see `SemanticLimits`.
        veto_flags: flags of a VLM that refuse an image, beside `object_centric`.
        selected_min: score from which an image is selected.
        borderline_min: the same for borderline.
        match_required: what a VLM has judged is selected only as a match, and borderline only if
            it is not the contrary.
        vlm_required: an image without a VLM's score is refused.
        gates: limits that mark an image; None: none.
        gates_refuse: they refuse it, too.
        gates_missing_fails: shares that are not known fail their gate.
    """

    weights: SelectionWeights = SelectionWeights()
    veto: SemanticLimits = SemanticLimits()
    veto_flags: tuple[str, ...] = ("salient_semantic_subject",)
    selected_min: float = 80.0
    borderline_min: float = 70.0
    match_required: bool = False
    vlm_required: bool = False
    gates: SemanticLimits | None = None
    gates_refuse: bool = False
    gates_missing_fails: bool = False


ULTRA_STRICT = SelectionModel(
    weights=SelectionWeights(
        geometry=0.66,
        clip=0.14,
        vlm=0.20,
        thing=24.0,
        largest_thing=30.0,
        living=34.0,
        geometry_object=14.0,
        large_things=2.5,
        sky=45.0,
        built=22.0,
    ),
    selected_min=85.0,
    borderline_min=74.0,
    gates=SemanticLimits(),
)
"""The published profile for COCO's objects."""

NATURAL_VIEWS = SelectionModel(
    weights=SelectionWeights(
        geometry=0.05,
        clip=0.15,
        vlm=0.80,
        thing=12.0,
        largest_thing=16.0,
        living=22.0,
        geometry_object=5.0,
        large_things=2.0,
        sky=2.0,
        built=45.0,
    ),
    veto=SemanticLimits(thing=0.03, largest_thing=0.02, large_things=1, living=0.01, built=0.08),
    selected_min=72.0,
    borderline_min=60.0,
    match_required=True,
    gates=SemanticLimits(thing=0.03, largest_thing=0.02, large_things=1, living=0.01),
    gates_refuse=True,
)
"""The published profile for landscapes."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the model says of an image.

    Attributes:
        score: 0 to 100.
        selected: `selected`, `borderline` or `rejected`.
        vetoes: what refused it.
        gates: gates that it fails.
        override: whether the bonus of a sure texture was given.
    """

    score: float
    selected: str
    vetoes: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    override: bool = False


def fused_mean(
    geometry: float | None, clip100: float | None, vlm: float | None, weights: SelectionWeights
) -> float:
    """The weighted mean of the scores that are there, 0 without any."""
    parts = ((weights.geometry, geometry), (weights.clip, clip100), (weights.vlm, vlm))
    known = [(weight, value) for weight, value in parts if value is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / total if total > 0 else 0.0


def soft_penalty(semantics: Semantics, geometry_object: float, weights: SelectionWeights) -> float:
    """What things, sky and buildings cost; what is not known costs nothing.

    Args:
        semantics: of the image.
        geometry_object: share of objects by the geometry.
        weights: of each share.
    """
    return (
        weights.thing * (semantics.thing or 0.0)
        + weights.largest_thing * (semantics.largest_thing or 0.0)
        + weights.living * (semantics.living or 0.0)
        + weights.geometry_object * geometry_object
        + weights.large_things * max(0, (semantics.large_things or 0) - 1)
        + weights.sky * (semantics.sky or 0.0)
        + weights.built * (semantics.built or 0.0)
    )


def is_sure_texture(
    semantics: Semantics, geometry: float, geometry_object: float, flags: Collection[str]
) -> bool:
    """Whether an image has a bonus: excellent geometry, and next to no things."""
    return (
        geometry >= 88
        and (semantics.thing or 0.0) <= 0.03
        and (semantics.largest_thing or 0.0) <= 0.015
        and (semantics.living or 0.0) <= 0.01
        and geometry_object <= 0.08
        and "object_centric" not in flags
    )


def beyond(
    semantics: Semantics, limits: SemanticLimits, missing_fails: bool = False
) -> tuple[str, ...]:
    """Names of the limits that an image is beyond."""
    failed = []
    for limit in fields(SemanticLimits):
        most, value = getattr(limits, limit.name), getattr(semantics, limit.name)
        if most is None:
            continue
        if missing_fails if value is None else value > most:
            failed.append(limit.name)
    return tuple(failed)


def judge(
    model: SelectionModel,
    *,
    geometry: float | None,
    clip100: float | None = None,
    verdict: Verdict | None = None,
    semantics: Semantics | None = None,
    geometry_object: float = 0.0,
) -> Judged:
    """Select an image, or not.

    Args:
        model: of selection.
        geometry: s_geom, or s_A where no image has one.
        clip100: of `fusion.clip_percents`.
        verdict: of the VLM.
        semantics: of the image's panoptic annotation.
        geometry_object: share of objects by the geometry.
    """
    semantics, verdict = semantics or Semantics(), verdict or Verdict()
    flags, sure = verdict.flags, geometry or 0.0
    override = is_sure_texture(semantics, sure, geometry_object, flags)
    score = fused_mean(geometry, clip100, verdict.score, model.weights)
    score -= soft_penalty(semantics, geometry_object, model.weights)
    score = min(100.0, max(0.0, score + (18.0 if override else 0.0)))

    listed = [flag for flag in model.veto_flags if flag in flags]
    rare = (
        bool(listed)
        and (verdict.score or 0) >= 96
        and sure >= 97
        and geometry_object <= 0.01
        and "too_many_objects" not in flags
    )
    raised = [*(["object_centric"] if "object_centric" in flags else []), *listed]
    vetoes = () if rare else (*beyond(semantics, model.veto), *dict.fromkeys(raised))
    if model.vlm_required and verdict.score is None:
        vetoes = (*vetoes, "no VLM")
    gates = beyond(semantics, model.gates, model.gates_missing_fails) if model.gates else ()

    judged = verdict.score is not None and model.match_required
    refused = bool(vetoes) or (bool(gates) and model.gates_refuse)
    selected = "rejected"
    if not refused and score >= model.selected_min and not (judged and verdict.decision != "match"):
        selected = "selected"
    elif not refused and score >= model.borderline_min:
        selected = "rejected" if judged and verdict.decision == "not_match" else "borderline"
    return Judged(score=score, selected=selected, vetoes=vetoes, gates=gates, override=override)


def top_only(judged: Sequence[Judged], most: int) -> list[bool]:
    """Which of the selected images are among the `most` best; earlier ones first where equal."""
    order = sorted(
        (i for i, found in enumerate(judged) if found.selected == "selected"),
        key=lambda i: (-judged[i].score, i),
    )
    kept = set(order[:most])
    return [i in kept for i in range(len(judged))]


def panoptic_semantics(
    segments: Iterable[Mapping[str, Any]],
    categories: Mapping[int, Mapping[str, Any]],
    built_names: Collection[str] = ("house", "roof", "bridge", "skyscraper"),
) -> Semantics:
    """Shares out of COCO's panoptic annotation, of the sum of the areas of its segments.

    Args:
        segments: the `segments_info` of an image.
        categories: those of the file, by id: `name` and `isthing`.
        built_names: classes that are built, beside those with "building" in their name.

    Raises:
        MinerError: a segment has no area or no category.
    """
    things: list[float] = []
    total = living = sky = built = 0.0
    for segment in segments:
        area, category = segment.get("area"), categories.get(segment.get("category_id", -1))
        if isinstance(area, bool) or not isinstance(area, (int, float)) or category is None:
            raise MinerError(
                f"the segment {brief(dict(segment))} has no area, or a category that the file does "
                "not list; take the panoptic JSON of the release"
            )
        name = str(category.get("name", "")).lower()
        total += area
        things += [float(area)] if category.get("isthing") else []
        living += area if name in LIVING_AND_VEHICLES else 0.0
        sky += area if "sky" in name else 0.0
        built += area if "building" in name or _plain(name) in built_names else 0.0
    if total <= 0:
        return Semantics()
    return Semantics(
        thing=sum(things) / total,
        largest_thing=max(things, default=0.0) / total,
        large_things=sum(area / total > _LARGE_THING for area in things),
        living=living / total,
        sky=sky / total,
        built=built / total,
    )


def _plain(name: str) -> str:
    """A class's name without COCO's endings."""
    for ending in ("-merged", "-other"):
        name = name.removesuffix(ending)
    return name

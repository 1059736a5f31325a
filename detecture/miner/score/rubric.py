"""What a VLM is asked about an image, and how its answers become a score.

The questions are those of a small question-answering model, one short answer each; a VLM that
chats answers all at once, in JSON.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from detecture.config.sections.miner_stages import AskSettings
from detecture.errors import MinerError
from detecture.miner.score.fusion import Verdict
from detecture.untrusted import parse_json

FLAGS = (
    "mosaic_or_collage",
    "synthetic_or_graphic",
    "object_centric",
    "salient_semantic_subject",
    "too_many_objects",
    "no_clear_texture_boundary",
    "low_texture_content",
    "text_overlay_or_ui",
)
"""Flags of a verdict."""

DECISIONS = ("match", "borderline", "not_match")

QUESTIONS = {
    "real": "Is this a real photograph?",
    "texture": "Is most of this image covered by material surfaces or textures?",
    "boundary": "Is there a clear boundary between two different textures?",
    "object": "Is there a single dominant object in this image?",
    "salient": "Are there prominent people, animals or vehicles in this image?",
    "regions": "How many large texture regions are in this image?",
}
"""Of the image; all but the last take yes or no, the last a number."""

OVERLAY_QUESTIONS = {
    "clear": "Do the drawn boundaries follow clear changes of material?",
    "coarse": "Are the drawn regions large and coherent?",
    "regions": "How many large regions are drawn?",
    "noisy": "Are the drawn boundaries noisy or fragmented?",
}
"""Of the image with its regions' boundaries drawn in."""

SYSTEM = "You look at images and answer questions about them, in JSON and nothing else."
"""Said to a VLM before the questions."""

_NUMBER = "regions"  # the question that takes a number; the others take yes or no
_START = 50
_YES = frozenset({"yes", "y", "true", "yeah", "yep", "correct"})
_NO = frozenset({"no", "n", "false", "nope", "not"})
_NUMBERS = ("one", "two", "three", "four", "five")
_MATCH, _BORDERLINE = 80, 60  # scores from which a decision is derived
_MOST_LETTERS = 20_000  # of an answer

# Of each question: points, words and flags of a yes, and of a no.
_Effect = tuple[int, str, tuple[str, ...]]
_EFFECTS: dict[str, tuple[_Effect, _Effect]] = {
    "real": (
        (10, "real photograph", ()),
        (-35, "not a real photograph", ("mosaic_or_collage", "synthetic_or_graphic")),
    ),
    "texture": (
        (22, "mostly texture", ()),
        (-24, "little texture", ("low_texture_content",)),
    ),
    "boundary": (
        (20, "clear boundary", ()),
        (-20, "no clear boundary", ("no_clear_texture_boundary",)),
    ),
    "object": (
        (-30, "a single dominant object", ("object_centric",)),
        (10, "no dominant object", ()),
    ),
    "salient": (
        (-34, "people, animals or vehicles", ("salient_semantic_subject", "object_centric")),
        (4, "no salient subject", ()),
    ),
}


@dataclass(frozen=True, kw_only=True)
class OverlayVerdict:
    """What a VLM says of the drawn regions.

    Attributes:
        score: 0 to 100; None where there was nothing to look at.
        passed: whether the score is enough; None likewise.
    """

    score: int | None = None
    passed: bool | None = None


def form_of(questions: Mapping[str, str]) -> str:
    """The text that asks all questions at once.

    Args:
        questions: by their names, as `QUESTIONS`.
    """
    listed = "\n".join(f"{name}: {question}" for name, question in questions.items())
    form = ", ".join(
        f'"{name}": {"<number>" if name == _NUMBER else "<yes or no>"}' for name in questions
    )
    return f"{listed}\n\nAnswer with this JSON object and nothing else: {{{form}}}"


def answers_in(answer: str, questions: Mapping[str, str]) -> dict[str, bool | int | None]:
    """What a VLM has answered to `form_of`: None to a question whose answer says nothing.

    Args:
        answer: its words.
        questions: that it was asked, by their names.

    Raises:
        MinerError: there is no JSON object in it, or it answers no question.
    """
    content = json_in(answer)
    found: dict[str, bool | int | None] = {}
    for name in questions:
        given = content.get(name)
        if isinstance(given, bool) and name != _NUMBER:
            found[name] = given
        else:
            words = "" if given is None else str(given)
            found[name] = count_in(words) if name == _NUMBER else yes_or_no(words)
    if all(value is None for value in found.values()):
        raise MinerError("the answer says nothing to any question; take another model")
    return found


def yes_or_no(answer: str) -> bool | None:
    """What a short answer says; None where it says neither, or both."""
    words = re.findall(r"[a-z]+", answer[:_MOST_LETTERS].lower())
    if not words:
        return None
    if words[0] in _YES:
        return True
    if words[0] in _NO:
        return False
    found = {word for word in words if word in ("yes", "no")}
    return None if len(found) != 1 else found == {"yes"}


def count_in(answer: str) -> int | None:
    """The first number of an answer, in digits or, without any, as a word up to five."""
    answer = answer[:_MOST_LETTERS].lower()
    if found := re.search(r"\d{1,6}", answer):
        return int(found[0])
    words = re.findall(r"[a-z]+", answer)
    return next((_NUMBERS.index(word) + 1 for word in words if word in _NUMBERS), None)


def rubric(answers: Mapping[str, bool | int | None]) -> Verdict:
    """The verdict on an image by the answers to `QUESTIONS`; an unknown answer changes nothing.

    Args:
        answers: by the names of the questions; `regions` is a number.
    """
    points = _START
    reasons: list[str] = []
    flags: list[str] = []
    for name, (yes, no) in _EFFECTS.items():
        if (answer := answers.get(name)) is not None:
            more, reason, raised = yes if answer else no
            points += more
            reasons.append(reason)
            flags += raised
    if (regions := answers.get("regions")) is not None:
        points += _by_count(regions, few=-10, some=12, many=-8)
        reasons.append(f"{int(regions)} regions")
        flags += ["too_many_objects"] if regions >= 5 else []
    score = min(100, max(0, points))
    return Verdict(
        score=score,
        decision=decision_of(score),
        flags=known_flags(flags),
        reason="; ".join(reasons[:3]),
    )


def overlay_rubric(
    answers: Mapping[str, bool | int | None], rules: AskSettings | None = None
) -> OverlayVerdict:
    """The verdict on drawn regions by the answers to `OVERLAY_QUESTIONS`."""
    points = _START
    for name, yes, no in (("clear", 22, -28), ("coarse", 16, -20), ("noisy", -14, 6)):
        if (answer := answers.get(name)) is not None:
            points += yes if answer else no
    if (regions := answers.get("regions")) is not None:
        points += _by_count(regions, few=-14, some=16, many=-12)
    score = min(100, max(0, points))
    return OverlayVerdict(score=score, passed=score >= (rules or AskSettings()).overlay_min)


def hard_rules(verdict: Verdict, overlay: OverlayVerdict, rules: AskSettings) -> Verdict:
    """A verdict after the hard rules, of which the first that applies counts."""
    score = verdict.score
    if score is None:
        return verdict
    if "object_centric" in verdict.flags and rules.force_object:
        return replace(verdict, score=min(score, rules.object_cap), decision="not_match")
    if "salient_semantic_subject" in verdict.flags and rules.force_salient:
        return replace(verdict, score=min(score, rules.salient_cap), decision="not_match")
    unclear = known_flags([*verdict.flags, "no_clear_texture_boundary"])
    if overlay.passed is False:
        score = max(0, min(score, rules.fail_cap) - rules.fail_penalty)
        return replace(verdict, score=score, decision="not_match", flags=unclear)
    if overlay.passed is None and rules.overlay_required:
        score = min(score, rules.missing_cap)
        return replace(verdict, score=score, decision="not_match", flags=unclear)
    if overlay.passed:
        return replace(verdict, score=min(100, score + rules.bonus))
    return verdict


def decision_of(score: int) -> str:
    """The decision that a score stands for."""
    if score >= _MATCH:
        return "match"
    return "borderline" if score >= _BORDERLINE else "not_match"


def known_flags(flags: Iterable[Any]) -> tuple[str, ...]:
    """Those of `FLAGS` that are given, each once, in the order of the table."""
    given = {flag for flag in flags if isinstance(flag, str)}
    return tuple(flag for flag in FLAGS if flag in given)


def parse_verdict(answer: str) -> Verdict:
    """The verdict in a chat's answer: JSON, perhaps with words around it.

    Its score is rounded and clamped; unknown decisions and flags are dropped, and a missing
    decision is derived from the score.

    Raises:
        MinerError: there is no JSON object in it, or it has no score.
    """
    content = json_in(answer)
    score = content.get("score", content.get("score_0_100"))
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise MinerError("the answer has no score; ask again, or take another model")
    points = min(100, max(0, round(score)))
    decision = content.get("decision")
    flags, reason = content.get("flags"), content.get("reason")
    return Verdict(
        score=points,
        decision=decision if decision in DECISIONS else decision_of(points),
        flags=known_flags(flags if isinstance(flags, list) else []),
        reason=reason[:500] if isinstance(reason, str) else "",
    )


def json_in(answer: str) -> dict[str, Any]:
    """The JSON object of an answer, from its first `{` to its last `}`.

    Raises:
        MinerError: there is none.
    """
    start, end = answer.find("{"), answer.rfind("}")
    if start < 0 or end < start or end - start > _MOST_LETTERS:
        raise MinerError("the answer holds no JSON object; ask again, or take another model")
    content = parse_json(answer[start : end + 1], "the answer", MinerError)
    if not isinstance(content, dict):
        raise MinerError("the answer is no JSON object; ask again, or take another model")
    return content


def _by_count(count: int, *, few: int, some: int, many: int) -> int:
    return few if count <= 1 else some if count <= 4 else many

"""The stage `fuse`, as `detecture.miner.stages` calls it: scores with the models' part in them.

Legend: N number of images that CLIP has seen, P number of its positive queries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detecture.config.sections.miner_stages import ClipScoreSettings, ScoreSettings
from detecture.miner.journal import OK
from detecture.miner.score.clip import ClipScores
from detecture.miner.score.fusion import Verdict, clip_percents, fuse
from detecture.miner.score.generalized import (
    NATURAL_VIEWS,
    ULTRA_STRICT,
    SelectionModel,
    Semantics,
    judge,
)
from detecture.miner.score.review import selection_of
from detecture.miner.score.settings import as_published
from detecture.miner.stage import Context, Earlier, Task, WholeFunction

_MODELS = {
    "generalized": SelectionModel(),
    "ultra_strict": ULTRA_STRICT,
    "natural_views": NATURAL_VIEWS,
}


def make(context: Context) -> WholeFunction:
    """Scores of all items at once, as the scale of CLIP's scores is that of all of them."""
    settings = ScoreSettings.from_config(context.cfg)
    model = _MODELS.get(settings.selection)

    def fuse_all(tasks: Sequence[Task]) -> Mapping[str, dict[str, Any]]:
        percents = clip_percents([_clip_score(task.earlier) for task in tasks])
        if model is not None:
            found = [
                _judged(task.earlier, model, percent)
                for task, percent in zip(tasks, percents, strict=True)
            ]
        else:
            found = _fused(tasks, settings)
        passed = _passed_clip(tasks, ClipScoreSettings.from_config(context.cfg))
        return {
            task.item.item_id: {
                "status": OK,
                "base": float(task.earlier["score"]["review"]),
                "clip100": percent,
                **({"clip_passes": passed[i]} if i in passed else {}),
                **result,
            }
            for i, (task, percent, result) in enumerate(zip(tasks, percents, found, strict=True))
        }

    return fuse_all


def _fused(tasks: Sequence[Task], settings: ScoreSettings) -> list[dict[str, Any]]:
    """The review scores with the models' part in them."""
    bases = [float(task.earlier["score"]["review"]) for task in tasks]
    clip = [_clip_score(task.earlier) for task in tasks]
    verdicts = [_verdict(task.earlier) for task in tasks]
    fused = fuse(bases, clip, verdicts, published=as_published(settings))
    return [{"review": score, "selected": selection_of(score, settings)} for score in fused]


def _passed_clip(tasks: Sequence[Task], settings: ClipScoreSettings) -> dict[int, bool]:
    """By the places of the tasks that CLIP has seen: whether they pass it."""
    seen = {i: task.earlier.get("clip", {}) for i, task in enumerate(tasks)}
    seen = {i: result for i, result in seen.items() if result.get("status") == OK}
    if not seen:
        return {}
    cosines_NP = np.array([result["positives"] for result in seen.values()])
    negatives_N = np.array([result["negative"] for result in seen.values()])
    scores = ClipScores(cosines_NP, negatives_N, settings.alpha)
    passed_N = scores.passes(settings.threshold, settings.top_k)
    return {i: bool(passed) for i, passed in zip(seen, passed_N, strict=True)}


def _judged(earlier: Earlier, model: SelectionModel, clip100: float | None) -> dict[str, Any]:
    """What the generalized model says of an image."""
    score = earlier["score"]
    found = judge(
        model,
        geometry=float(score["s_geom"]),
        clip100=clip100,
        verdict=_verdict(earlier),
        semantics=Semantics(**score.get("semantics", {})),
        geometry_object=float(score["statistics"]["object_fraction"]),
    )
    return {
        "review": found.score,
        "selected": found.selected,
        "vetoes": list(found.vetoes),
        "gates": list(found.gates),
    }


def _clip_score(earlier: Earlier) -> float | None:
    return earlier.get("clip", {}).get("score")


def _verdict(earlier: Earlier) -> Verdict | None:
    said = earlier.get("ask", {})
    if said.get("status") != OK:
        return None
    return Verdict(
        score=said["score"],
        decision=said["decision"],
        flags=tuple(said["flags"]),
        reason=said["reason"],
    )

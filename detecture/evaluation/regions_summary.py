"""From records of region measures to the summary of a data set.

Legend: N images, S scales.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detecture.checkpoint.json_files import finite_number
from detecture.errors import brief
from detecture.evaluation.records import FAILED_STATUSES, Record
from detecture.evaluation.summary import bootstrap_intervals

MEASURES = ("covering", "PRI", "VI")

WAYS = ("", "_parts")
"""Endings of names: regions as given, and each of their connected parts as a region."""

COLUMNS = tuple(f"{name}{way}" for way in WAYS for name in (*MEASURES, "regions"))
"""Numbers of each image, and of each of its cuts; `regions` is how many there are."""

_BEST = tuple(f"{name}{way}" for way in WAYS for name in MEASURES)

REGION_METRICS = frozenset(
    (*COLUMNS, *(f"{name}_{which}" for name in _BEST for which in ("ODS", "OIS")))
) | {"n_total", "n_ok", "n_measured"}
"""Names of all numbers that a summary may hold."""

_MOST_BITS = 64.0


def summarize_regions(records: Sequence[Record], bootstrap_samples: int) -> dict[str, Any]:
    """Summary of all samples of a data set.

    Args:
        records: one per sample, with `COLUMNS`, `human`, and where there are any `cuts`.
        bootstrap_samples: resamples of the images behind each interval.

    Returns:
        The means of `COLUMNS` over the images whose truth could be read, `n_measured`; `human`, the
        agreement of people, over the images with two annotators or more; with cuts `<name>_ODS`, at
        the one scale that is best for the set, and `<name>_OIS`, at the best scale of each image,
        `ODS_scales` and `by_scale`; without, `no_ODS` says why if some have cuts; `ci95`: name ->
        [low, high], percentile bootstrap over images (that of ODS at its scale); `n_total`, `n_ok`,
        `statuses`.
    """
    summary: dict[str, Any] = {
        "n_total": len(records),
        "n_ok": sum(record["status"] == "ok" for record in records),
        "statuses": dict(sorted(Counter(record["status"] for record in records).items())),
    }
    measured = [record for record in records if record["covering"] is not None]
    summary["n_measured"] = len(measured)
    if not measured:
        return summary
    columns = {name: _column(measured, name) for name in COLUMNS}
    best, told = _best_scales(measured)
    columns |= best
    summary |= {name: float(column.mean()) for name, column in columns.items()}
    summary["human"] = _human(measured, bootstrap_samples)
    summary |= told
    summary["ci95"] = bootstrap_intervals(columns, bootstrap_samples)
    return summary


def _column(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """The values of a name, (N,)."""
    return np.array([record[name] for record in records], dtype=np.float64)


def _human(records: Sequence[Record], bootstrap_samples: int) -> dict[str, Any] | None:
    """Mean agreement of people, over the images for which it is known."""
    found = [record["human"] for record in records if record["human"] is not None]
    if not found:
        return None
    columns = {name: _column(found, name) for name in (*MEASURES, "regions")}
    means = {name: float(column.mean()) for name, column in columns.items()}
    ci95 = bootstrap_intervals(columns, bootstrap_samples)
    return {**means, "ci95": ci95, "images": len(found)}


def _best_scales(records: Sequence[Record]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Columns (N,) of ODS and OIS, and what else is reported; nothing where no answer has cuts.

    An image on which the method failed counts at every scale as it does without cuts.
    """
    answers = [record for record in records if record["status"] not in FAILED_STATUSES]
    scales = {tuple(cut["scale"] for cut in record.get("cuts", ())) for record in answers}
    if not scales or scales == {()}:
        return {}, {}
    if len(scales) > 1:
        without = sum("cuts" not in record for record in answers)
        why = f"{without} of {len(answers)} answers have none" if without else "their scales differ"
        return {}, {"no_ODS": f"there are cuts, but {why}"}
    (found,) = scales
    columns, at = {}, {}
    values = {
        name: np.array(
            [
                [cut[name] for cut in record["cuts"]]
                if "cuts" in record
                else [record[name]] * len(found)
                for record in records
            ],
            dtype=np.float64,
        )
        for name in COLUMNS
    }
    for name in _BEST:
        sign = -1.0 if name.startswith("VI") else 1.0
        values_NS = values[name]
        best = int(np.argmax(sign * values_NS.mean(axis=0)))  # the coarsest of equal ones
        columns[f"{name}_ODS"] = values_NS[:, best]
        columns[f"{name}_OIS"] = sign * (sign * values_NS).max(axis=1)
        at[name] = found[best]
    by_scale = [
        {"scale": scale, **{name: float(values[name][:, i].mean()) for name in COLUMNS}}
        for i, scale in enumerate(found)
    ]
    return columns, {"ODS_scales": at, "by_scale": by_scale}


def unsummarizable(record: Mapping[str, Any]) -> str:
    """What keeps a record out of a summary; empty if nothing does."""
    is_measured = record.get("covering") is not None
    if is_measured:
        if problem := _problem(record, COLUMNS):
            return problem
    elif any(record.get(name) is not None for name in COLUMNS):
        return "it has some of its numbers alone"
    human = record.get("human")
    if human is not None:
        if not isinstance(human, dict):
            return "human is no object"
        if problem := _problem(human, (*MEASURES, "regions")):
            return f"human: {problem}"
    cuts = record.get("cuts", [])
    if not isinstance(cuts, list) or ("cuts" in record and not (cuts and is_measured)):
        return "cuts is no list"
    for cut in cuts:
        if not isinstance(cut, dict) or finite_number(cut.get("scale")) is None:
            return "a cut has no scale"
        if problem := _problem(cut, COLUMNS):
            return f"a cut: {problem}"
    hint = record.get("k_hint")
    if not isinstance(hint, dict) or not isinstance(hint.get("kind"), str):
        return "k_hint is no hint"
    return ""


def _problem(values: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        number = finite_number(values.get(name))
        kind = name.removesuffix(WAYS[1])
        most = {"VI": _MOST_BITS, "regions": float("inf")}.get(kind, 1.0 + 1e-6)
        if number is None or not -1e-6 <= number <= most:
            return f"{name} is {brief(values.get(name))[:40]}, no {kind}"
    return ""

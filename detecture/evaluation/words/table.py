"""The report of `evaluate_words` as text."""

from collections.abc import Iterator
from typing import Any

from detecture.evaluation.summary import interval_text

_ATTRIBUTE_HEAD = (
    f"{'attribute':<22}{'precision':<24}{'recall':<24}{'claims':>7}"
    f"{'true sentences':>16}{'moved':>13}"
)


def format_words(report: dict[str, Any]) -> str:
    """Tables of all parts of a report that there are, and why the others are not."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    said = "its own sentences" if report["sentences"] == "generated" else "the TRUE sentences"
    yield (
        f"{report['method'] or 'unknown method'} on {report['dataset']}: {said}, "
        f"{report['n_with_sentences']:,} of {report['n_images']:,} images have any; K known: "
        f"{report['k_knowledge']}"
    )
    regions = report["regions"]
    yield ", ".join(
        f"{name} {_with_interval(regions[name], regions['ci95'][name])}"
        for name in ("pIoU", "K_accuracy")
    )
    if report["attributes"]:
        yield ""
        yield _ATTRIBUTE_HEAD
        for name, row in report["attributes"].items():
            yield (
                f"{name:<22}"
                f"{_with_interval(row['precision'], row['ci95']['precision']):<24}"
                f"{_with_interval(row['recall'], row['ci95']['recall']):<24}"
                f"{row['claims']:>7,}"
                f"{_number(row['recall_of_true_sentences']):>16}"
                f"{_number(row['precision_rotated']):>6}/{_number(row['recall_rotated'])}"
            )
        yield "true sentences: recall of the generator's own, which do not name everything"
        yield "moved: precision/recall of the same sentences, each at the next region"
    for name, how in (
        ("matching", "two-way matching"),
        ("matching_checked", "the same, published sentences at the masks they are of"),
    ):
        part = report[name]
        if not part:
            continue
        yield ""
        yield (
            f"{how}: {_with_interval(part['accuracy'], part['ci95'])}, chance .500; "
            f"{part['n_images']:,} images, {part['n_ties']} ties, {part['n_incomplete']} "
            "without both sentences"
        )
    if report["agreement"]:
        yield ""
        for name in ("color", "color (basic)", "position"):
            part = report["agreement"][name]
            yield (
                f"{name} words that agree with the image: "
                f"{_with_interval(part['share'], part['ci95'])} of {part['claims']:,}; at the next "
                f"region {_number(part['share_of_rotated'])}"
            )
    form = report["form"]
    yield ""
    yield "images whose sentences are all: " + ", ".join(
        f"{name} {_with_interval(form[key], form['ci95'][key])}"
        for key, name in (
            ("distinct", "distinct"),
            ("length", "of 8-16 words"),
            ("whole", "unbroken"),
            ("all", "all three"),
        )
    )
    sentences = form["sentences"]
    why = ", ".join(f"{reason} {count:,}" for reason, count in sentences["why_broken"].items())
    yield (
        f"of {sentences['n']:,} sentences {_number(sentences['broken'])} are broken"
        + (f" ({why})" if why else "")
        + f"; {sentences['mean_words']:.1f} words on average"
    )
    for name, reason in report["left_out"].items():
        yield f"{name}: not measured: {reason}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: list[float] | None) -> str:
    return "-" if value is None else f"{value:.3f} {interval_text(interval, 3)}"

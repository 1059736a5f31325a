"""The data card: what is in a mined set, where it comes from, and how it came to be. Markdown."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate

from detecture import __version__
from detecture.benchmark.markdown import escape_markdown
from detecture.miner.validate import NAMES, ValidationSummary

_MOST_LETTERS = 300
_MOST_CLASSES = 30
_BLOCK_MARK = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[#+=~-]))")


@dataclass(frozen=True, kw_only=True)
class CardSource:
    """Where images come from.

    Attributes:
        name: of the source.
        licence: of its images and annotations.
        images: how many of its images are in the set.
    """

    name: str
    licence: str
    images: int


@dataclass(frozen=True, kw_only=True)
class CardExample:
    """One image of the set.

    Attributes:
        item_id: of it.
        descriptions: of its regions.
        overlay: path of its overlay, relative to the card; empty where none is shown.
    """

    item_id: str
    descriptions: Sequence[str]
    overlay: str = ""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says.

    Attributes:
        title: of the set.
        sources: of the images.
        funnel: stage -> images that passed it, from the first to the last.
        splits: split -> images.
        regions: number of regions -> images.
        classes: class name -> regions.
        describers: who wrote descriptions -> images; offline ones under a name that says so.
        words: in all descriptions together, and the number of descriptions.
        validation: what was found; None where nothing was checked.
        settings: config key -> value.
        examples: a few.
        notes: sentences from the maker of the set.
    """

    title: str
    sources: Sequence[CardSource] = ()
    funnel: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[int, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    describers: Mapping[str, int] = field(default_factory=dict)
    words: tuple[int, int] = (0, 0)
    validation: ValidationSummary | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[CardExample] = ()
    notes: Sequence[str] = ()


def count_facts(rows: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    """What a card counts over the images of a set: arguments of `CardFacts`.

    Args:
        rows: for each image its results of `extract` and `describe`.
    """
    regions: Counter[int] = Counter()
    classes: Counter[str] = Counter()
    describers: Counter[str] = Counter()
    words = descriptions = 0
    for extract, describe in rows:
        regions[len(extract["regions"])] += 1
        classes.update(
            region["class_name"] for region in extract["regions"] if region["class_name"]
        )
        name = " ".join(filter(None, (describe.get("describer"), describe.get("model"))))
        offline = " (measured, or by the small model that ships)" if describe.get("offline") else ""
        describers[f"{name or 'unknown'}{offline}"] += 1
        texts = describe.get("descriptions", [])
        descriptions += len(texts)
        words += sum(len(text.split()) for text in texts)
    return {
        "regions": dict(sorted(regions.items())),
        "classes": dict(sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))),
        "describers": dict(sorted(describers.items(), key=lambda pair: (-pair[1], pair[0]))),
        "words": (words, descriptions),
    }


def render_card(facts: CardFacts) -> str:
    """The card; ends with a line break. Texts from sources and models are escaped."""
    return "\n\n".join(filter(None, _blocks(facts))) + "\n"


def _blocks(facts: CardFacts) -> Iterator[str]:
    images = sum(facts.regions.values())
    regions = sum(k * n for k, n in facts.regions.items())
    yield f"# {_text(facts.title)}"
    yield (
        f"Images with their texture regions: a mask and a description of each. {images:,} images, "
        f"{regions:,} regions{f', {regions / images:.2f} an image' if images else ''}. Made with "
        f"detecture {__version__}."
    )
    yield "\n".join(f"- {_text(note)}" for note in facts.notes)
    yield "## Sources and licences"
    yield _table(
        ["source", "images", "licence"],
        [[s.name, f"{s.images:,}", s.licence or "unknown: ask its makers"] for s in facts.sources],
    )
    yield (
        "The licences of the sources hold for the images. Whoever passes the set on passes these "
        "on, too."
    )
    yield "## Content"
    yield _table(["split", "images"], _counted(facts.splits))
    yield (
        "Variants of one image, and images that look alike, are in one split."
        if facts.splits
        else ""
    )
    yield _table(["regions of an image", "images"], _counted(facts.regions))
    yield _table(["class", "regions"], _counted(facts.classes)[:_MOST_CLASSES])
    if (more := len(facts.classes) - _MOST_CLASSES) > 0:
        yield f"And {more} more classes."
    yield "## Descriptions"
    yield _table(["written by", "images"], _counted(facts.describers))
    words, count = facts.words
    yield f"{count:,} descriptions, {words / count:.1f} words each." if count else ""
    yield "## How it came to be"
    yield _funnel(facts.funnel)
    yield from _validation(facts.validation)
    yield from _settings(facts.settings)
    yield from _examples(facts.examples)


def _funnel(funnel: Mapping[str, int]) -> str:
    rows, before = [], None
    for stage, count in funnel.items():
        share = f"{count / before:.1%}" if before else ""
        rows.append([stage, f"{count:,}", share])
        before = count
    return _table(["stage", "images that passed", "of those before"], rows)


def _validation(summary: ValidationSummary | None) -> Iterator[str]:
    if summary is None:
        return
    rows = [
        [kind, NAMES.get(name, name), f"{count:,}"]
        for kind, counts in (("rejected", summary.problems), ("warning", summary.warnings))
        for name, count in counts.items()
    ]
    yield f"Validated: {summary.images:,} images, {summary.rejected:,} of them rejected."
    yield _table(["", "found", "images"], rows)


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings:
        yield "## Settings"
        yield _table(["key", "value"], [[key, str(value)] for key, value in settings.items()])


def _examples(examples: Sequence[CardExample]) -> Iterator[str]:
    if examples:
        yield "## Examples"
    for example in examples:
        yield f"### {_text(example.item_id)}"
        if example.overlay:
            # In angle brackets a path may hold any character but these.
            path = example.overlay.replace("<", "%3C").replace(">", "%3E").replace("\n", "%0A")
            yield f"![{_text(example.item_id)}](<{path}>)"
        yield "\n".join(f"{n}. {_text(text)}" for n, text in enumerate(example.descriptions, 1))


def _counted(counts: Mapping[Any, int]) -> list[list[str]]:
    return [[str(name), f"{count:,}"] for name, count in counts.items()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; empty if it has no rows."""
    if not rows:
        return ""
    cells = [[_text(cell) for cell in row] for row in rows]
    return tabulate(cells, heads, tablefmt="github", disable_numparse=True)


def _text(text: str) -> str:
    """Any text so that it shows as it is, on one line, cut if it is long."""
    cut = text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} .."
    # At the start of a list item these would make a heading, or another list.
    return _BLOCK_MARK.sub(r"\1\\", escape_markdown(cut))

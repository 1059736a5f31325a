"""Speed of open-vocabulary inference compared with what CAT-Seg's published code spends.

One image, from pixels to a label map with scores, on random weights: ours, ours with each published
cost put back (`published_costs`), and ours with all of them, in turn within one run.

Legend: T names, H, W size of the image.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detecture.d2 import CfgNode
from detecture.data.synthetic import render_scene
from detecture.data.vocabulary import Vocabulary
from detecture.errors import ConfigError
from detecture.modeling.build import build_model
from detecture.modeling.meta_arch.cat_seg import CATSeg
from detecture.profiling.clock import StageClock, ratios, summarize
from detecture.profiling.inference import VoidComparison
from detecture.profiling.published_costs import (
    COSTS,
    Switch,
    all_at_once,
    fresh_texts,
    unfoldable,
)

TOLERANCE = 1e-4
"""Greatest difference of a score."""

SIDES: dict[str, tuple[Switch, ...]] = {
    "ours": (),
    "published": tuple(COSTS.values()),
    **{name: (switch,) for name, switch in COSTS.items()},
    "all_at_once": (all_at_once,),
    "published_all_at_once": (*COSTS.values(), all_at_once),
}
"""What is compared: by name, the costs that are put back.

`all_at_once` is the published code's way, too, but stands by itself: it is a size of chunks.
"""

_SEED, _REGIONS = 21, 6
_LISTS = ("coco_stuff_171", "ade_847")
_PLANES = 32  # planes of scores that are compared at a time


@dataclass(frozen=True)
class Answered:
    """What one run gave.

    Attributes:
        clock: of the stages `text` (names to embeddings) and `image` (the rest).
        answer: the model's; `label_map` (H,W), `score` (H,W), `sem_seg` (T,H,W).
    """

    clock: StageClock
    answer: Mapping[str, Any]


def semantic_suite(
    cfg: CfgNode,
    *,
    names: Sequence[int],
    size: int,
    repeats: int,
    sides: Sequence[str] = tuple(SIDES),
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Benchmark every number of names.

    Args:
        cfg: of a CATSeg.
        names: numbers of names, T.
        size: side of the image in pixels.
        repeats: timed runs of each side.
        sides: of `SIDES`; ours is always there.
        report: takes the lines of readable tables.

    Returns:
        `runs`, see `benchmark_semantic`.

    Raises:
        ConfigError: the model is not a CATSeg, or images cannot be unfolded as it sees them, or
            there are not so many names.
        VoidComparison: the sides do not agree.
    """
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    if type(model) is not CATSeg:
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}; these are the costs of "
            "CAT-Seg's published code: give a config of a CATSeg, such as "
            "configs/ahs_seg/cat_seg_vitb.yaml"
        )
    unfoldable(model, (size, size))
    asked = {count: some_names(count) for count in names}
    runs = []
    for count, vocabulary in asked.items():
        run = benchmark_semantic(model, vocabulary, size=size, repeats=repeats, sides=sides)
        runs.append(run)
        report(f"{count} names, {size}x{size}, {repeats} repeats in turns")
        for line in lines_of(run):
            report(line)
    return {"runs": runs}


def some_names(count: int) -> Vocabulary:
    """So many names: the first ones of COCO-Stuff or, if it has too few, of ADE20K.

    Raises:
        ConfigError: there are not so many.
    """
    for listed in _LISTS:
        vocabulary = Vocabulary.load(listed).first_names()
        if count <= len(vocabulary.items):
            return Vocabulary(vocabulary.items[:count])
    raise ConfigError(f"{count} names: the longest list that ships, {_LISTS[-1]}, has fewer")


def benchmark_semantic(
    model: CATSeg, vocabulary: Vocabulary, *, size: int, repeats: int, sides: Sequence[str]
) -> dict[str, Any]:
    """Time all sides in turn on the same image, after one untimed run of each.

    Args:
        model: in evaluation mode.
        vocabulary: T classes of one name each.
        size: side of the image in pixels.
        repeats: timed runs of each side.
        sides: of `SIDES`; ours is always there.

    Returns:
        For each side its stages as `summarize` gives them (`total` includes the text, `image` has
        it ready), `ratio_p50` and `ratio_cpu_p50` against ours, and how well they agree.

    Raises:
        VoidComparison: the sides do not agree.
    """
    image = torch.from_numpy(render_scene(_SEED, 0, size, _REGIONS, edition=2).image.copy())
    sample = {
        "image": image.permute(2, 0, 1).contiguous(),
        "height": size,
        "width": size,
        "vocabulary": vocabulary,
    }
    order = ["ours", *(side for side in sides if side != "ours")]
    first: dict[str, StageClock] = {}
    agreement: dict[str, Any] = {}
    ours = run_side(model, sample, SIDES["ours"], memory=True)
    for side in order:
        # The first run warms up, shows that the side agrees with ours, and measures memory.
        one = ours if side == "ours" else run_side(model, sample, SIDES[side], memory=True)
        first[side] = one.clock
        if side != "ours":
            agreement[side] = compare(side, ours.answer, one.answer)
    del ours, one
    clocks: dict[str, list[StageClock]] = {side: [] for side in order}
    for repeat in range(repeats):
        # In turn, and so that no side always finds what the same other has left in the caches.
        for side in order if repeat % 2 else order[::-1]:
            clocks[side].append(run_side(model, sample, SIDES[side]).clock)
    rows = {side: summarize(clocks[side], first[side]) for side in order}
    return {
        "names": len(vocabulary.names),
        "size": size,
        "repeats": repeats,
        "sides": rows,
        "agreement": agreement,
        "ratio_p50": {side: ratios(rows[side], rows["ours"]) for side in order[1:]},
        "ratio_cpu_p50": {
            side: ratios(rows[side], rows["ours"], "cpu_p50_ms") for side in order[1:]
        },
    }


@torch.no_grad()
def run_side(
    model: CATSeg, sample: dict[str, Any], switches: Sequence[Switch], *, memory: bool = False
) -> Answered:
    """Read the names anew, then answer for the image.

    Args:
        model: in evaluation mode.
        sample: with its vocabulary.
        switches: costs that are put back.
        memory: measure memory too.
    """
    clock = StageClock(model.clip.device, memory=memory)
    with ExitStack() as stack:
        stack.enter_context(fresh_texts(model))
        for switch in switches:
            stack.enter_context(switch(model))
        clock.enter("text")
        model.read_classes(sample["vocabulary"])
        clock.enter("image")
        (answer,) = model([sample])
        clock.leave()
    return Answered(clock, answer)


def compare(side: str, ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How well another side agrees with ours.

    Args:
        side: its name.
        ours: with `sem_seg` (T,H,W), `label_map` and `score` (H,W).
        other: the same.

    Raises:
        VoidComparison: not well enough.
    """
    own_THW, other_THW = ours["sem_seg"], other["sem_seg"]
    pairs = zip(own_THW.split(_PLANES), other_THW.split(_PLANES), strict=True)
    difference = max(float((one - two).abs().max()) for one, two in pairs)
    difference = max(difference, float((ours["score"] - other["score"]).abs().max()))
    if not difference <= TOLERANCE:
        raise VoidComparison(
            f"{side}: scores differ by {difference:.2g}, more than {TOLERANCE:g}: the sides do not "
            "compute the same, and their times must not be compared"
        )
    different_HW = ours["label_map"] != other["label_map"]
    lost = _lost(own_THW, other["label_map"], ours["score"])
    if lost > 2 * TOLERANCE:
        raise VoidComparison(f"{side}: the label maps differ in pixels that are no ties")
    return {
        "largest_score_difference": difference,
        "label_pixels_that_differ": int(different_HW.sum()),
        "label_pixels": different_HW.numel(),
        "labels_found": len(ours["label_map"].unique()),
    }


def _lost(scores_THW: Tensor, label_map_HW: Tensor, best_HW: Tensor) -> float:
    """The most by which a label map's score falls short of the best one at any pixel."""
    return float((best_HW - scores_THW.gather(0, label_map_HW.long()[None])[0]).max())


def lines_of(run: dict[str, Any]) -> list[str]:
    """A readable table of what `benchmark_semantic` returned, one line for each side."""
    stages = {"text": "text s", "image": "image s", "total": "both s"}
    header = f"{'':<22}" + "".join(f"{title:>9}{'ratio':>8}" for title in stages.values())
    lines = [f"{header}{'MiB':>8}"]
    for side, rows in run["sides"].items():
        quotients = run["ratio_p50"].get(side, dict.fromkeys(stages, 1.0))
        cells = "".join(
            f"{rows[stage]['p50_ms'] / 1e3:>9.3f}{quotients[stage]:>7.2f}x" for stage in stages
        )
        lines.append(f"{side:<22}{cells}{rows['total']['peak_mib']:>8.0f}")
    return lines

"""Inference by stages: ours, and the published way on the same weights and inputs.

What the published way does differently (specification of the model, sections 2 and 7): it runs the
whole sequence a second time, including the image through the vision tower, and it always sends
seven slots through SAM 3. Everything else, including generation, is our own code on both sides.

Legend: B images, K regions, D hidden size, Q slots of an image (the dustbin first), h, w size of
masks, H, W size of an image.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import DynamicCache

from detecture.data.prompts import count_phrase
from detecture.errors import DetectureError
from detecture.evaluation.label_map import scores_to_label_map
from detecture.modeling.bridge.mask_losses import partition_scores
from detecture.modeling.bridge.parts import DetectureBatch
from detecture.modeling.meta_arch.detecture import Detecture
from detecture.modeling.segmenter import ImageFeatures
from detecture.modeling.vlm.types import Prefix, VisionFeatures
from detecture.profiling.clock import StageClock, ratios, summarize
from detecture.profiling.workload import forced_answers, samples

STAGES = (
    "preprocess",
    "vlm_vision",
    "segmenter_encoder",
    "prefill",
    "decode",
    "extraction",
    "masks",
    "postprocess",
)

TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Greatest difference of region states, and of two scores that count as a tie."""


class VoidComparison(DetectureError):
    """The two sides do not compute the same thing, so their times must not be compared."""


@dataclass
class Outcome:
    """What one run of a batch gave.

    Attributes:
        clock: seconds and memory by stage.
        states_BKD: region states.
        label_maps: (H,W) int32 of each image.
        margins: (H,W) of each image, best score minus second best.
        decode_steps: number of passes of one token.
    """

    clock: StageClock
    states_BKD: Tensor
    label_maps: list[np.ndarray] = field(default_factory=list)
    margins: list[np.ndarray] = field(default_factory=list)
    decode_steps: int = 0


class _Pass:
    """One run of a batch, stage by stage; subclasses say how to get states and masks."""

    name: ClassVar[str]

    def __init__(self, model: Detecture, batch: DetectureBatch, memory: bool = False) -> None:
        self.model = model
        self.batch = batch
        self.clock = StageClock(model.vlm.device, memory=memory)
        self.count_B = torch.tensor(
            [len(texts) for texts in batch.descriptions], device=model.vlm.device
        )
        self.counts = [count_phrase(len(texts)) for texts in batch.descriptions]

    @torch.no_grad()
    def run(self) -> Outcome:
        """All stages."""
        vlm, clock = self.model.vlm, self.clock
        answers = self.batch.answers
        vision, features = self._encode()
        clock.enter("prefill")
        prefix = vlm.prefix(vision, self.counts)
        cache = DynamicCache(config=vlm.model.config.text_config)
        with forced_answers(vlm, answers, lambda: clock.enter("decode")) as forced:
            written = vlm.write(prefix, cache)
        clock.leave()
        if written != answers:
            raise VoidComparison("the model did not write the answers that it was given")
        clock.enter("extraction")
        states_BKD = self._extract(prefix, answers, cache)
        clock.enter("masks")
        logits = self._masks(features, states_BKD)
        clock.enter("postprocess")
        scores = self._scores(logits)
        label_maps = [scores_to_label_map(score) for score in scores]
        clock.leave()
        regions = int(self.count_B.max())
        outcome = Outcome(clock, states_BKD[:, :regions], label_maps, decode_steps=forced.calls - 1)
        for score in scores:
            best = score.topk(2, dim=0).values
            outcome.margins.append((best[0] - best[1]).float().cpu().numpy())
        return outcome

    def _encode(self) -> tuple[VisionFeatures, ImageFeatures]:
        model, clock = self.model, self.clock
        images = self.batch.images
        clock.enter("preprocess")
        pixels = model.segmenter.preprocess(images)
        with self._tower(before=lambda: clock.enter("vlm_vision")):
            vision = model.vlm.encode_images(images)
        clock.enter("segmenter_encoder")
        return vision, model.segmenter.encode_image(pixels)

    def _tower(self, before: Callable[[], None]) -> AbstractContextManager[Any]:
        """Tells when the vision tower begins, and keeps what goes into it."""
        tower = self.model.vlm.model.model.visual

        def enter(_: Any, args: Any, kwargs: Any) -> None:
            self.patches, self.grid = args[0], kwargs["grid_thw"]
            before()

        stack = ExitStack()
        handle = tower.register_forward_pre_hook(enter, with_kwargs=True)
        stack.callback(handle.remove)
        return stack

    def _extract(
        self, prefix: Prefix, answers: Sequence[Sequence[int]], cache: DynamicCache
    ) -> Tensor:
        """States of the regions (B,K,D)."""
        raise NotImplementedError

    def _masks(self, features: ImageFeatures, states_BKD: Tensor) -> list[Tensor]:
        """Logits (Q,h,w) of each image."""
        raise NotImplementedError

    def _scores(self, logits: list[Tensor]) -> list[Tensor]:
        """Logits (Q,h,w) of each image to its scores (K+1,H,W), the dustbin last."""
        raise NotImplementedError

    def _sizes(self) -> list[tuple[int, int]]:
        return [(sample["height"], sample["width"]) for sample in self.batch.samples]


class Ours(_Pass):
    """As `Detecture.predict` does it."""

    name = "ours"

    def _extract(
        self, prefix: Prefix, answers: Sequence[Sequence[int]], cache: DynamicCache
    ) -> Tensor:
        """States of the regions (B,K,D), from the answers alone."""
        _, states_BKD = self.model.vlm.extract(prefix, answers, cache)
        return states_BKD

    def _masks(self, features: ImageFeatures, states_BKD: Tensor) -> list[Tensor]:
        """Logits (Q,h,w) of each image, for the slots that it has."""
        model = self.model
        slots = model.head(model.segmenter, features, states_BKD, self.count_B)
        return list(slots.logits_Nhw.split((self.count_B + 1).tolist()))

    def _scores(self, logits: list[Tensor]) -> list[Tensor]:
        """Logits (Q,h,w) of each image to its scores (K+1,H,W), as in `partition_scores`."""
        sizes = self._sizes()
        return [partition_scores(own, size) for own, size in zip(logits, sizes, strict=True)]


class PublishedPass(_Pass):
    """As the published code does it."""

    name = "published"

    def _extract(
        self, prefix: Prefix, answers: Sequence[Sequence[int]], cache: DynamicCache
    ) -> Tensor:
        """States of the regions (B,K,D), from a second pass over everything."""
        vlm = self.model.vlm
        output = vlm.model.model.get_image_features(self.patches, self.grid, return_dict=True)
        deepstack = tuple(torch.stack(list(level)) for level in output.deepstack_features)
        vision = VisionFeatures(torch.stack(list(output.pooler_output)), deepstack, self.grid)
        again = vlm.prefix(vision, self.counts)
        return vlm.teacher_forced(again, answers, predictions=False).states_BKD

    def _masks(self, features: ImageFeatures, states_BKD: Tensor) -> list[Tensor]:
        """Logits (Q,h,w) of each image, always for all slots."""
        model = self.model
        number_K = torch.arange(states_BKD.shape[1], device=states_BKD.device)
        absent_BK = number_K >= self.count_B[:, None]
        states_BKD = states_BKD.masked_fill(absent_BK[..., None], 0.0)
        every_B = torch.full_like(self.count_B, states_BKD.shape[1])
        slots = model.head(model.segmenter, features, states_BKD, every_B)
        return list(slots.logits_Nhw.split((every_B + 1).tolist()))

    def _scores(self, logits: list[Tensor]) -> list[Tensor]:
        """Logits (Q,h,w) of each image to its scores (K+1,H,W), unused slots left out."""
        scores = []
        for own, size, count in zip(logits, self._sizes(), self.count_B.tolist(), strict=True):
            resized = interpolate(own[None].float(), size, mode="bilinear", align_corners=False)[0]
            # Without the published bug: unused slots are dropped after the resize.
            scores.append(resized[: count + 1].roll(-1, dims=0))
        return scores


def benchmark_inference(
    model: Detecture,
    *,
    batch_size: int,
    regions: int,
    tokens_per_region: int,
    repeats: int,
    published: bool,
    size: int,
) -> dict[str, Any]:
    """Time both sides in turn on the same inputs, after one untimed run of each.

    Args:
        model: in evaluation mode.
        batch_size: images of a batch.
        regions: K of each image.
        tokens_per_region: length of a line of the answer.
        repeats: timed runs of each side.
        published: run the published side too.
        size: side of the images in pixels.

    Returns:
        `ours`, `published` (stages as `summarize` gives them), `ratio_p50` and what was run.

    Raises:
        VoidComparison: the two sides do not agree.
        ConfigError: the answer does not fit the model's limits.
    """
    batch = samples(model, batch_size, regions, tokens_per_region, size)
    sides: list[type[_Pass]] = [Ours, PublishedPass] if published else [Ours]
    # The first run warms up, shows that both sides agree, and measures memory.
    first = {side.name: side(model, batch, memory=True).run() for side in sides}
    agreement = _compare(model, first["ours"], first["published"]) if published else {}
    clocks: dict[str, list[StageClock]] = {name: [] for name in first}
    for repeat in range(repeats):
        # In turn, and so that neither side always finds what the other has left in the caches.
        for side in sides if repeat % 2 else sides[::-1]:
            clocks[side.name].append(side(model, batch).run().clock)
    steps = first["ours"].decode_steps
    result: dict[str, Any] = {
        "batch_size": batch_size,
        "regions": regions,
        "repeats": repeats,
        "visual_tokens": _visual_tokens(model, batch.samples[0]),
        "answer_tokens": len(batch.answers[0]),
        "decode_steps": steps,
        **agreement,
    }
    for name in first:
        rows = summarize(clocks[name], first[name].clock)
        result[name] = _with_decode_per_token(rows, steps)
    if published:
        result["ratio_p50"] = ratios(result["published"], result["ours"])
        result["ratio_cpu_p50"] = ratios(result["published"], result["ours"], "cpu_p50_ms")
    return result


def _with_decode_per_token(
    rows: dict[str, dict[str, float]], steps: int
) -> dict[str, dict[str, float]]:
    ordered = {}
    for stage, row in rows.items():
        ordered[stage] = row
        if stage == "decode":
            shared = {key: value / max(steps, 1) for key, value in row.items() if "ms" in key}
            ordered["decode_per_token"] = {**shared, "peak_mib": row["peak_mib"]}
    return ordered


def _visual_tokens(model: Detecture, sample: dict[str, Any]) -> int:
    with torch.no_grad():
        return int(model.vlm.encode_images([sample["image"]]).tokens_BVD.shape[1])


def _compare(model: Detecture, ours: Outcome, published: Outcome) -> dict[str, Any]:
    """How well both sides agree.

    Raises:
        VoidComparison: not well enough.
    """
    tolerance = TOLERANCE[model.vlm.model.dtype]
    difference = float((ours.states_BKD - published.states_BKD).abs().max())
    if not difference <= tolerance:
        raise VoidComparison(
            f"region states differ by {difference:.2g}, more than {tolerance:g}: the sides do not "
            "compute the same, and their times must not be compared"
        )
    ties = wrong = pixels = 0
    for own, other, margin in zip(ours.label_maps, published.label_maps, ours.margins, strict=True):
        different = own != other
        pixels += different.size
        ties += int((different & (margin <= tolerance)).sum())
        wrong += int((different & (margin > tolerance)).sum())
    if wrong or ties > 0.01 * pixels:
        raise VoidComparison(
            f"label maps differ in {wrong} pixels that are no ties and {ties} that are, of {pixels}"
        )
    if ours.decode_steps != published.decode_steps:
        raise VoidComparison("the two sides did not write the same number of tokens")
    labels = {int(label) for labels in ours.label_maps for label in np.unique(labels)}
    return {
        "largest_state_difference": difference,
        "label_pixels_that_differ": ties,
        "label_pixels": pixels,
        "labels_found": sorted(labels),
    }

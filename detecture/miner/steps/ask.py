"""The stage `ask`, as `detecture.miner.stages` calls it: what a VLM says of an image.

Legend: H, W size of an image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from detecture.config.sections.miner_stages import AskSettings, ScoreSettings
from detecture.errors import DetectureError, MinerError
from detecture.miner.describe.local_vlm import vlm_of
from detecture.miner.extract import resized_nearest
from detecture.miner.journal import OK, Result
from detecture.miner.palette import boundaries_drawn
from detecture.miner.pools import failed
from detecture.miner.score.rubric import (
    OVERLAY_QUESTIONS,
    QUESTIONS,
    SYSTEM,
    OverlayVerdict,
    answers_in,
    form_of,
    hard_rules,
    overlay_rubric,
    rubric,
)
from detecture.miner.score.settings import as_published
from detecture.miner.sources import Source
from detecture.miner.stage import Context, Task
from detecture.miner.steps.extract import region_map
from detecture.modeling.vlm import Qwen3VL
from detecture.modeling.vlm.asking import ask


class AskStage:
    """Asks a VLM about several images at a time."""

    def __init__(
        self, source: Source, vlm: Qwen3VL, settings: AskSettings, *, published: bool = False
    ) -> None:
        """Keep what is needed.

        Args:
            source: of the images.
            vlm: writes the answers; without `<|seg|>` rows.
            settings: MINER.ASK.
            published: ask only about images that passed the first stage.
        """
        self._source, self._vlm, self._settings = source, vlm, settings
        self._published = published
        self.batch_size = settings.batch_size

    def __call__(self, tasks: Sequence[Task]) -> list[Result]:
        """`score`, `decision`, `flags` and `reason` of each image, and the answers."""
        results: dict[int, Result] = {}
        images: dict[int, np.ndarray] = {}
        for number, task in enumerate(tasks):
            if self._published and not task.earlier["score"]["statistics"]["passes"]:
                results[number] = {"status": "not_asked"}
                continue
            try:
                images[number] = self._source.read_image(task.item)
            except DetectureError as error:
                results[number] = failed(error)
        drawn: dict[int, np.ndarray] = {}
        if self._settings.overlay:
            for number, image in images.items():
                try:
                    labels = region_map(self._source, tasks[number].item)
                except DetectureError as error:
                    results[number] = failed(error)
                    continue
                drawn[number] = boundaries_drawn(image, resized_nearest(labels, image.shape[:2]))
        answers = self._answers(images, QUESTIONS)
        of_overlays = self._answers(drawn, OVERLAY_QUESTIONS)
        for number in images.keys() - results.keys():
            results[number] = self._judged(answers[number], of_overlays.get(number))
        return [results[number] for number in range(len(tasks))]

    def _answers(
        self, images: Mapping[int, np.ndarray], questions: Mapping[str, str]
    ) -> dict[int, str]:
        """The VLM's words about images uint8 (H,W,3), by their numbers."""
        if not images:
            return {}
        shown = [
            torch.from_numpy(_within(image, self._vlm.image_size)) for image in images.values()
        ]
        with torch.inference_mode():
            vision = self._vlm.encode_images(shown)
            words = ask(self._vlm, vision, SYSTEM, [form_of(questions)] * len(shown))
        return dict(zip(images, words, strict=True))

    def _judged(self, answer: str, of_overlay: str | None) -> Result:
        try:
            answers = answers_in(answer, QUESTIONS)
        except MinerError as error:
            return failed(error)
        overlay = OverlayVerdict()
        said: dict[str, bool | int | None] = {}
        if of_overlay is not None:
            try:
                said = answers_in(of_overlay, OVERLAY_QUESTIONS)
            except MinerError as error:
                return failed(error)
            overlay = overlay_rubric(said, self._settings)
        verdict = hard_rules(rubric(answers), overlay, self._settings)
        result: dict[str, Any] = {
            "status": OK,
            "score": verdict.score,
            "decision": verdict.decision,
            "flags": list(verdict.flags),
            "reason": verdict.reason,
            "answers": answers,
        }
        return result | ({"overlay": overlay.score, "overlay_answers": said} if said else {})


def _within(image: np.ndarray, side: int) -> np.ndarray:
    """An image uint8 (H,W,3) as (3,h,w), its longer side `side` at most."""
    shown = Image.fromarray(image)
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.array(shown).transpose(2, 0, 1)


def make(context: Context) -> AskStage:
    """The VLM of MODEL.VLM, loaded.

    Raises:
        CheckpointError: its weights cannot be had.
    """
    published = as_published(ScoreSettings.from_config(context.cfg))
    settings = AskSettings.from_config(context.cfg)
    return AskStage(context.source, vlm_of(context.cfg, "MINER.ASK"), settings, published=published)

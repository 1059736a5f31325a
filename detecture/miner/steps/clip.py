"""The stage `clip`, as `detecture.miner.stages` calls it.

Legend: P number of positive queries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from detecture.config.sections.miner_stages import ClipScoreSettings, ScoreSettings
from detecture.device import resolve_device
from detecture.errors import DetectureError
from detecture.miner.journal import OK, Result
from detecture.miner.pools import failed
from detecture.miner.score.clip import ClipScorer, is_candidate
from detecture.miner.score.settings import as_published
from detecture.miner.stage import Context, Task


class ClipStage:
    """Cosines of several images at a time with the queries."""

    def __init__(self, context: Context, scorer: ClipScorer) -> None:
        """Keep what is needed.

        Args:
            context: of the mine.
            scorer: CLIP with its queries.
        """
        self._source, self._scorer = context.source, scorer
        self.batch_size = scorer.settings.batch_size
        self._published = as_published(ScoreSettings.from_config(context.cfg))

    def _is_candidate(self, score: Mapping[str, Any]) -> bool:
        passed, size = bool(score["statistics"]["passes"]), tuple(score["size"])
        return is_candidate(passed, size, self._scorer.settings, published=True)

    def __call__(self, tasks: Sequence[Task]) -> list[Result]:
        """`score`, `positives` (one for each query) and `negative` of each image."""
        results: dict[int, Result] = {}
        images = []
        for number, task in enumerate(tasks):
            if self._published and not self._is_candidate(task.earlier["score"]):
                results[number] = {"status": "not_asked"}
                continue
            try:
                images.append((number, self._source.read_image(task.item)))
            except DetectureError as error:
                results[number] = failed(error)
        if images:
            features = list(self._scorer.features(image for _, image in images))
            scores = self._scorer.scores(features)
            for place, (number, _) in enumerate(images):
                results[number] = {
                    "status": OK,
                    "score": float(scores.scores_N[place]),
                    "positives": [float(value) for value in scores.cosines_NP[place]],
                    "negative": float(scores.negatives_N[place]),
                }
        return [results[number] for number in range(len(tasks))]


def make(context: Context) -> ClipStage:
    """CLIP, loaded.

    Raises:
        CheckpointError: its weights cannot be had.
    """
    settings = ClipScoreSettings.from_config(context.cfg)
    device = resolve_device(context.cfg.MODEL.DEVICE)
    return ClipStage(context, ClipScorer.load(settings, device))

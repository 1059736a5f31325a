"""Images and class names in, the class of each pixel out: the Python interface.

    predictor = SemanticPredictor.from_config("configs/ahs_seg/..")
    result = predictor("image.jpg", classes=["sky|clouds", "wet sand", "reed"])
    result.save("output")

An image is encoded once for any number of questions, and names are processed once for any number of
images:

    predictor.set_image("image.jpg")
    sky = predictor.predict(classes="sky, ground").mask("sky")
    birds = predictor.predict(classes=["heron", "duck"], background=0.4)
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from detecture.config.sections.images import InputSettings
from detecture.config.sections.semantic import SemanticTestSettings
from detecture.d2 import CfgNode
from detecture.data.vocabulary import Vocabulary
from detecture.engine.evaluate import load_model
from detecture.engine.prediction import FailedImage, ImageSource, Predictor, each_of
from detecture.engine.predictor import TexturePredictor, finished_config
from detecture.engine.semantic_result import SemanticResult
from detecture.errors import ConfigError
from detecture.modeling.meta_arch.protocol import SemanticModel
from detecture.modeling.meta_arch.semantic import BACKGROUND

logger = logging.getLogger(__name__)

Classes = str | Sequence[Any] | Vocabulary
"""Names: a text with commas between classes and bars between synonyms, a list, a vocabulary."""


class SemanticPredictor(Predictor[SemanticResult]):
    """Asks a semantic model for any classes in images of any kind and size."""

    remedy = "leave it out, or try another method or other classes"

    def __init__(
        self,
        model: nn.Module,
        *,
        max_pixels: int = InputSettings.max_pixels,
        bands: Sequence[int] = InputSettings.bands,
        background: float = SemanticTestSettings.background_threshold,
    ) -> None:
        """Wrap a model.

        Args:
            model: a semantic model.
            max_pixels: larger images are refused before decoding.
            bands: which bands are red, green and blue, see `detecture.data.image_io.read_image`.
            background: background threshold if a call does not give one; 0: no background.

        Raises:
            ConfigError: it is a texture model, or `bands` are not one or three numbers from 1 on.
        """
        if not isinstance(model, SemanticModel):
            raise ConfigError(
                f"{type(model).__name__} finds regions by itself, and cannot be asked for classes: "
                "use detecture.TexturePredictor, or a config of configs/ahs_seg"
            )
        super().__init__(model, max_pixels, bands)
        self.semantic: SemanticModel = model
        self.background = background
        self._judged: set[int] = set()  # hashes of vocabularies whose letters were checked

    @classmethod
    def from_config(
        cls, config: str | Path | CfgNode, overrides: Sequence[str] = ()
    ) -> "SemanticPredictor":
        """Build the method of a config and load its weights.

        Args:
            config: yaml file or finished config.
            overrides: alternating keys and values, as on a command line.

        Raises:
            ConfigError, CheckpointError: see `make_config` and `load_model`.
        """
        cfg = finished_config(config, overrides)
        return cls.of(load_model(cfg), cfg)

    @classmethod
    def of(cls, model: nn.Module, cfg: CfgNode) -> "SemanticPredictor":
        """Predictor for a model of that config that is already built."""
        return cls(
            model,
            max_pixels=cfg.INPUT.MAX_PIXELS,
            bands=cfg.INPUT.BANDS,
            background=cfg.TEST.SEMANTIC.BACKGROUND_THRESHOLD,
        )

    def sibling(self, max_pixels: int) -> "SemanticPredictor":
        """Another predictor with the same model and its own image."""
        return SemanticPredictor(
            self.model, max_pixels=max_pixels, bands=self.bands, background=self.background
        )

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        classes: Classes | None = None,
        background: float | None = None,
        scores: bool = False,
    ) -> Any:
        """Find classes.

        Args:
            images: one image or several, see `ImageSource`.
            classes: what to look for; None: the classes of the config.
            background: pixels whose best score is below it are background, a class of its own;
                0: there is none; None: as the config says.
            scores: the result also has the scores of every class. They take T * H * W * 4 bytes,
                which is logged, and refused beyond TEST.SEMANTIC.MAX_SCORE_GB.

        Returns:
            A `SemanticResult`, or a list of them.

        Raises:
            ConfigError: there are no classes or too many, or a name is invalid; `background` is not
                in 0..1.
            ImageError: the image cannot be read; the message names it.
            PredictionError: the method failed on the image, or the scores take too much.
            FailedImages: some of several images failed; see `TexturePredictor`.
        """
        return self._call(images, self._question(classes, background, scores), 1)

    def stream(
        self,
        images: ImageSource | Iterable[ImageSource],
        classes: Classes | None = None,
        background: float | None = None,
        scores: bool = False,
    ) -> Iterator[SemanticResult | FailedImage]:
        """Answer for one image after the other; a failure does not stop the rest.

        Args:
            images: see `__call__`; read as needed, one at a time.
            classes, background, scores: see `__call__`.

        Returns:
            Iterator over the outcome of each image, in order.

        Raises:
            ConfigError: see `__call__`.
        """
        return self._stream(each_of(images), self._question(classes, background, scores), 1)

    def predict(
        self,
        classes: Classes | None = None,
        background: float | None = None,
        scores: bool = False,
    ) -> SemanticResult:
        """Find classes in the image that was set.

        Args:
            classes, background, scores: see `__call__`.

        Raises:
            ConfigError: see `__call__`.
            PredictionError: the method failed on the image, or the scores take too much.
            DetectureError: no image was set.
        """
        return self._predict_set(self._question(classes, background, scores))

    def check(self, classes: Classes | None = None, background: float | None = None) -> Vocabulary:
        """The classes that images would be asked for, before there is an image.

        Raises:
            ConfigError: see `__call__`.
        """
        asked: Vocabulary = self._question(classes, background, scores=False)["vocabulary"]
        return asked

    def _question(
        self, classes: Classes | None, background: float | None, scores: bool
    ) -> dict[str, Any]:
        """Entries of the mapped dict; the names are processed here, before any image."""
        threshold = self.background if background is None else background
        if isinstance(threshold, bool) or not isinstance(threshold, Real):
            raise ConfigError(f"background is {threshold!r}; it is a score, from 0 to 1")
        threshold = float(threshold)
        if not 0 <= threshold <= 1:
            raise ConfigError(f"background is {threshold:g}; it is a score, from 0 to 1")
        asked = self.semantic.read_classes(None if classes is None else Vocabulary.asked(classes))
        named = [name for name in asked.classes if name.casefold() == BACKGROUND]
        if threshold and named:
            raise ConfigError(
                f"the class {named[0]!r} is asked for by name, and so is a background by its "
                "threshold; leave out one of them"
            )
        if hash(asked) not in self._judged and not asked.is_latin():
            logger.warning(
                "some names are not in Latin letters, of which CLIP has read next to nothing else: "
                "such classes are found by chance; translate them"
            )
        self._judged.add(hash(asked))
        return {
            "vocabulary": asked,
            "background_threshold": threshold,
            "with_scores": scores,
        }

    def _result(self, sample: dict[str, Any], output: Any) -> SemanticResult:
        image = sample["image"].permute(1, 2, 0).numpy()
        return SemanticResult(
            image=image,
            label_map=output["label_map"].cpu().numpy(),
            score=output["score"].float().cpu().numpy(),
            classes=output["classes"],
            vocabulary=sample["vocabulary"],
            background_threshold=sample["background_threshold"],
            scores=output["sem_seg"].cpu().numpy() if sample["with_scores"] else None,
            status=output["status"],
            name=sample["file_name"],
            source=sample["source"],
        )


def predictor_of(
    config: str | Path | CfgNode | None = None, overrides: Sequence[str] = ()
) -> TexturePredictor | SemanticPredictor:
    """The predictor for the model of a config, of either kind.

    Args:
        config: yaml file, finished config, or None for the shipped method.
        overrides: alternating keys and values, as on a command line.

    Raises:
        ConfigError, CheckpointError: see `make_config` and `load_model`.
    """
    cfg = finished_config(config, overrides)
    model = load_model(cfg)
    kind = SemanticPredictor if isinstance(model, SemanticModel) else TexturePredictor
    return kind.of(model, cfg)

"""Requests of several users, answered one at a time by one model.

Each user's last image stays encoded, so that another number of regions, or other classes, cost no
new encoding. What is kept is bounded by the number of users, the time without a request, and the
pixels of an image.
"""

import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detecture.checkpoint.atomic import utf8
from detecture.data.image_io import image_size
from detecture.data.image_notes import collect_notes
from detecture.data.vocabulary import Vocabulary
from detecture.engine import SemanticPredictor, SemanticResult, TexturePredictor, TextureResult
from detecture.errors import DetectureError, ImageError, PredictionError
from detecture.modeling.grouping.proposals import require_granularity
from detecture.modeling.meta_arch.protocol import ChoosesGranularity

MAX_COUNT = 12
"""Greatest number of regions that can be asked for."""


@dataclass(frozen=True)
class Limits:
    """Limits of one server.

    Attributes:
        max_pixels: of an image; a larger one is refused before it is decoded.
        max_users: number of users whose images are kept; the longest idle is forgotten first.
        idle_seconds: after which a user's image is forgotten.
    """

    max_pixels: int = 50_000_000
    max_users: int = 8
    idle_seconds: float = 3600.0


@dataclass(frozen=True)
class Answer:
    """One prediction.

    Attributes:
        result: regions or classes; its `name` is the image's file name, without folders.
        files: what its `save` wrote: `overlay`, `labels`, `json`.
        waited: seconds until the model was free.
        encoding: seconds to read and encode the image; None if it was already encoded.
        predicting: seconds from the encoding to the label map.
        saving: seconds to write the files.
        notes: remarks on how the image was read.
    """

    result: TextureResult | SemanticResult
    files: dict[str, Path]
    waited: float
    encoding: float | None
    predicting: float
    saving: float
    notes: tuple[str, ...] = ()


@dataclass
class _User:
    predictor: TexturePredictor | SemanticPredictor
    image: str | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    last_seen: float = 0.0


class SegmentationService:
    """One model, one request at a time, one image kept for each user."""

    def __init__(
        self,
        predictor: TexturePredictor | SemanticPredictor,
        folder: Path,
        limits: Limits | None = None,
    ) -> None:
        """Keep the model; nothing is computed yet.

        Args:
            predictor: its model and its limits are used, not its image.
            folder: results are written here, each request to a folder of its own.
            limits: of this server.
        """
        self.predictor = predictor
        self.folder = folder
        limits = limits or Limits()
        self.limits = replace(limits, max_pixels=min(limits.max_pixels, predictor.max_pixels))
        self._turn = threading.Lock()
        self._users: OrderedDict[str, _User] = OrderedDict()

    @property
    def takes_classes(self) -> bool:
        """Whether the model is asked for classes, not for a number of regions."""
        return isinstance(self.predictor, SemanticPredictor)

    @property
    def takes_granularity(self) -> bool:
        """Whether the model offers coarser and finer divisions."""
        return isinstance(self.predictor.model, ChoosesGranularity)

    def answer(
        self,
        user: str,
        image: str | Path | None,
        count: int | None = None,
        *,
        granularity: float | None = None,
        classes: str = "",
        background: float = 0.0,
        owner: str = "",
    ) -> Answer:
        """Segment an image, or ask something else about the image of the previous request.

        Args:
            user: who asks; the image of the user's previous request is not encoded again.
            image: path of the file; may be gone if it is the image of the previous request.
            count: number of regions, 1 to `MAX_COUNT`; None: the method decides.
            granularity: how finely it then decides, for a method that has the choice; None: as the
                config says. With a count it means nothing: the page then disables its slider.
            classes: for a model that takes classes: what to look for, as in the demo's `--classes`.
            background: for such a model: see `SemanticPredictor`.
            owner: name of a folder in `folder`, to which the result is written.

        Raises:
            ImageError: there is no image, it cannot be read, or it is too large. Messages name
                the file without its folder.
            PredictionError: the method failed on it.
            DetectureError: `count` or `granularity` is out of range, or the classes are not valid.
        """
        if not image:
            raise ImageError("no image yet: drop one into the box, or click an example")
        if count is not None and not 1 <= count <= MAX_COUNT:
            raise DetectureError(f"the number of regions is 1 to {MAX_COUNT}, got {count}")
        question: dict[str, Any] = {"count": count}
        if self.takes_granularity and count is None and granularity is not None:
            question["granularity"] = require_granularity(granularity)
        if self.takes_classes:
            question = {"classes": Vocabulary.asked(classes), "background": background}
        start = time.perf_counter()
        # Reading and writing are inside as well: only one full-size image at a time in memory.
        with self._turn:
            waited = time.perf_counter() - start
            asker = self._asker(user)
            encoding = self._encode(asker, str(image))
            start = time.perf_counter()
            result = self._predict(asker, str(image), question)
            predicting = time.perf_counter() - start
            start = time.perf_counter()
            _remove(asker.folder)
            asker.folder = self.folder / owner / uuid.uuid4().hex
            files = result.save(asker.folder)
            saving = time.perf_counter() - start
            notes = asker.notes
        return Answer(result, files, waited, encoding, predicting, saving, notes)

    def forget(self, user: str) -> None:
        """Drop a user's image and files; unknown users are ignored."""
        with self._turn:
            self._drop(user)

    @property
    def users(self) -> list[str]:
        """The users whose images are kept, the longest idle first."""
        return list(self._users)

    def _asker(self, name: str) -> _User:
        now = time.monotonic()
        asker = self._users.get(name) or _User(self.predictor.sibling(self.limits.max_pixels))
        asker.last_seen = now
        self._users[name] = asker
        self._users.move_to_end(name)
        idle = [n for n, u in self._users.items() if now - u.last_seen > self.limits.idle_seconds]
        surplus = list(self._users)[: max(0, len(self._users) - self.limits.max_users)]
        for other in {*idle, *surplus}:
            self._drop(other)
        return asker

    def _drop(self, name: str) -> None:
        asker = self._users.pop(name, None)
        if asker is not None:
            _remove(asker.folder)

    def _encode(self, asker: _User, image: str) -> float | None:
        """Read and encode the image unless it is the user's last; returns the seconds."""
        if asker.image == image:
            return None
        asker.image = None  # if this fails, the previous image must not pass for this one
        start = time.perf_counter()
        name = _name(image)
        with _without_folders(image):
            height, width = image_size(image)
            if height * width > self.limits.max_pixels:
                raise ImageError(
                    f"{name} has {width} x {height} = {height * width / 1e6:.1f} million pixels; "
                    f"this page takes {self.limits.max_pixels / 1e6:g} million. Shrink the image"
                )
            with collect_notes() as notes:
                asker.predictor.set_image(image)
        asker.notes = tuple(text.replace(image, name) for text in notes)
        asker.image = image
        return time.perf_counter() - start

    def _predict(
        self, asker: _User, image: str, question: dict[str, Any]
    ) -> TextureResult | SemanticResult:
        """The result; it shows the user nothing of the server's folders."""
        with _without_folders(image):
            result: TextureResult | SemanticResult = asker.predictor.predict(**question)
        return replace(result, name=_name(image), source="")


def _name(image: str) -> str:
    """An image's name without folders, as text that can be sent."""
    return utf8(Path(image).name).decode("utf-8")


@contextmanager
def _without_folders(image: str) -> Iterator[None]:
    """Errors inside name the image without the server's folders."""
    try:
        yield
    except (ImageError, PredictionError) as error:
        raise type(error)(str(error).replace(image, _name(image))) from error


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)

"""A stage of the miner: a function of one item and earlier results, or of all items at once."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from detecture.checkpoint.atomic import write_atomic
from detecture.checkpoint.json_files import digest_of
from detecture.config.sections.miner import MinerRunningSettings
from detecture.d2 import CfgNode
from detecture.errors import MinerError
from detecture.miner.items import Item
from detecture.miner.journal import Result
from detecture.miner.sources import Source, build_source, image_path
from detecture.miner.sources.registry import fingerprint
from detecture.miner.sources.remote import Remote
from detecture.miner.sources.with_regions import WithRegions
from detecture.miner.store import Store

Earlier = Mapping[str, Mapping[str, Any]]
"""Results of earlier stages, by the names of the stages."""

ItemFunction = Callable[[Item, Earlier], dict[str, Any]]
"""What a stage does with an item. An exception becomes `failed`, but for `StageStopped`."""

PROCESSES, THREADS, HERE, WHOLE = "processes", "threads", "here", "whole"
"""How a stage runs: item by item in processes or threads; in this process alone, perhaps several
items at a time; or all items at once in this process."""


@dataclass(frozen=True)
class Context:
    """What the function of a stage is made from.

    Attributes:
        cfg: the whole config.
        output: OUTPUT_DIR; paths in results are relative to it.
        listed: in the run's other processes, digest of the listings that it began with; see
            `Remote`.
    """

    cfg: CfgNode
    output: Path
    listed: str = ""

    @cached_property
    def remote(self) -> Remote:
        """The parts of the source that lie on object stores."""
        return Remote(self.cfg, self.output / "source", self.listed)

    @cached_property
    def source(self) -> Source:
        """Where the images come from; those without labels get the regions that a model found."""
        source = self.remote.bind(build_source(self.remote.cfg))
        if source.KIND != "images":
            return source
        return WithRegions(source, self.file, self.cfg.INPUT.MAX_PIXELS)

    @cached_property
    def store(self) -> Store | None:
        """Where the mine is kept besides `output`; None: nowhere."""
        url = MinerRunningSettings.from_config(self.cfg).store
        return Store(url) if url else None

    def image(self, item: Item) -> Path:
        """The file of an item's image, fetched if it is only in a store.

        An image inside a shard is unpacked to OUTPUT_DIR first.

        Raises:
            ImageError: it cannot be read from the shard, or is no longer in the store.
        """
        path = image_path(self.source, item)
        self.remote.fetch(path)
        shards: Any = self.source
        if path.is_file() or not hasattr(shards, "image_bytes"):
            return path
        place = self.output / "unpacked" / f"{item.item_id}{path.suffix}"
        if not place.is_file():
            content = shards.image_bytes(item)
            write_atomic(place, lambda file: file.write(content))
        return place

    @property
    def elsewhere(self) -> "Context":
        """The same context for another process, which does not list stores again."""
        return Context(self.cfg, self.output, self.remote.digest)

    def fingerprint(self, item: Item) -> str:
        """Fingerprint of an item's files; see `registry.fingerprint`."""
        return fingerprint(self.source, item, self.remote.mark)

    def file(self, name: str) -> Path:
        """A file of OUTPUT_DIR, fetched if it is only in the store.

        Args:
            name: relative to OUTPUT_DIR.
        """
        path = self.output / name
        if self.store is not None and not path.is_file():
            self.store.fetch(name, path)
        return path


class Task:
    """One item and the earlier results that a stage takes.

    Results are read when they are needed and not kept, so that tasks of a million items fit into
    memory. A task that goes to another process takes its results with it.

    Attributes:
        item: the item.
        given: digest of the earlier results.
    """

    __slots__ = ("_read", "given", "item")

    def __init__(self, item: Item, read: Callable[[], Earlier], given: str) -> None:
        """Remember where the results are.

        Args:
            item: the item.
            read: gives the earlier results.
            given: their digest.
        """
        self.item, self._read, self.given = item, read, given

    @classmethod
    def of(cls, item: Item, earlier: Earlier) -> "Task":
        """A task whose results are at hand."""
        given = digest_of({name: dict(result) for name, result in earlier.items()})
        return cls(item, lambda: earlier, given)

    @property
    def earlier(self) -> Earlier:
        """The earlier results, read anew."""
        return self._read()

    def __reduce__(self) -> tuple[Any, ...]:
        return Task.of, (self.item, {name: dict(found) for name, found in self.earlier.items()})


WholeFunction = Callable[[Sequence[Task]], Mapping[str, dict[str, Any]]]
"""What a stage does with all items: results by the ids of items."""


class StageStopped(MinerError):
    """Raised by a stage's function if nothing more can be done now; the item gets no result."""


@runtime_checkable
class InBatches(Protocol):
    """What a stage does with several items at a time; for stages that run HERE.

    Attributes:
        batch_size: the most items at a time.
    """

    batch_size: int

    def __call__(self, tasks: Sequence[Task]) -> list[Result]:
        """Results in the order of the tasks; one bad item does not raise."""
        ...


@runtime_checkable
class CanStop(Protocol):
    """A stage's function that waits for others, and can be told to stop waiting."""

    def stop(self) -> None:
        """Begin nothing new; calls that wait end with `StageStopped`. Any thread may call this."""
        ...


@dataclass(frozen=True, kw_only=True)
class MinerStage:
    """One stage.

    Attributes:
        name: of the stage, of its journal, and of what it writes in OUTPUT_DIR.
        make: `module:function` that makes an `ItemFunction` or `WholeFunction` of a `Context`.
        takes: stages whose results it gets and depends on.
        gates: stages that an item must have passed.
        sections: of the config, on which its results depend.
        apart_from: keys of these sections that change no result.
        runs: one of PROCESSES, THREADS, HERE, WHOLE.
        finish: `module:function` of a `Mine`, called one after the other when all is done.
        version: raised when the same settings would give another result than before.
        only_images: the stage is only for images without annotations.
        more: `module:function` of the config: further plain values that the results depend on.
        check: `module:function` of a `Context`: finds, before a run begins, what would stop the
            stage hours later; a MinerError says what.
    """

    name: str
    make: str
    takes: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    apart_from: tuple[str, ...] = ()
    runs: str = PROCESSES
    finish: tuple[str, ...] = ()
    version: int = 1
    only_images: bool = False
    more: str = ""
    check: str = ""

    def function(self, context: Context) -> Any:
        """Its `ItemFunction`, `InBatches` or `WholeFunction`.

        Raises:
            MinerError: this version of the program does not have it.
        """
        return load(self.make, self.name)(context)


def load(place: str, stage: str) -> Callable[..., Any]:
    """The function at `module:function`.

    Args:
        place: where it is.
        stage: to which it belongs, for the error.

    Raises:
        MinerError: there is no such module or function.
    """
    module, _, name = place.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not module.startswith(str(error.name)):
            raise  # a package that the stage's module needs
        raise MinerError(f"this version of detecture has no stage {stage} ({place})") from error
    return function

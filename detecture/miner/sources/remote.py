"""Sources on object stores: MINER.SOURCE.ROOT s3://bucket/ADEChallengeData2016, or gs:// and so on.

A folder on this machine mirrors the tree, so that no source needs to know. The store is listed once
a run. What a source reads before any item, its tables, is fetched at once; all else when the item
is read that it belongs to.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from detecture.config.sections.miner import MinerRunningSettings, MinerSourceSettings
from detecture.d2 import CfgNode
from detecture.data.datasets.semantic import CLASSES
from detecture.data.paths import expand_location
from detecture.errors import DetectureError, MinerError
from detecture.miner.addresses import is_address, open_address
from detecture.miner.items import Item
from detecture.miner.sources.ade20k import OBJECT_INFO
from detecture.miner.sources.mirror import Mirror
from detecture.miner.sources.registry import Source, image_path, mark_of

TABLES: dict[str, tuple[str, ...]] = {
    "ade20k": (OBJECT_INFO,),
    "textured_ade20k": (OBJECT_INFO,),
    "coco": ("annotations/panoptic_*.json",),
    "folder": (CLASSES,),
    "sa1b": ("*.tar",),  # read whole, for what is in them
    "rwtd": ("textures_mask/*",),  # several for an item, which names one of them
    "pascal_context": (),
    "bsds500": (),
}
"""Files of each source that are read besides those that its items name; `*` is for `/` too. Of a
source that is not here, these are all files that are no images."""

_KEYS = ("ROOT", "ANNOTATION_ROOT")


class Remote:
    """What of a source lies on object stores; perhaps nothing.

    Attributes:
        cfg: the config with folders of this machine in the place of addresses.
        digest: of the listings, for other processes of the run; empty where nothing was listed.
    """

    def __init__(self, cfg: CfgNode, place: Path, expected: str = "") -> None:
        """List the stores, and make their mirrors.

        Args:
            cfg: the whole config.
            place: folder of the mirrors, where MINER.SOURCE.COPIES names none.
            expected: the digest that the run began with; see `Mirror.prepare`.

        Raises:
            MinerError: an address cannot be opened, listed or read, or holds nothing.
        """
        settings = MinerSourceSettings.from_config(cfg)
        if settings.copies:
            place = expand_location(settings.copies).absolute()
        self.cfg = cfg
        self._mirrors: list[Mirror] = []
        digests: list[str] = []
        for name in _KEYS:
            address = os.path.expandvars(cfg.MINER.SOURCE[name])
            if not is_address(address):
                continue
            key = f"MINER.SOURCE.{name}"
            _require_apart(key, address, MinerRunningSettings.from_config(cfg).store)
            folder = _local_folder(key, address)
            if folder is None:
                mirror = Mirror(key, address, place, TABLES.get(settings.name))
                known = expected.split("-")[len(digests)] if expected else ""
                digests.append(mirror.prepare(known))
                self._mirrors.append(mirror)
                folder = str(mirror.folder)
            self.cfg = self.cfg.clone()
            self.cfg.defrost()
            self.cfg.MINER.SOURCE[name] = folder
        self.digest = "-".join(digests)

    def bind(self, source: Source) -> Source:
        """Have a source fetch what it reads; returns the same one.

        Args:
            source: built with `cfg`.
        """
        if not self._mirrors:
            return source
        by_method: Mapping[str, Callable[[Item], Iterable[Path]]] = {
            "items": lambda *_: (),
            "read_image": lambda item: [image_path(source, item)],
            "image_bytes": lambda item: [image_path(source, item)],
            "read_labels": lambda item: [_annotation_path(source, item)],
            "read_segments": lambda item: [_annotation_path(source, item)],
        }
        for name, paths in by_method.items():
            if (method := getattr(source, name, None)) is not None:
                setattr(source, name, self._fetching(method, paths))
        return source

    def fetch(self, path: Path) -> None:
        """See `Mirror.fetch`; files that are in no mirror are passed over."""
        for mirror in self._mirrors:
            if path.is_relative_to(mirror.folder):
                mirror.fetch(path)

    def mark(self, path: Path) -> str:
        """Changes with a file: of the store by its listing, whether it is here or not."""
        for mirror in self._mirrors:
            if path.is_relative_to(mirror.folder):
                return mirror.mark(path)
        return mark_of(path)

    def _fetching(
        self, method: Callable[..., Any], paths: Callable[..., Iterable[Path]]
    ) -> Callable[..., Any]:
        """A method of a source that has its files there first, and errors that name the store."""

        @functools.wraps(method)
        def fetch_and_call(*args: Any) -> Any:
            for path in paths(*args):
                self.fetch(path)
            try:
                return method(*args)
            except DetectureError as error:
                text = str(error)
                for mirror in self._mirrors:
                    text = text.replace(str(mirror.folder), mirror.address)
                raise type(error)(text) from error

        return fetch_and_call


def _annotation_path(source: Source, item: Item) -> Path:
    folder = Path(getattr(source, "annotation_root", source.root))
    return folder / (item.annotation or "")


def _local_folder(key: str, address: str) -> str | None:
    """The folder of this machine that an address such as file:///images is; None where it isn't.

    Raises:
        MinerError: the address cannot be opened.
    """
    system, root = open_address(key, address)
    protocols = [system.protocol] if isinstance(system.protocol, str) else system.protocol
    return root if "file" in protocols else None


def _require_apart(key: str, address: str, store: str) -> None:
    """See that the mine is not kept among the images.

    Raises:
        MinerError: it is.
    """
    if f"{store.rstrip('/')}/".startswith(f"{address.rstrip('/')}/"):
        raise MinerError(
            f"MINER.RUNNING.STORE {store:.200} lies in {key} {address:.200}; choose another, or "
            "what is written there would be mined next time"
        )

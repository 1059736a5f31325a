"""The images that a config asks for, composed from a bank: from which textures, how unruly."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detecture.config.sections.images import InputSettings
from detecture.d2 import CfgNode, configurable
from detecture.data.synthetic.bank import open_bank, plan_texture
from detecture.data.synthetic.families import FAMILIES
from detecture.data.synthetic.mosaic import compose_mosaic
from detecture.data.synthetic.named_mosaics import Kind, NamedMosaic, compose_named
from detecture.data.synthetic.nouns import kind_of_family
from detecture.data.synthetic.own_textures import read_own_textures
from detecture.data.synthetic.scene import Scene
from detecture.data.synthetic.swatches import compose_swatches


class BankSource:
    """Composes images from a bank, which is drawn here where it is missing: that takes minutes.

    Every process that it is sent to opens the bank's file for itself.
    """

    @configurable
    def __init__(self, *, folder: str, settings: InputSettings) -> None:
        """Open the bank, or draw it.

        Args:
            folder: of the texture bank.
            settings: which textures it has, and how unruly mosaics are, see `compose_mosaic`.

        Raises:
            DatasetError: see `open_bank` and `read_own_textures`.
        """
        bank = settings.texture_bank
        self._bank_address = (folder, bank.count, bank.first)
        self._unruly = settings.unruly
        self._bank: np.ndarray | None = None
        self._own = None
        if bank.named:
            self._own = read_own_textures(bank.named, settings.max_pixels, settings.bands)
        self._opened()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Arguments from a config."""
        settings = InputSettings.from_config(cfg)
        folder = settings.texture_bank.folder or str(Path(cfg.OUTPUT_DIR) / "texture_bank")
        return {"folder": folder, "settings": settings}

    def __getstate__(self) -> dict[str, Any]:
        """All but the memory map, which must not be sent to workers."""
        return {**self.__dict__, "_bank": None}

    def mosaic(
        self, seed: int, index: int, size: int, num_regions: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image, uint8 (S,S,3), and regions, int64 (S,S), of an address, see `compose_mosaic`."""
        return compose_mosaic(self._opened(), seed, index, size, num_regions, unruly=self._unruly)

    def swatches(self, seed: int, index: int, size: int) -> Scene:
        """Image of an address and the truth about it, see `compose_swatches`."""
        _, _, first = self._bank_address
        return compose_swatches(self._opened(), first, seed, index, size)

    @cached_property
    def kinds(self) -> Sequence[Kind]:
        """What the textures are, each kind once."""
        if self._own is not None:
            return list(dict.fromkeys(self._own.kinds))
        return [kind_of_family(name) for name in FAMILIES]

    def kind_of(self, place: int) -> Kind:
        """What the texture at a place in the bank is."""
        if self._own is not None:
            return self._own.kinds[place]
        _, _, first = self._bank_address
        return kind_of_family(plan_texture(first + place).family)

    def named(self, seed: int, index: int, size: int) -> NamedMosaic:
        """Image of an address and what is seen of its regions, see `compose_named`."""
        return compose_named(self._opened(), self.kind_of, seed, index, size, self._unruly)

    def _opened(self) -> np.ndarray:
        """The bank's textures, uint8 (N,T,T,3), as the file of this process."""
        if self._bank is None:
            own = self._own
            self._bank = own.textures if own is not None else open_bank(*self._bank_address)
        return self._bank

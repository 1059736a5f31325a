"""A bank of procedural textures, drawn once: composing images from it takes a third of the time.

Legend: N textures, S side of the square textures in pixels.
"""

import json
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from detecture.checkpoint.atomic import write_text_atomic
from detecture.checkpoint.json_files import set_aside
from detecture.data.synthetic.editions import LATEST_EDITION
from detecture.data.synthetic.moods import draw_natural_mood
from detecture.data.synthetic.streams import stream
from detecture.data.synthetic.texture import TexturePlan, draw_plan, render
from detecture.errors import DatasetError
from detecture.jobs.locks import FolderLock
from detecture.untrusted import read_own_json

logger = logging.getLogger(__name__)

BANK_SIDE = 256

# Seeds below 16 are those of data sets (`detecture.data.datasets.synthetic`).
_BANK_SEED = 16
_FORMAT = 1


def open_bank(folder: str | Path, count: int, first: int = 0) -> np.ndarray:
    """The textures of a folder; what is missing of them is drawn first.

    Texture number i is the same in every bank. A process that is killed while it draws loses what
    it has drawn; processes that want one bank at a time wait for each other.

    Args:
        folder: made where it is missing.
        count: N.
        first: number of the first texture; banks that do not overlap share no texture.

    Returns:
        uint8 (N,S,S,3), read from the file as it is used.

    Raises:
        DatasetError: `count` is not positive, `first` is below 0, or the folder cannot be written.
    """
    if count < 1:
        raise DatasetError(f"INPUT.TEXTURE_BANK.COUNT {count}: a bank has at least one texture")
    if first < 0:
        raise DatasetError(f"INPUT.TEXTURE_BANK.FIRST {first}: textures are numbered from 0")
    folder = Path(folder)
    pixels, about = folder / "textures.npy", folder / "about.json"
    wanted = {
        "edition": LATEST_EDITION,
        "format": _FORMAT,
        "seed": _BANK_SEED,
        "side": BANK_SIDE,
        "first": first,
        "count": count,
    }
    try:
        with _lock(folder):
            if not _is_drawn(pixels, about, wanted):
                # Said before, so that after a kill the textures are known to be of this program.
                write_text_atomic(about, json.dumps({**wanted, "unfinished": True}))
                _draw(pixels, range(first, first + count))
                write_text_atomic(about, json.dumps(wanted))
            return np.load(pixels, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"texture bank {folder}: {error}; set INPUT.TEXTURE_BANK.FOLDER to another folder, "
            f"with room for {count * BANK_SIDE**2 * 3 / 1e9:.1f} GB"
        ) from error


def _is_drawn(pixels: Path, about: Path, wanted: dict[str, int]) -> bool:
    """Whether the textures are there that are wanted; what is damaged is set aside.

    Raises:
        ValueError: there are files that are not of a bank.
    """
    try:
        found = read_own_json(about)
        if not isinstance(found, dict):
            raise ValueError("it holds no table")
    except FileNotFoundError:
        found = {"edition": None} if not pixels.exists() else {}
    except ValueError as error:
        logger.warning("texture bank %s: damaged (%s); it is drawn again", about.parent, error)
        for path in (about, pixels):
            if path.exists():
                set_aside(path)
        return False
    if "edition" not in found:
        raise ValueError(f"{about.name} or {pixels.name} is there, and no bank of this program")
    if found != wanted:
        return False
    try:
        shape = np.load(pixels, mmap_mode="r").shape
    except (OSError, ValueError, EOFError) as error:
        logger.warning("texture bank %s: damaged (%s); it is drawn again", about.parent, error)
        return False
    return bool(shape == (wanted["count"], BANK_SIDE, BANK_SIDE, 3))


def _lock(folder: Path) -> FolderLock:
    return FolderLock(
        folder,
        "lock",
        busy="another process is drawing it",
        remedy="set INPUT.TEXTURE_BANK.FOLDER to another folder",
        error=DatasetError,
        waits=True,
    )


def plan_texture(number: int) -> TexturePlan:
    """What the texture of this number, from 0, is."""
    rng = stream(_BANK_SEED, number, 0)
    return draw_plan(rng, BANK_SIDE, draw_natural_mood(rng), edition=LATEST_EDITION)


def draw_texture(number: int) -> np.ndarray:
    """Texture of this number, from 0: uint8 (S,S,3)."""
    shape = (BANK_SIDE, BANK_SIDE)
    pixels = render(stream(_BANK_SEED, number, 1), plan_texture(number), shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _draw(path: Path, numbers: range) -> None:
    logger.info("Drawing %d textures into %s", len(numbers), path)
    shape = (len(numbers), BANK_SIDE, BANK_SIDE, 3)
    # Not into the file itself: another training may be reading from it.
    drawn = path.with_name(f"{path.name}.part")
    bank = np.lib.format.open_memmap(drawn, mode="w+", dtype=np.uint8, shape=shape)
    for place, number in enumerate(tqdm(numbers, desc="textures")):
        bank[place] = draw_texture(number)
    bank.flush()
    del bank
    drawn.replace(path)

"""The list of picked images, as the page saves it: `dataset/image_id` on each line."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from detecture.errors import MinerError, brief
from detecture.miner.items import safe_id
from detecture.untrusted import open_file, read_at_most

PICKS = "picked_image_names.txt"
"""Name of the file."""

_MOST_BYTES = 64 << 20
_ID = re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9_.%-]*")  # what `safe_id` writes
_SHOWN, _LETTERS = 5, 160  # ids in an error, and letters of each


@dataclass(frozen=True)
class ReviewPick:
    """One line.

    Attributes:
        dataset: name of the source, as `safe_id` writes it; empty where the line has none.
        item_id: of the image.
    """

    dataset: str
    item_id: str


def pick_line(dataset: str, item_id: str) -> str:
    """The line of an image."""
    return f"{safe_id(dataset)}/{item_id}"


def read_picks(path: Path) -> list[ReviewPick]:
    """The picks of a file, each once, in their order; empty lines and `#` comments are passed over.

    Args:
        path: of a list that the page saved, or that somebody wrote; the data set may be left out.

    Raises:
        MinerError: it cannot be read, or a line names no image; says which.
    """
    try:
        with open_file(path) as file:
            content = read_at_most(file, _MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise MinerError(f"{path}: larger than {_MOST_BYTES:,} bytes; is it the list of picks?")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise MinerError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise MinerError(f"{path}: is no text in UTF-8; save the list again") from error
    picks: dict[ReviewPick, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        dataset, _, item_id = line.rpartition("/")
        if not _ID.fullmatch(item_id):
            raise MinerError(
                f"{path}, line {number}: {brief(line)} names no image; write dataset/image_id"
            )
        picks[ReviewPick(dataset, item_id)] = None
    return list(picks)


def picked_ids(picks: Iterable[ReviewPick], dataset: str, known: Iterable[str]) -> list[str]:
    """The ids of one source that were picked, in their order.

    Args:
        picks: those of other data sets are passed over; one without any is of this one.
        dataset: name of the source.
        known: ids that it has.

    Raises:
        MinerError: an id is not among them.
    """
    names = {safe_id(dataset), ""}
    wanted = dict.fromkeys(pick.item_id for pick in picks if pick.dataset in names)
    absent = sorted(wanted.keys() - set(known))
    if absent:
        shown = ", ".join(one[:_LETTERS] for one in absent[:_SHOWN]) + (
            " .." if len(absent) > _SHOWN else ""
        )
        raise MinerError(
            f"{len(absent)} picked images are not in {dataset}: {shown}; take the list of this "
            "source"
        )
    return list(wanted)

"""What the miner works on: one item is one image, under an id that stays the same."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from detecture.checkpoint.atomic import short_name
from detecture.errors import MinerError, brief

_UNSAFE = re.compile(rb"[^A-Za-z0-9_.-]")
_MOST_ID_BYTES = 150  # endings such as `_mask_0.png` are added, and disks take 255


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a source.

    Attributes:
        item_id: the same across runs and machines, unique in a source, and used to name files.
        image: path of the image relative to the source's root, with `/`.
        annotation: likewise, of its label map or segments; None where there is none.
        base_id: id of the image that it is a variant of; its own id where it is not a variant.
        degree: of a variant, as its source gives it; None where there are no variants.
        part: `train`, `val`, `test`, or empty where the source has no parts.
    """

    item_id: str
    image: str
    annotation: str | None = None
    base_id: str = ""
    degree: float | None = None
    part: str = ""

    def __post_init__(self) -> None:
        if not self.base_id:
            object.__setattr__(self, "base_id", self.item_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a journal."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Item":
        """An item from plain values.

        Raises:
            MinerError: they are not those of an item.
        """
        text = all(isinstance(values.get(name), str) for name in ("item_id", "image"))
        try:
            if not text:
                raise TypeError("it has no id, or no image")
            return cls(**values)
        except TypeError as error:
            raise MinerError(f"{brief(dict(values))}: no item of the miner ({error})") from error


def safe_id(text: str) -> str:
    """An id that can be a file name anywhere: letters, digits and `_-.`.

    Other bytes of its UTF-8 are written like `%C3`, and so is a dot at the beginning. Very long ids
    are cut, and end with a digest of the whole.
    """
    encoded = text.encode("utf-8", "surrogatepass")
    safe = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], encoded).decode("ascii")
    if safe.startswith("."):
        safe = f"%2E{safe[1:]}"
    return short_name(safe, _MOST_ID_BYTES)


def degree_text(degree: float) -> str:
    """A degree as it is always written in ids: 1 and 1.0 are `1.0`, .3 is `0.3`."""
    return repr(round(float(degree), 6))

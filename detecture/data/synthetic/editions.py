"""Editions of the generator: what an address shows never changes within one.

Edition 1 is frozen with `synthetic_test`: families, layouts and effects of later editions leave its
bytes alone. A new look means a new edition, or a change of one that no frozen set uses.
"""

from detecture.errors import DatasetError

FIRST_EDITION, LATEST_EDITION = 1, 2


def check_edition(edition: int) -> None:
    """See that there is such an edition.

    Raises:
        DatasetError: there is not.
    """
    if not FIRST_EDITION <= edition <= LATEST_EDITION:
        raise DatasetError(
            f"edition {edition}: the generator of procedural images has editions "
            f"{FIRST_EDITION} to {LATEST_EDITION}"
        )

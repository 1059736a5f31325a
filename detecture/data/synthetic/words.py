"""The words that the names of regions are made of, for a tokenizer of words."""

import re
from collections.abc import Iterable

from detecture.data.lexicon.color_words import color_phrases
from detecture.data.lexicon.phrases import (
    CONTRAST_PHRASES,
    CONTRAST_WORDS,
    ORIENTATION_PHRASES,
    POSITION_PHRASES,
    SCALE_WORDS,
)
from detecture.data.synthetic.families import FAMILIES
from detecture.data.synthetic.names import SHORT_PLACES
from detecture.data.synthetic.nouns import kind_of_family

# Of the grammar, of templates, and small words that phrases are joined with.
_JOINTS = """
a an the and or of on in at to by with from for into along over under between behind before near
around across through beside above below is are its it this that photo image picture scene texture
textured surface area region part side pattern patterned mostly partly shades tones shade tone color
colors colour colours colored colourful left right upper lower top bottom center centre middle edges
background foreground corner horizontal vertical diagonal horizontally vertically diagonally lines
regular irregular fine coarse medium large small smooth rough soft hard dense thin thick light dark
bright pale deep contrast high low moderate wet dry old new clean dirty
"""


def lexicon_words() -> list[str]:
    """All different words of names, lower-case, in the order of the alphabet."""
    return sorted({word for text in _texts() for word in re.findall(r"[^\W_]+", text.lower())})


def _texts() -> Iterable[str]:
    yield _JOINTS
    for phrase in color_phrases():
        yield " ".join(phrase)
    for table in (POSITION_PHRASES, SHORT_PLACES):
        for phrases in table.values():
            yield from phrases
    for words in (SCALE_WORDS, CONTRAST_WORDS, CONTRAST_PHRASES, ORIENTATION_PHRASES):
        yield from words.values()
    for name in FAMILIES:
        yield from kind_of_family(name).nouns

"""The form in which Grounding DINO takes what it is to look for."""

from detecture.errors import ConfigError


def normalize_phrase(phrase: str) -> str:
    """Lower case, one blank between words, and a ` .` behind every noun phrase, the last too.

    Args:
        phrase: one noun phrase, or several divided by dots: `Foreground texture. background`.

    Raises:
        ConfigError: there is no word in it.
    """
    parts = [" ".join(part.split()) for part in phrase.lower().split(".")]
    words = [part for part in parts if part]
    if not words:
        raise ConfigError(
            f"MODEL.GROUNDED_SAM3.PHRASE is {phrase!r}: the detector must be told what to look "
            "for; give a noun phrase, such as 'texture regions'"
        )
    return " . ".join(words) + " ."

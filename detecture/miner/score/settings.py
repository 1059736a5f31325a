"""Settings of the score, and where its two modes differ."""

from detecture.config.sections.miner_stages import ScoreSettings

MODES = ScoreSettings.choices_of("mode")

__all__ = ["MODES", "ScoreSettings"]

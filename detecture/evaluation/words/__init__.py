"""What the sentences of a finished evaluation are worth; docs/words.md defines every measure."""

from detecture.evaluation.words.evaluate import evaluate_words
from detecture.evaluation.words.parser import Claims, Sentence, parse_sentence
from detecture.evaluation.words.table import format_words

__all__ = ["Claims", "Sentence", "evaluate_words", "format_words", "parse_sentence"]

"""Training and evaluation of whatever a config describes."""

from detecture.engine.command_line import argument_parser, log_to_terminal, run, setup
from detecture.engine.evaluate import evaluate, evaluate_dataset, load_model
from detecture.engine.prediction import FailedImage, FailedImages
from detecture.engine.predictor import TexturePredictor
from detecture.engine.result import TextureResult
from detecture.engine.semantic_predictor import SemanticPredictor, predictor_of
from detecture.engine.semantic_result import SemanticResult
from detecture.engine.trainer import Trainer

__all__ = [
    "FailedImage",
    "FailedImages",
    "SemanticPredictor",
    "SemanticResult",
    "TexturePredictor",
    "TextureResult",
    "Trainer",
    "argument_parser",
    "evaluate",
    "evaluate_dataset",
    "load_model",
    "log_to_terminal",
    "predictor_of",
    "run",
    "setup",
]

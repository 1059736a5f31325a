"""Scores to label map, metrics, evaluators, per-sample records."""

from detecture.evaluation.evaluator import EVALUATOR_REGISTRY, TextureSegEvaluator
from detecture.evaluation.guard import GuardedModel
from detecture.evaluation.label_map import InvalidOutput, scores_to_label_map
from detecture.evaluation.metrics import SampleScore, adjusted_rand_index, score_label_map
from detecture.evaluation.regions import RegionEvaluator
from detecture.evaluation.semantic import SemanticEvaluator
from detecture.evaluation.summary import summarize

__all__ = [
    "EVALUATOR_REGISTRY",
    "GuardedModel",
    "InvalidOutput",
    "RegionEvaluator",
    "SampleScore",
    "SemanticEvaluator",
    "TextureSegEvaluator",
    "adjusted_rand_index",
    "score_label_map",
    "scores_to_label_map",
    "summarize",
]

"""Registered heads (Detectron2's SEM_SEG_HEADS_REGISTRY)."""

from detecture.modeling.heads.bridge_head import BridgeHead, HeadShape, SlotLogits, build_head
from detecture.modeling.heads.cost_aggregation import CostAggregationHead, CostHeadShape

__all__ = [
    "BridgeHead",
    "CostAggregationHead",
    "CostHeadShape",
    "HeadShape",
    "SlotLogits",
    "build_head",
]

"""Registered heads (Detectron2's SEM_SEG_HEADS_REGISTRY)."""

from detecture.modeling.heads.bridge_head import BridgeHead, HeadShape, SlotLogits, build_head

__all__ = ["BridgeHead", "HeadShape", "SlotLogits", "build_head"]

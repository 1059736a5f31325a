"""Aggregation of a cost volume: how well each patch fits each class, made into masks.

After CAT-Seg (Cho et al. 2024, arXiv 2303.11797).
"""

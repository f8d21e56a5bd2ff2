"""ROUGE against the best of several references."""

from mh_support.metrics.rouge.rouge import Rouge, from_statistics, item_statistics

__all__ = ["Rouge", "from_statistics", "item_statistics"]

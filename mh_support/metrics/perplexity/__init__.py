"""Perplexity and bits per byte of replies, for a model in memory."""

from mh_support.metrics.perplexity.perplexity import Perplexity, from_statistics, item_statistics

__all__ = ["Perplexity", "from_statistics", "item_statistics"]

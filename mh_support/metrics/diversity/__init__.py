"""Distinct-n, length, repetition and how often a reply ended by itself."""

from mh_support.metrics.diversity.diversity import Diversity, distinct, from_statistics, item_ngrams, item_statistics

__all__ = ["Diversity", "distinct", "from_statistics", "item_ngrams", "item_statistics"]

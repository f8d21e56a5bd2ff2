"""Metrics for replies, each an `evaluate.Metric` that needs no network, and intervals for what they measure.

One idea binds them. A metric's module has two functions beside its class:

- `item_statistics(...)` gives one row of numbers per item, `(items, k)` in float64, and these rows add up;
- `from_statistics(total)` makes the scores from their sum, `(..., k)`; an axis in front gives arrays of scores.

A score is then `from_statistics(item_statistics(...).sum(0))`, and one bootstrap that adds up resampled rows serves
every metric. Distinct-n alone does not add up (two replies share words), so it has an interval of its own.

Example:

    >>> from mh_support.metrics import Rouge
    >>> Rouge().compute(predictions=["I hear you."], references=[["I hear you, friend."]])["rouge1"]
    0.8571428571428571

`evaluate` writes what it is given to its cache until the score is there; `Rouge(keep_in_memory=True)` writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mh_support.metrics.bleu.bleu import Bleu
    from mh_support.metrics.diversity.diversity import Diversity
    from mh_support.metrics.intervals import (
        Difference,
        bootstrap_interval,
        jackknife_interval,
        paired_difference,
        paired_t_difference,
        wilson_interval,
    )
    from mh_support.metrics.perplexity.perplexity import Perplexity
    from mh_support.metrics.rouge.rouge import Rouge

__all__ = [
    "Bleu",
    "Difference",
    "Diversity",
    "Perplexity",
    "Rouge",
    "bootstrap_interval",
    "check_texts",
    "jackknife_interval",
    "paired_difference",
    "paired_t_difference",
    "plain_scores",
    "wilson_interval",
]

# Imported when first asked for: `evaluate` brings torch with it, which takes seconds.
_HOMES = {
    "Bleu": "bleu.bleu",
    "Difference": "intervals",
    "Diversity": "diversity.diversity",
    "Perplexity": "perplexity.perplexity",
    "Rouge": "rouge.rouge",
    "bootstrap_interval": "intervals",
    "jackknife_interval": "intervals",
    "paired_difference": "intervals",
    "paired_t_difference": "intervals",
    "wilson_interval": "intervals",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def check_texts(predictions: Sequence[str] | None, references: Sequence[Sequence[str]] | None = None) -> None:
    """Check what a metric is about to score; an empty prediction is fine (it scores zero), an empty reference is not.

    The errors name places and types, never the texts: these are what people wrote.

    Raises:
        ValueError: no predictions, a prediction that is not text, or (where references are given) not one non-empty
        list
            of non-empty texts for each prediction.
    """
    if predictions is None or isinstance(predictions, str):
        raise ValueError(f"predictions is {type(predictions).__name__}; give a list of texts, one per item")
    if len(predictions) == 0:
        raise ValueError("predictions is empty; give at least one reply to score")
    for index, prediction in enumerate(predictions):
        if not isinstance(prediction, str):
            raise ValueError(
                f"predictions[{index}] is {type(prediction).__name__}; give text ('' if there was no reply)"
            )
    if references is None:
        return
    if len(references) != len(predictions):
        raise ValueError(
            f"{len(predictions)} predictions but {len(references)} lists of references; give one list for each"
        )
    for index, texts in enumerate(references):
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise ValueError(
                f"references[{index}] is {type(texts).__name__}; give a list of texts, even for a single one"
            )
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError(f"references[{index}] has no text or an empty one; leave the item or that reference out")


def plain_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """Return `scores` with single values as Python floats, which YAML and JSON can write; arrays stay arrays."""
    return {name: value if getattr(value, "ndim", 0) else float(value) for name, value in scores.items()}

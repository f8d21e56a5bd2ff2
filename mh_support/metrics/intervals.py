"""How sure a score is: intervals over items, for metrics whose statistics add up and for distinct-n, where they do not.

Every interval is `(low, high)`, or None with fewer than two items (or groups), which say nothing about their spread.
Where items hang together, as the turns of one dialogue do, `groups` names each item's group: whole groups are then
drawn, and the intervals are as wide as they ought to be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

Interval = tuple[float, float]
FromStatistics = Callable[[np.ndarray], dict[str, Any]]


class Difference(NamedTuple):
    """How much b scores above a, and the interval of that; None with fewer than two items."""

    value: float
    interval: Interval | None


def bootstrap_interval(
    statistics: np.ndarray,
    from_statistics: FromStatistics,
    *,
    seed: int,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Interval] | None:
    """Return the percentile bootstrap interval of each score.

    Items are drawn with replacement, as many as there are, `n_resamples` times; the interval holds the middle
    `confidence` of the scores of these draws (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
    13).

    Args:
        statistics: `(items, k)`, from a metric's `item_statistics`.
        from_statistics: the same metric's `from_statistics`.
        seed: the same seed gives the same interval.
        n_resamples: draws; the ends of a 95 % interval want a thousand.
        confidence: between 0 and 1.
        groups: one name per item; items of one name are drawn together.

    Raises:
        ValueError: statistics that are not finite numbers in two dimensions, or another argument out of its range.

    Example:
        >>> statistics = np.array([[0.1, 1], [0.2, 1], [0.6, 1]])
        >>> interval = bootstrap_interval(statistics, lambda total: {"mean": total[..., 0] / total[..., 1]}, seed=0)
        >>> [round(end, 3) for end in interval["mean"]]
        [0.1, 0.6]
    """
    sums = added_up(statistics, groups)
    if len(sums) < 2:
        return None
    return _percentiles(from_statistics(_resampled_totals(sums, n_resamples, seed)), confidence)


def paired_difference(
    statistics_a: np.ndarray,
    statistics_b: np.ndarray,
    from_statistics: FromStatistics,
    *,
    seed: int,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Difference]:
    """Return, for each score, b minus a and the bootstrap interval of that difference.

    Both are scored on the same draws of the same items, so what makes an item hard for both cancels out and the
    interval is narrower than two single ones suggest (Koehn, Statistical Significance Tests for Machine Translation
    Evaluation, 2004). The arguments are those of `bootstrap_interval`; row i of a and of b must be the same item.

    Raises:
        ValueError: a and b differ in shape, or as `bootstrap_interval` does.

    Example:
        >>> base, tuned = np.array([[0.1, 1], [0.2, 1]]), np.array([[0.2, 1], [0.4, 1]])
        >>> gain = paired_difference(base, tuned, lambda total: {"mean": total[..., 0] / total[..., 1]}, seed=0)["mean"]
        >>> round(gain.value, 3), [round(end, 3) for end in gain.interval]
        (0.15, [0.1, 0.2])
    """
    sums_a, sums_b = _paired_sums(statistics_a, statistics_b, groups)
    scores_a, scores_b = from_statistics(sums_a.sum(axis=0)), from_statistics(sums_b.sum(axis=0))
    values = {name: float(scores_b[name] - scores_a[name]) for name in scores_a}
    if len(sums_a) < 2:
        return {name: Difference(value, None) for name, value in values.items()}
    totals = _resampled_totals(np.hstack([sums_a, sums_b]), n_resamples, seed)
    drawn_a, drawn_b = (from_statistics(half) for half in np.split(totals, 2, axis=1))
    intervals = _percentiles({name: drawn_b[name] - drawn_a[name] for name in drawn_a}, confidence)
    return {name: Difference(value, intervals[name]) for name, value in values.items()}


def paired_t_difference(
    statistics_a: np.ndarray,
    statistics_b: np.ndarray,
    from_statistics: FromStatistics,
    *,
    confidence: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Difference]:
    """Return, for each score, b minus a and a t interval of that difference, for when there are few groups.

    A bootstrap of five people draws from five values and is too narrow: where nothing has changed, its lower end is
    above 0 far more often than it says. Here the standard error is the jackknife's, each group left out once (Efron
    and Tibshirani, 1993, chapter 11), and its quantile is of Student's t with one degree of freedom less than groups.
    With as many items in each group it is the t interval of the groups' means. Arguments as of `paired_difference`.

    Raises:
        ValueError: as `paired_difference` does.

    Example:
        >>> base, tuned = np.array([[0.1, 1], [0.2, 1]]), np.array([[0.2, 1], [0.4, 1]])
        >>> gain = paired_t_difference(base, tuned, lambda total: {"mean": total[..., 0] / total[..., 1]})["mean"]
        >>> round(gain.value, 3), [round(end, 3) for end in gain.interval]
        (0.15, [-0.485, 0.785])
    """
    from scipy.stats import t

    _check_confidence(confidence)
    sums_a, sums_b = _paired_sums(statistics_a, statistics_b, groups)
    scores_a, scores_b = from_statistics(sums_a.sum(axis=0)), from_statistics(sums_b.sum(axis=0))
    values = {name: float(scores_b[name] - scores_a[name]) for name in scores_a}
    count = len(sums_a)
    if count < 2:
        return {name: Difference(value, None) for name, value in values.items()}
    left_a, left_b = (from_statistics(sums.sum(axis=0) - sums) for sums in (sums_a, sums_b))
    reach = float(t.ppf(0.5 + confidence / 2, count - 1)) * math.sqrt(count - 1)
    margins = {name: reach * float((left_b[name] - left_a[name]).std()) for name in values}
    return {name: Difference(value, (value - margins[name], value + margins[name])) for name, value in values.items()}


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval | None:
    """Return Wilson's score interval of a share, such as stop_rate; the items are taken to be independent.

    A bootstrap of 50 successes in 50 draws nothing but successes and reports no doubt at all; this does not (Wilson,
    Probable Inference, the Law of Succession, and Statistical Inference, 1927).

    Raises:
        ValueError: `successes` is not between 0 and `n`, or `confidence` not between 0 and 1.

    Example:
        >>> [round(end, 3) for end in wilson_interval(50, 50)]
        [0.929, 1.0]
    """
    from scipy.stats import binomtest

    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}; they must be between 0 and the number of items")
    if n < 2:
        return None
    interval = binomtest(int(successes), int(n)).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def jackknife_interval(
    item_ngrams: Sequence[Counter[tuple[str, ...]]],
    *,
    confidence: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> Interval | None:
    """Return the delete-one jackknife interval of distinct-n, a normal one around its value, within 0 and 1.

    A bootstrap would not do: a reply drawn twice adds its n-grams twice and no new one, so every draw is less varied
    than the set itself and the interval lies below the value. Leaving out one reply at a time repeats nothing (Efron
    and Tibshirani, 1993, chapter 11). The n-grams that only one reply has are counted once for all, so this is one
    pass.

    Args:
        item_ngrams: n-gram counts of each reply, from `diversity.item_ngrams`.
        confidence: between 0 and 1.
        groups: one name per item; items of one name are left out together.

    Raises:
        ValueError: `groups` is not one per item, or `confidence` not between 0 and 1.

    Example:
        >>> from mh_support.metrics.diversity import item_ngrams
        >>> [round(end, 3) for end in jackknife_interval(item_ngrams(["so so sad", "so glad"], 1))]
        [0.273, 0.927]
    """
    _check_confidence(confidence)
    value, left_out = left_out_distinct(item_ngrams, groups)
    if len(left_out) < 2:
        return None
    error = math.sqrt((len(left_out) - 1) * left_out.var())
    margin = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return float(max(0.0, value - margin)), float(min(1.0, value + margin))


def left_out_distinct(
    item_ngrams: Sequence[Counter[tuple[str, ...]]], groups: Sequence[Hashable] | None = None
) -> tuple[float, np.ndarray]:
    """Return distinct-n of all replies, and without each reply or group of them, `(groups,)` as they appear."""
    documents = _merged(item_ngrams, groups)
    holders = Counter(ngram for document in documents for ngram in document)
    lengths = np.array([document.total() for document in documents])
    own = np.array([sum(holders[ngram] == 1 for ngram in document) for document in documents])
    # Where nothing is left there are no n-grams to tell apart, and no different ones either: 0 over 1.
    return len(holders) / max(lengths.sum(), 1), (len(holders) - own) / np.maximum(lengths.sum() - lengths, 1)


def added_up(statistics: np.ndarray, groups: Sequence[Hashable] | None) -> np.ndarray:
    """Return the statistics added up within each group as they appear, `(groups, k)`; nothing is lost by it."""
    array = np.asarray(statistics, dtype=np.float64)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"statistics have the shape {array.shape}; give (items, k) with at least one item")
    if not np.isfinite(array).all():
        raise ValueError("statistics hold a value that is not a finite number; check the metric's item_statistics")
    if groups is None:
        return array
    numbers = _group_numbers(groups, len(array))
    sums = np.zeros((max(numbers) + 1, array.shape[1]))
    np.add.at(sums, numbers, array)
    return sums


def _paired_sums(
    statistics_a: np.ndarray, statistics_b: np.ndarray, groups: Sequence[Hashable] | None
) -> tuple[np.ndarray, np.ndarray]:
    shape_a, shape_b = np.shape(statistics_a), np.shape(statistics_b)
    if shape_a != shape_b:
        raise ValueError(f"the statistics have the shapes {shape_a} and {shape_b}; give both for the same items")
    return added_up(statistics_a, groups), added_up(statistics_b, groups)


def _merged(
    item_ngrams: Sequence[Counter[tuple[str, ...]]], groups: Sequence[Hashable] | None
) -> Sequence[Counter[tuple[str, ...]]]:
    if groups is None:
        return item_ngrams
    merged: dict[int, Counter[tuple[str, ...]]] = {}
    for number, counts in zip(_group_numbers(groups, len(item_ngrams)), item_ngrams, strict=True):
        merged.setdefault(number, Counter()).update(counts)
    return list(merged.values())


def _group_numbers(groups: Sequence[Hashable], items: int) -> list[int]:
    """Return each item's group as a number, counted from 0 in order of appearance."""
    if len(groups) != items:
        raise ValueError(f"{items} items but {len(groups)} groups; name one group for each item")
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def _resampled_totals(sums: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Return the summed statistics of each draw, `(n_resamples, k)`.

    How often each item is drawn is multinomial, so a draw is one product; scipy.stats.bootstrap would hold every item
    of every draw, `(n_resamples, items, k)`, in memory.
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}; it must be 1 or more")
    items = len(sums)
    rng = np.random.default_rng(seed)
    evenly = np.full(items, 1 / items)
    return np.stack([rng.multinomial(items, evenly) @ sums for _ in range(n_resamples)])


def _percentiles(scores: dict[str, Any], confidence: float) -> dict[str, Interval]:
    _check_confidence(confidence)
    tail = (1 - confidence) / 2
    ends = {name: np.quantile(values, [tail, 1 - tail]) for name, values in scores.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95")

"""Comparing groups on the same texts: the difference from the mean of the axis, its interval, and what it proves.

A difference is beyond its bound only where it is larger than the bound by more than chance explains, within it only
where its whole interval is, and open otherwise: too few texts to tell is not the same as alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np

from mh_support.bias.bounds import BEYOND, OPEN, SIGNIFICANCE, WITHIN
from mh_support.metrics import bootstrap_interval, paired_difference, wilson_interval

FLIPS = 9999  # Random sign flips of one test: the smallest p-value is one in ten thousand.


@dataclass(frozen=True)
class Difference:
    """A group's mean, and how far it lies from the mean of all groups of its axis; `p` is of "no more than `bound`"."""

    value: float
    ci95: tuple[float, float]
    difference: float
    difference_ci95: tuple[float, float]
    bound: float
    p: float


def differences(
    values: Mapping[str, np.ndarray], *, bound: float, relative: bool = False, seed: int, n_resamples: int
) -> dict[str, Difference]:
    """Compare each group with the mean of all, text by text.

    Args:
        values: by group, one number a text, `(texts,)`; the texts are the same and in the same order.
        bound: the largest difference that is let pass; with `relative`, as a share of the mean of all groups.
        seed: of the intervals and the test.
        n_resamples: bootstrap draws of the texts.

    Raises:
        ValueError: fewer than two groups or two texts.
    """
    table = _table(values)
    mean = table.mean(axis=0)
    limit = bound * abs(float(mean.mean())) if relative else bound
    found = {}
    for group, own in zip(values, table, strict=True):
        settings: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples}
        interval = bootstrap_interval(_counted(own), _mean, **settings)
        difference = paired_difference(_counted(mean), _counted(own), _mean, **settings)["mean"]
        assert interval is not None and difference.interval is not None
        p = exceeds(own - mean, limit, seed=seed)
        found[group] = Difference(float(own.mean()), interval["mean"], difference.value, difference.interval, limit, p)
    return found


def share_differences(
    values: Mapping[str, np.ndarray], *, bound: float, samples: int, seed: int
) -> dict[str, Difference]:
    """Compare shares of replies as `differences` compares means; a value is the share of a text's `samples` replies.

    A bootstrap of nothing but zeros sees no doubt at all. The intervals are Wilson's, and for a difference Newcombe's,
    a little wide since the same texts were answered.

    Raises:
        ValueError: fewer than two groups or two texts.
    """
    table = _table(values)
    mean = table.mean(axis=0)
    whole, whole_ends = _share(table, samples)
    found = {}
    for group, own in zip(values, table, strict=True):
        share, ends = _share(own, samples)
        apart = newcombe_interval(share, ends, whole, whole_ends)
        p = exceeds(own - mean, bound, seed=seed)
        found[group] = Difference(share, ends, share - whole, apart, bound, p)
    return found


def newcombe_interval(
    share: float, ends: tuple[float, float], other: float, other_ends: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval of `share` minus `other` from the Wilson interval of each.

    The source is Newcombe, Interval Estimation for the Difference Between Independent Proportions, 1998, method 10.

    >>> first, second = wilson_interval(56, 70), wilson_interval(48, 80)
    >>> [round(end, 4) for end in newcombe_interval(56 / 70, first, 48 / 80, second)]
    [0.0524, 0.3339]
    """
    apart = share - other
    below = hypot(share - ends[0], other_ends[1] - other)
    above = hypot(ends[1] - share, other - other_ends[0])
    return apart - below, apart + above


def exceeds(differences: np.ndarray, bound: float, *, seed: int) -> float:
    """Return the p-value of paired differences being no larger than `bound` on the whole, in their own direction.

    What is beyond the bound is tested by flipping signs at random, which supposes no form of distribution but that
    chance errs as often to either side (Good, Permutation Tests, 2000, section 3.2).
    """
    from scipy.stats import permutation_test

    beyond = np.sign(differences.mean()) * differences - bound
    if beyond.mean() <= 0:
        return 1.0
    test = permutation_test(
        (beyond,), np.mean, permutation_type="samples", alternative="greater", n_resamples=FLIPS, rng=seed
    )
    # Each direction was tested where the difference pointed to it: twice the chances.
    return min(1.0, 2 * float(test.pvalue))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number, `(..., tests)`, the same shape.

    Where those below 0.05 are called findings, the chance of any false one is at most 0.05 (Holm, A Simple Sequentially
    Rejective Multiple Test Procedure, 1979).

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, axis=-1)
    tests = p_values.shape[-1]
    raised = np.take_along_axis(p_values, order, axis=-1) * (tests - np.arange(tests))
    adjusted = np.empty_like(raised)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(raised, axis=-1), 1), axis=-1)
    return adjusted


def verdict(difference: Difference, adjusted_p: float) -> str:
    """Return `beyond`, `within` or `open`."""
    if adjusted_p < SIGNIFICANCE:
        return BEYOND
    low, high = difference.difference_ci95
    return WITHIN if -difference.bound <= low and high <= difference.bound else OPEN


def _table(values: Mapping[str, np.ndarray]) -> np.ndarray:
    table = np.stack(list(values.values()))
    if len(table) < 2 or table.shape[1] < 2:
        raise ValueError(f"{len(table)} groups on {table.shape[1]} texts; a comparison needs two of each")
    return table


def _share(shares: np.ndarray, samples: int) -> tuple[float, tuple[float, float]]:
    """Return the share over all texts and its interval."""
    interval = wilson_interval(round(float(shares.sum()) * samples), shares.size * samples)
    assert interval is not None
    return float(shares.mean()), interval


def _counted(values: np.ndarray) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))])


def _mean(total: np.ndarray) -> dict[str, Any]:
    return {"mean": total[..., 0] / total[..., 1]}

"""How far raters agree: Krippendorff's alpha and the intraclass correlation, each with its interval.

Alpha is 1 where raters agree fully and 0 where they agree as chance would. Krippendorff calls 0.667 the lowest value
that carries even tentative conclusions (Content Analysis, 2004, chapter 11).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from mh_support.metrics import bootstrap_interval

LOW = 0.667
MEASURES = {"alpha": "Krippendorff's alpha", "icc": "the ICC"}
FEWEST_REPLIES = 5  # The interval of an ICC over fewer replies covers nearly everything.
Scored = dict[str, Any]


def interval_alpha(values: np.ndarray, groups: Sequence[Hashable], *, seed: int, n_resamples: int) -> Scored | None:
    """Return alpha of numbers.

    Args:
        values: `(raters, replies)`, NaN where a rater gave none.
        groups: each reply's question; replies to one are drawn together.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.

    Returns:
        `value` and `ci95`, or None where no reply has two ratings or all ratings are one number.
    """
    return _alpha(values, _interval_statistics(values), "interval", groups, seed, n_resamples)


def nominal_alpha(values: np.ndarray, groups: Sequence[Hashable], *, seed: int, n_resamples: int) -> Scored | None:
    """Return alpha of choices, as `interval_alpha` does of numbers; the codes 0, 1, 2 stand for what was chosen."""
    return _alpha(values, _nominal_statistics(values), "nominal", groups, seed, n_resamples)


def intraclass_correlation(values: np.ndarray) -> dict[str, Any] | None:
    """Return the ICC for absolute agreement of one rater and of the raters' mean, with 95 % intervals.

    Two-way, raters drawn by chance (Shrout and Fleiss, Intraclass Correlations, 1979: ICC(2,1) and ICC(2,k)), by
    pingouin. Who rated less than half of the replies is left out, so that one who left early does not take everything
    along; of the others' replies, those that all of them rated count.

    Args:
        values: `(raters, replies)`, NaN where a rater gave none.

    Returns:
        `single` and `mean`, each with `value` and `ci95`, `raters` and `replies`; None with fewer than two such raters
        or five such replies, or where all ratings are one number (see `icc_unknown`).
    """
    import pandas as pd
    import pingouin

    if icc_unknown(values) is not None:
        return None
    complete = _complete(values)
    raters, replies = complete.shape
    reply, rater = np.meshgrid(np.arange(replies), np.arange(raters))
    frame = pd.DataFrame({"reply": reply.ravel(), "rater": rater.ravel(), "rating": complete.ravel()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of raters who agree fully: the ratio has no denominator.
        found = pingouin.intraclass_corr(frame, targets="reply", raters="rater", ratings="rating").set_index("Type")
    return {
        "single": _coefficient(found.loc["ICC(A,1)"]),
        "mean": _coefficient(found.loc["ICC(A,k)"]),
        "raters": raters,
        "replies": replies,
    }


def alpha_unknown(values: np.ndarray) -> str | None:
    """Return why there is no alpha of `(raters, replies)`, or None where there is one."""
    paired = _paired(values)
    if paired.size == 0:
        return "nothing was answered by two raters"
    return "all answers are one and the same" if np.nanmax(paired) == np.nanmin(paired) else None


def icc_unknown(values: np.ndarray) -> str | None:
    """Return why there is no ICC of `(raters, replies)`, or None where there is one."""
    complete = _complete(values)
    raters, replies = complete.shape
    if raters < 2:
        return "fewer than two raters rated at least half of the replies"
    if replies < FEWEST_REPLIES:
        return f"the {raters} raters who rated at least half of the replies share fewer than {FEWEST_REPLIES}"
    return "all answers are one and the same" if np.ptp(complete) == 0 else None


def _paired(values: np.ndarray) -> np.ndarray:
    """Return the columns that two raters or more filled."""
    return values[:, (~np.isnan(values)).sum(axis=0) > 1]


def _complete(values: np.ndarray) -> np.ndarray:
    """Return the rows that are at least half full, and of these the columns without a gap."""
    rated = ~np.isnan(values)
    steady = values[2 * rated.sum(axis=1) >= values.shape[1]]
    return steady[:, ~np.isnan(steady).any(axis=0)]


def _coefficient(row: Any) -> Scored:
    low, high = (float(end) for end in row["CI95"])
    known = math.isfinite(low) and math.isfinite(high)
    return {"value": round(float(row["ICC"]), 4), "ci95": [low, high] if known else None}


def _alpha(
    values: np.ndarray, statistics: np.ndarray, level: Any, groups: Sequence[Hashable], seed: int, n_resamples: int
) -> Scored | None:
    import krippendorff

    if alpha_unknown(values) is not None:
        return None
    value = float(krippendorff.alpha(reliability_data=_paired(values), level_of_measurement=level))
    intervals = bootstrap_interval(
        statistics,
        _from_interval_statistics if level == "interval" else _from_nominal_statistics,
        seed=seed,
        n_resamples=n_resamples,
        groups=groups,
    )
    return {"value": round(value, 4), "ci95": None if intervals is None else [round(x, 4) for x in intervals["alpha"]]}


# krippendorff gives alpha and no interval. Its parts add up over replies, so that the bootstrap of every other score
# serves here too; that these parts give the library's own alpha is tested.


def _interval_statistics(values: np.ndarray) -> np.ndarray:
    """Return for each reply: its disagreement, and the count, sum and sum of squares of its ratings.

    Squared differences of m numbers over all pairs are m times the sum of squares less the square of the sum.
    """
    counts = (~np.isnan(values)).sum(axis=0)
    sums, squares = np.nansum(values, axis=0), np.nansum(values**2, axis=0)
    paired = counts > 1
    within = (counts * squares - sums**2) / np.maximum(counts - 1, 1)
    return np.where(paired, [within, counts, sums, squares], 0.0).T


def _from_interval_statistics(total: np.ndarray) -> dict[str, Any]:
    within, count, sums, squares = np.moveaxis(total, -1, 0)
    return {"alpha": _share(within, (count * squares - sums**2) / np.maximum(count - 1, 1))}


def _nominal_statistics(values: np.ndarray) -> np.ndarray:
    """Return for each reply: its ordered pairs of unlike choices over one less than its choices, and each choice."""
    chosen = np.stack([(values == code).sum(axis=0) for code in range(3)]).astype(float)
    counts = chosen.sum(axis=0)
    within = (counts**2 - (chosen**2).sum(axis=0)) / np.maximum(counts - 1, 1)
    return np.where(counts > 1, [within, *chosen], 0.0).T


def _from_nominal_statistics(total: np.ndarray) -> dict[str, Any]:
    within, chosen = total[..., 0], total[..., 1:]
    count = chosen.sum(axis=-1)
    return {"alpha": _share(within, (count**2 - (chosen**2).sum(axis=-1)) / np.maximum(count - 1, 1))}


def _share(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    # A draw in which all ratings are one number holds no disagreement at all.
    return 1 - np.divide(observed, expected, out=np.zeros_like(observed), where=expected > 0)

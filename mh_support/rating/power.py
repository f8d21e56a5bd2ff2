"""How many ratings it takes to see a difference, said before anybody is asked to rate."""

from __future__ import annotations

import math

from mh_support.data.report import table

# A Wilcoxon test needs at most this much more than the t test whose power is computed (Hodges and Lehmann, The
# Efficiency of Some Nonparametric Competitors of the t-Test, 1956: at least 0.864 for any shape of the differences).
WILCOXON_EFFICIENCY = 0.864
FEWEST = 6  # With five differences all of one sign, Wilcoxon's two-sided p is 0.0625: never below 0.05.
_LARGEST_EFFECT = 3.0  # Beyond this FEWEST is enough in any case.
DIFFERENCES = (5, 10, 15, 20)


def questions_needed(difference: float, spread: float, *, power: float = 0.8, comparisons: int = 1) -> int:
    """Return on how many questions two arms must be rated to find a `difference` of their means.

    Several contexts of one question hang together and are tested as one number.

    Args:
        difference: points on the scale of 0 to 100.
        spread: standard deviation of the difference between two replies to one context, in points.
        power: chance of finding it where it is there.
        comparisons: how many pairs of arms are compared; 5 % of error is shared among them.

    Example:
        >>> questions_needed(10, 25)
        60
    """
    from statsmodels.stats.power import TTestPower

    effect = min(difference / spread, _LARGEST_EFFECT)
    number = TTestPower().solve_power(effect_size=effect, alpha=0.05 / comparisons, power=power)
    return max(FEWEST, math.ceil(float(number) / WILCOXON_EFFICIENCY))


def visible_difference(questions: int, spread: float, *, power: float = 0.8, comparisons: int = 1) -> float | None:
    """Return the smallest difference, in points, that so many questions show; None where they are too few for any."""
    from statsmodels.stats.power import TTestPower

    if questions < FEWEST:
        return None
    nobs = questions * WILCOXON_EFFICIENCY
    return spread * float(TTestPower().solve_power(nobs=nobs, alpha=0.05 / comparisons, power=power))


def power_table(*, arms: int, raters: int, spread: float, power: float, comparisons: int) -> str:
    """Return a table of the questions and ratings, one context a question, that differences of 5 to 20 points need."""
    rows = [("difference", "questions", "ratings a rater", "ratings in all")]
    for difference in DIFFERENCES:
        number = questions_needed(difference, spread, power=power, comparisons=comparisons)
        rows.append((f"{difference} of 100 points", f"{number:,}", f"{number * arms:,}", f"{number * arms * raters:,}"))
    return table(rows)

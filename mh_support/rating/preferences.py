"""Who is preferred: choices between two replies, counted and put on one scale by Bradley and Terry's model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mh_support.metrics import bootstrap_interval

# A hint of a tie between all, without which an arm that never lost would be infinitely strong.
REGULARISATION = 0.01
TOLERANCE = 1e-5  # Far below what the intervals tell apart, at half the time of the default.


@dataclass(frozen=True)
class Choice:
    """One rater's choice between the replies of two arms; in a tie either may stand first."""

    winner: str
    loser: str
    tie: bool
    question: Hashable


def win_rates(
    choices: Sequence[Choice], arms: Sequence[str], *, seed: int, n_resamples: int
) -> dict[str, dict[str, Any]] | None:
    """Return each arm's wins, ties and losses, and its `win_rate`: its chance against another arm drawn by chance.

    The chance comes from the Bradley-Terry model, by choix: `P(i before j) = 1 / (1 + exp(s_j - s_i))`; a tie counts
    as half a win for both (Bradley and Terry, Rank Analysis of Incomplete Block Designs, 1952). Arms that met stronger
    ones lose nothing by it, as they would in a plain share of wins. Intervals are bootstrapped by question.

    Returns:
        None where nobody chose.
    """
    if not choices:
        return None
    places = {arm: place for place, arm in enumerate(arms)}
    size = len(arms)
    wins = np.zeros((len(choices), size, size))
    for number, choice in enumerate(choices):
        one, other = places[choice.winner], places[choice.loser]
        wins[number, one, other] = 0.5 if choice.tie else 1.0
        wins[number, other, one] = 0.5 if choice.tie else 0.0

    def from_statistics(total: np.ndarray) -> dict[str, Any]:
        tables = total.reshape(-1, size, size)
        rates = np.stack([_rates(strengths(wins)) for wins in tables]).reshape(*total.shape[:-1], size)
        return {arm: rates[..., place] for arm, place in places.items()}

    rows = wins.reshape(len(choices), -1)
    questions = [choice.question for choice in choices]
    intervals = bootstrap_interval(rows, from_statistics, seed=seed, n_resamples=n_resamples, groups=questions)
    values, scale = from_statistics(rows.sum(axis=0)), strengths(wins.sum(axis=0))
    return {
        arm: {
            "wins": sum(choice.winner == arm and not choice.tie for choice in choices),
            "ties": sum(choice.tie and arm in (choice.winner, choice.loser) for choice in choices),
            "losses": sum(choice.loser == arm and not choice.tie for choice in choices),
            "strength": round(float(scale[place]), 4),
            "win_rate": {
                "value": round(float(values[arm]), 4),
                "ci95": None if intervals is None else [round(end, 4) for end in intervals[arm]],
            },
        }
        for arm, place in places.items()
    }


def strengths(wins: np.ndarray) -> np.ndarray:
    """Return the Bradley-Terry strength of each arm from `wins[i, j]`, how often i was preferred to j; mean 0."""
    import choix

    return choix.ilsr_pairwise_dense(wins, alpha=REGULARISATION, tol=TOLERANCE)


def _rates(scale: np.ndarray) -> np.ndarray:
    against = 1 / (1 + np.exp(scale[None, :] - scale[:, None]))
    return (against.sum(axis=1) - 0.5) / (len(scale) - 1)

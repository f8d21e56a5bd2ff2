"""Who is preferred: choices between two replies, counted and put on one scale by Bradley and Terry's model."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# A hint of a tie between all, without which an arm that never lost would be infinitely strong.
REGULARISATION = 0.01
TOLERANCE = 1e-5  # Far below what the intervals tell apart, at half the time of the default.
DASH = "A dash: no counted choice ties the arm to the others."


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
    ones lose nothing by it, as they would in a plain share of wins.

    Intervals come from a Bayesian bootstrap by question with a prior: in each draw a question weighs as much as a
    number from the exponential distribution (Rubin, The Bayesian Bootstrap, 1981), and each pair of arms that met has
    one more question, half of it won by either, at weights from the gamma distribution of shape 1/2. A plain bootstrap
    of an arm that won everything would draw nothing but wins. Of two arms and a choice a question this is
    Jeffreys' interval, which is honest at small counts (Brown, Cai and DasGupta, Interval Estimation for a Binomial
    Proportion, 2001); as theirs, it always holds the value.

    Returns:
        None where nobody chose. `strength` and `win_rate` are None for an arm that no choice ties to most others.
    """
    if not choices:
        return None
    tied = _tied(choices, arms)
    met = [choice for choice in choices if choice.winner in tied and choice.loser in tied]
    found = _scaled(met, tied, seed, n_resamples) if met else {}
    nothing = {"strength": None, "win_rate": None}
    return {
        arm: {
            "wins": sum(choice.winner == arm and not choice.tie for choice in choices),
            "ties": sum(choice.tie and arm in (choice.winner, choice.loser) for choice in choices),
            "losses": sum(choice.loser == arm and not choice.tie for choice in choices),
            **found.get(arm, nothing),
        }
        for arm in arms
    }


def strengths(wins: np.ndarray) -> np.ndarray:
    """Return the Bradley-Terry strength of each arm from `wins[i, j]`, how often i was preferred to j; mean 0."""
    import choix

    return choix.ilsr_pairwise_dense(wins, alpha=REGULARISATION, tol=TOLERANCE)


def _tied(choices: Sequence[Choice], arms: Sequence[str]) -> list[str]:
    """Return the arms that choices tie together, directly or through others; of several such sets the one largest.

    Arms that nothing ties together stand on no common scale. Of two sets of one size neither is `the others`.
    """
    sets = [{arm} for arm in arms]
    for choice in choices:
        joined = [one for one in sets if one & {choice.winner, choice.loser}]
        sets = [one for one in sets if one not in joined] + [set().union(*joined)]
    largest = max(len(one) for one in sets)
    found = [one for one in sets if len(one) == largest]
    return [arm for arm in arms if arm in found[0]] if len(found) == 1 else []


def _scaled(choices: Sequence[Choice], arms: Sequence[str], seed: int, n_resamples: int) -> dict[str, dict[str, Any]]:
    """Return strength and win rate of arms that are all tied together."""
    places = {arm: place for place, arm in enumerate(arms)}
    questions = {question: number for number, question in enumerate(dict.fromkeys(one.question for one in choices))}
    wins = np.zeros((len(questions), len(arms), len(arms)))
    for choice in choices:
        number, one, other = questions[choice.question], places[choice.winner], places[choice.loser]
        wins[number, one, other] += 0.5 if choice.tie else 1.0
        wins[number, other, one] += 0.5 if choice.tie else 0.0
    scale = strengths(wins.sum(axis=0))
    values = _rates(scale)
    low = high = values
    if len(questions) > 1:
        drawn = np.stack([_rates(strengths(total)) for total in _draws(wins, seed, n_resamples)])
        ends = np.quantile(drawn, [0.025, 0.975], axis=0)
        low, high = np.minimum(ends[0], values), np.maximum(ends[1], values)
    return {
        arm: {
            "strength": round(float(scale[place]), 4),
            "win_rate": {
                "value": round(float(values[place]), 4),
                "ci95": [round(float(end[place]), 4) for end in (low, high)] if len(questions) > 1 else None,
            },
        }
        for arm, place in places.items()
    }


def _draws(wins: np.ndarray, seed: int, n_resamples: int) -> Iterator[np.ndarray]:
    """Yield wins as they might have been, from `(questions, arms, arms)`; see `win_rates`."""
    generator = np.random.default_rng(seed)
    met = wins + wins.transpose(0, 2, 1)
    # One more question of a pair holds as many choices as the pair's own do.
    size = met.sum(axis=0) / np.maximum((met > 0).sum(axis=0), 1)
    for _ in range(n_resamples):
        prior = generator.gamma(0.5, size=size.shape) * size
        yield np.tensordot(generator.exponential(size=len(wins)), wins, axes=1) + prior


def _rates(scale: np.ndarray) -> np.ndarray:
    against = 1 / (1 + np.exp(scale[None, :] - scale[:, None]))
    return (against.sum(axis=1) - 0.5) / (len(scale) - 1)

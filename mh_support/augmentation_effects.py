"""What a study's cells show: perplexity and diversity with intervals, against the same training without additions.

A score differs by the questions that are held out and by the seed of the training. Both variances are added up. That
between seeds is pooled over all lines of the table, since two seeds a line say little of their own spread; it is taken
to be the same for every line, and for a difference twice that of one line. The interval has a quantile of Student's t,
its degrees of freedom after Satterthwaite (An Approximate Distribution of Estimates of Variance Components, 1946).
What seeds and questions make together counts in both, so intervals are a little too wide rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import numpy as np

from mh_support.data.report import table
from mh_support.metrics.diversity.diversity import item_ngrams
from mh_support.metrics.intervals import added_up, left_out_distinct
from mh_support.scores import METRICS

NONE = "none"
SHOWN = {metric.key: metric for metric in METRICS if metric.key in ("perplexity", "distinct2")}
ERROR = 0.05  # Of a table: the chance that any of its verdicts is of nothing.
UNSEEN = "no difference seen"
NOTE = (
    "Intervals (95 %) are over held-out questions and seeds, the spread between seeds taken from all lines together.\n"
    "A verdict is given where the difference is sure even for so many lines (Holm): of tables in which nothing has an\n"
    "effect, about one in twenty at most says that something has. Lower perplexity and higher distinct-2 are better.\n"
    "All cells of a share take the same steps. None of it is done unless it is asked for."
)


@dataclass(frozen=True)
class Cell:
    """One training: its rows, how many of them were added, and its perplexity's statistics and replies by item."""

    dialogues: int
    added: int
    statistics: np.ndarray = field(repr=False)
    replies: list[str] = field(repr=False)


@dataclass(frozen=True)
class _Score:
    """A score of a line: one value a seed, and their mean without each question, `(questions,)`."""

    by_seed: np.ndarray
    left_out: np.ndarray

    @property
    def value(self) -> float:
        return float(self.by_seed.mean())

    @property
    def over_questions(self) -> float:
        """The variance over questions, by the delete-one jackknife."""
        return (len(self.left_out) - 1) * float(self.left_out.var())

    def minus(self, other: _Score) -> _Score:
        return _Score(self.by_seed - other.by_seed, self.left_out - other.left_out)


@dataclass(frozen=True)
class Line:
    """What one way came to on one share: the mean of its rows and of those added, and its scores by name."""

    share: int
    method: str
    dialogues: int
    added: int
    scores: Mapping[str, _Score] = field(repr=False)


@dataclass(frozen=True)
class _Seeds:
    """The variance between the seeds of one line, and its degrees of freedom."""

    variance: float
    freedom: int


def measured(share: int, method: str, cells: Sequence[Cell], groups: Sequence[str]) -> Line:
    """Return a line's scores: the logarithm of perplexity, and distinct-2.

    Args:
        share: percent of the training questions.
        method: the way to more rows, or `none`.
        cells: one a seed.
        groups: each held-out item's question.
    """
    found = {"perplexity": [_log_perplexity(cell, groups) for cell in cells]}
    found["distinct2"] = [left_out_distinct(item_ngrams(cell.replies, 2), groups) for cell in cells]
    scores = {
        name: _Score(np.array([value for value, _ in by_cell]), np.mean([left_out for _, left_out in by_cell], axis=0))
        for name, by_cell in found.items()
    }
    rows = (round(mean(cell.dialogues for cell in cells)), round(mean(cell.added for cell in cells)))
    return Line(share, method, *rows, scores)


def effects(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return the rows of the table: each line's scores, its difference from `none` of its share, and the verdicts.

    A verdict is `helps`, `hurts` or `no difference seen`, and None where nothing was added.
    """
    own = [line for line in lines if line.method == NONE or line.added]  # The others are `none` once more.
    seeds = {name: _between_seeds([line.scores[name] for line in own]) for name in SHOWN}
    plain = {line.share: line for line in lines if line.method == NONE}
    rows = []
    for line in lines:
        against = None if line.method == NONE or not line.added else plain[line.share]
        rows.append(
            {
                **{"share": line.share, "method": line.method, "dialogues": line.dialogues, "added": line.added},
                "perplexity": _perplexity(line, seeds["perplexity"]),
                "distinct2": _distinct2(line, seeds["distinct2"]),
                "minus_none": against and _perplexity_minus(line, against, seeds["perplexity"]),
                "distinct2_minus_none": against and _distinct2_minus(line, against, seeds["distinct2"]),
            }
        )
    _judge(rows)
    return rows


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for how many they are (Holm, A Simple Sequentially Rejective Procedure, 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        corrected[number] = highest
    return corrected


def study_table(result: Mapping[str, Any]) -> str:
    """Return a line a way and share, and below it which ways were not seen to help."""
    head = ("share", "way", "rows", "added", "perplexity", "minus none", "so it", "distinct-2", "minus none", "so it")
    lines: list[tuple[Any, ...]] = [head]
    for row in result["rows"]:
        told = row["verdict"] or {"perplexity": "adds nothing" if row["method"] != NONE else "-", "diversity": "-"}
        lines.append(
            (
                *(f"{row['share']} %", row["method"], f"{row['dialogues']:,}", f"{row['added']:,}"),
                *(SHOWN["perplexity"].show(row["perplexity"]), _signed("perplexity", row["minus_none"])),
                told["perplexity"],
                *(SHOWN["distinct2"].show(row["distinct2"]), _signed("distinct2", row["distinct2_minus_none"])),
                told["diversity"],
            )
        )
    return f"{table(lines)}\n\n{NOTE}{_not_helping(result['rows'])}"


def _not_helping(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the sentence on what was not seen to lower perplexity, which is what more rows are for."""
    shares: dict[str, list[str]] = {}
    for row in rows:
        if row["method"] != NONE and (row["verdict"] is None or row["verdict"]["perplexity"] != "helps"):
            shares.setdefault(row["method"], []).append(f"{row['share']} %")
    told = "; ".join(f"{method} at {', '.join(at)}" for method, at in shares.items())
    return f"\nNot seen to help perplexity here: {told}." if told else ""


def _signed(key: str, difference: Mapping[str, Any] | None) -> str:
    return "-" if difference is None else SHOWN[key].show(difference, signed=True)


def _log_perplexity(cell: Cell, groups: Sequence[str]) -> tuple[float, np.ndarray]:
    """Return nats a token of all items, and without each question."""
    nats, tokens = added_up(cell.statistics, groups)[:, :2].T
    # With one question nothing is left without it, and there is no interval either.
    left_out = (nats.sum() - nats) / np.maximum(tokens.sum() - tokens, 1)
    return float(nats.sum() / tokens.sum()), left_out


def _between_seeds(scores: Sequence[_Score]) -> _Seeds:
    """Pool the variance between the seeds of a line over all lines."""
    freedom = sum(len(score.by_seed) - 1 for score in scores)
    squares = sum(float(((score.by_seed - score.value) ** 2).sum()) for score in scores)
    return _Seeds(squares / freedom if freedom else 0.0, freedom)


def _perplexity(line: Line, seeds: _Seeds) -> dict[str, Any]:
    score = line.scores["perplexity"]
    return _scored(math.exp, score.value, _spread(score, seeds, lines=1))


def _distinct2(line: Line, seeds: _Seeds) -> dict[str, Any]:
    score = line.scores["distinct2"]
    return _scored(lambda value: min(1.0, max(0.0, value)), score.value, _spread(score, seeds, lines=1))


def _perplexity_minus(line: Line, plain: Line, seeds: _Seeds) -> dict[str, Any]:
    """Return the difference in points of perplexity: what the ratio and its ends come to from `none`'s perplexity."""
    one, other = line.scores["perplexity"], plain.scores["perplexity"]
    ratio, height = one.minus(other), math.exp(other.value)
    found = _spread(ratio, seeds, lines=2)
    by_seed = (np.exp(one.by_seed) - np.exp(other.by_seed)).tolist()
    scored = _scored(lambda value: height * math.expm1(value), ratio.value, found)
    return {**scored, "by_seed": by_seed, "p": found and found["p"]}


def _distinct2_minus(line: Line, plain: Line, seeds: _Seeds) -> dict[str, Any]:
    score = line.scores["distinct2"].minus(plain.scores["distinct2"])
    found = _spread(score, seeds, lines=2)
    scored = _scored(float, score.value, found)
    return {**scored, "by_seed": score.by_seed.tolist(), "p": found and found["p"]}


def _spread(score: _Score, seeds: _Seeds, *, lines: int) -> dict[str, float] | None:
    """Return half the width of the 95 % interval of a score of one line or two, and the p of its being 0.

    None with one question, or where no line has two seeds: then nothing is known of chance.
    """
    from scipy.stats import t

    questions = len(score.left_out)
    if questions < 2 or not seeds.freedom:
        return None
    parts = [(score.over_questions, questions - 1), (lines * seeds.variance / len(score.by_seed), seeds.freedom)]
    variance = sum(part for part, _ in parts)
    if not variance:
        return {"margin": 0.0, "p": float(score.value == 0)}
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    error = math.sqrt(variance)
    return {"margin": float(t.ppf(0.975, freedom)) * error, "p": 2 * float(t.sf(abs(score.value) / error, freedom))}


def _judge(rows: Sequence[dict[str, Any]]) -> None:
    """Write the verdicts into the rows, both scores of all lines corrected together."""
    names = {"perplexity": "minus_none", "diversity": "distinct2_minus_none"}
    compared = [row[key] for row in rows for key in names.values() if row[key] is not None]
    tested = [difference for difference in compared if difference["p"] is not None]
    corrected = iter(holm([difference["p"] for difference in tested]))
    for difference in compared:
        difference["p_holm"] = None if difference["p"] is None else next(corrected)
    for row in rows:
        known = row["minus_none"] is not None
        row["verdict"] = {name: _verdict(name, row[key]) for name, key in names.items()} if known else None


def _verdict(name: str, difference: Mapping[str, Any]) -> str:
    if difference["p_holm"] is None or difference["p_holm"] >= ERROR:
        return UNSEEN
    return "helps" if (difference["value"] < 0) == (name == "perplexity") else "hurts"


def _scored(shown: Callable[[float], float], value: float, found: Mapping[str, float] | None) -> dict[str, Any]:
    """Return a value and its interval as they are shown."""
    ends = None if found is None else [round(shown(value + sign * found["margin"]), 4) for sign in (-1, 1)]
    return {"value": round(shown(value), 4), "ci95": ends}

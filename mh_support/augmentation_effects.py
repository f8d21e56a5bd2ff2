"""What a study's cells show: perplexity and diversity with intervals, against the same training without additions.

Intervals are over held-out questions, with the seeds of a cell taken together. A difference counts only if its interval
leaves out 0 and every seed shows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, mean
from typing import Any

import numpy as np

from mh_support.data.report import table
from mh_support.metrics import bootstrap_interval, paired_difference
from mh_support.metrics.diversity import diversity
from mh_support.metrics.perplexity import perplexity
from mh_support.scores import METRICS

SHOWN = {metric.key: metric for metric in METRICS if metric.key in ("perplexity", "distinct2")}
NOTE = (
    "Intervals (95 %) are over held-out questions, seeds together; a difference counts only if every seed shows it.\n"
    "Lower perplexity and higher distinct-2 are better. All cells of a share take the same steps. None of it is done\n"
    "unless it is asked for."
)
_MARGIN = NormalDist().inv_cdf(0.975)
Scored = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training: its rows, how many of them were added, and its perplexity's statistics and replies by item."""

    dialogues: int
    added: int
    statistics: np.ndarray = field(repr=False)
    replies: list[str] = field(repr=False)


def effects(
    cells: Sequence[Cell], plain: Sequence[Cell], groups: Sequence[str], *, seed: int, n_resamples: int
) -> dict[str, Any]:
    """Return one line of the table: the cells of one way, a seed each, against those without additions.

    Args:
        cells: one a seed.
        plain: those without additions, in the same order; `cells` themselves for their own line.
        groups: each held-out item's question.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.
    """
    drawn: dict[str, Any] = {"seed": seed, "n_resamples": n_resamples, "groups": groups}
    pooled, before = (np.sum([cell.statistics for cell in some], axis=0) for some in (cells, plain))
    intervals = bootstrap_interval(pooled, perplexity.from_statistics, **drawn)
    value = perplexity.from_statistics(pooled.sum(axis=0))["perplexity"]
    line = {
        "dialogues": round(mean(cell.dialogues for cell in cells)),
        "added": round(mean(cell.added for cell in cells)),
        "perplexity": _scored(value, None if intervals is None else intervals["perplexity"]),
        "distinct2": _jackknifed(lambda items: _distinct(cells, items), groups),
    }
    if cells is plain or not line["added"]:
        return {**line, "minus_none": None, "distinct2_minus_none": None, "verdict": None}
    found = paired_difference(before, pooled, perplexity.from_statistics, **drawn)["perplexity"]
    gain = {
        **_scored(found.value, found.interval),
        "by_seed": [_perplexity(one) - _perplexity(other) for one, other in zip(cells, plain, strict=True)],
    }
    varied = {
        **_jackknifed(lambda items: _distinct(cells, items) - _distinct(plain, items), groups),
        "by_seed": [
            diversity.distinct(one.replies, 2) - diversity.distinct(other.replies, 2)
            for one, other in zip(cells, plain, strict=True)
        ],
    }
    verdict = {"perplexity": shown(gain, lower_is_better=True), "diversity": shown(varied, lower_is_better=False)}
    return {**line, "minus_none": gain, "distinct2_minus_none": varied, "verdict": verdict}


def shown(difference: Mapping[str, Any], *, lower_is_better: bool) -> str:
    """Say what a difference shows: `helps`, `hurts`, or nothing where chance or the seed may have made it."""
    interval, seeds = difference["ci95"], difference["by_seed"]
    if interval is None:
        return "shows nothing"
    if interval[1] < 0 and max(seeds) < 0:
        return "helps" if lower_is_better else "hurts"
    if interval[0] > 0 and min(seeds) > 0:
        return "hurts" if lower_is_better else "helps"
    return "shows nothing"


def study_table(result: Mapping[str, Any]) -> str:
    """Return a line a way and share, and below it which ways did not help."""
    head = ("share", "way", "rows", "added", "perplexity", "minus none", "so it", "distinct-2", "minus none", "so it")
    lines: list[tuple[Any, ...]] = [head]
    for row in result["rows"]:
        told = row["verdict"] or {"perplexity": "adds nothing" if row["method"] != "none" else "-", "diversity": "-"}
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
    """Return the sentence on what did not lower perplexity, which is what more rows are for."""
    shares: dict[str, list[str]] = {}
    for row in rows:
        if row["method"] != "none" and (row["verdict"] is None or row["verdict"]["perplexity"] != "helps"):
            shares.setdefault(row["method"], []).append(f"{row['share']} %")
    told = "; ".join(f"{method} at {', '.join(at)}" for method, at in shares.items())
    return f"\nDid not help perplexity here: {told}." if told else ""


def _signed(key: str, difference: Mapping[str, Any] | None) -> str:
    return "-" if difference is None else SHOWN[key].show(difference, signed=True)


def _perplexity(cell: Cell) -> float:
    return float(perplexity.from_statistics(cell.statistics.sum(axis=0))["perplexity"])


def _distinct(cells: Sequence[Cell], items: Sequence[int]) -> float:
    """Return distinct-2 of the replies to some items, the mean over seeds."""
    return mean(diversity.distinct([cell.replies[item] for item in items], 2) for cell in cells)


def _jackknifed(of_items: Callable[[Sequence[int]], float], groups: Sequence[str]) -> Scored:
    """Return a score of items with its delete-one-question jackknife interval; see `metrics.jackknife_interval`."""
    items = range(len(groups))
    value = of_items(items)
    names = sorted(set(groups))
    if len(names) < 2:
        return _scored(value, None)
    left_out = [of_items([item for item in items if groups[item] != name]) for name in names]
    margin = _MARGIN * math.sqrt((len(names) - 1) * float(np.var(left_out)))
    return _scored(value, (value - margin, value + margin))


def _scored(value: float, interval: tuple[float, float] | None) -> Scored:
    ends = None if interval is None else [round(float(end), 4) for end in interval]
    return {"value": round(float(value), 4), "ci95": ends}

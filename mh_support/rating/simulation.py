"""Simulated raters, whose mind is stated: does the analysis find the order that was put in, and see who disagrees?

One crowd shares a preference: each rater reads an arm's replies at a stated height, give or take some noise. The other
shares nothing: each rater reads each reply anywhere on the scale. What they say is kept apart from what people say, and
never gets into a run's folder or on a card.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mh_support.data.report import table
from mh_support.files import read_json, write_json
from mh_support.rating.agreement import LOW
from mh_support.rating.analysis import EVERYBODY, AnalyseArguments, analyse
from mh_support.rating.answers import AnswerStore, Rater
from mh_support.rating.making import MakeArguments, make_set
from mh_support.rating.questions import CRITERIA, SCALE, WIN_RATE
from mh_support.rating.rating_set import KEY_FILE, SIMULATED, RatingSet
from mh_support.rating.report import write_report
from mh_support.run_folder import RunFolder

ALIKE, UNLIKE = "alike", "unlike"
ORDER = ("human", "tuned", "constant", "base")  # From the best, by kind of arm; of one kind, in the set's order.
HIGHEST, LOWEST = 80.0, 20.0
TOLD = CRITERIA[:3]  # Safety is always read as high: a veto would turn choices, and is another matter.
SAFE = 90
Reading = Callable[[str], dict[str, int]]


@dataclass
class SimulateArguments:
    """How well simulated raters read, and how the intervals are drawn."""

    noise: float = field(default=15, metadata={"help": "Standard deviation of a rater's reading, in points of 100."})
    n_resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples for the 95 %% intervals."})

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 100:
            raise ValueError(f"noise is {self.noise}; give points from 0 to 100, such as 15")
        if self.n_resamples < 1:
            raise ValueError(f"n_resamples is {self.n_resamples}; give 1 or more")


def simulate(
    runs: Sequence[RunFolder], making: MakeArguments, arguments: SimulateArguments, *, progress: bool = True
) -> dict[str, Any]:
    """Make a set, let both crowds rate it, and return what was told and what the analysis found of each crowd.

    The set stands in `alike` and again in `unlike` under the folder that `making` names, each with its report.

    Raises:
        ValueError: the set cannot be made; see `making.make_set`.
    """
    folder = Path(making.out)
    if folder.exists():
        raise ValueError(f"{folder} is there already; give --out a new folder")
    key = make_set(runs, replace(making, out=str(folder / ALIKE)), progress=progress)
    # Said in the set itself, so that nothing takes these for people's answers, whoever analyses them.
    write_json(folder / ALIKE / KEY_FILE, {**read_json(folder / ALIKE / KEY_FILE), SIMULATED: True})
    shutil.copytree(folder / ALIKE, folder / UNLIKE)
    told = told_order({arm: about["kind"] for arm, about in key["arms"].items()})
    found = {}
    for crowd in (ALIKE, UNLIKE):
        rating_set = RatingSet(folder / crowd)
        store = AnswerStore(rating_set)
        for number in range(1, making.raters + 1):
            chance = random.Random(f"{key['seed']} {crowd} {number}")
            heights = {reply: told[arm] for reply, arm in key["replies"].items()} if crowd == ALIKE else None
            rate(
                store, Rater(f"simulated-{number}", "peer"), _reader(sorted(key["replies"]), heights, chance, arguments)
            )
        found[crowd] = analyse(rating_set, AnalyseArguments(seed=key["seed"], n_resamples=arguments.n_resamples))
        write_report(rating_set, found[crowd])
    return {"told": told, "noise": arguments.noise, "raters": making.raters, **found}


def told_order(kinds: Mapping[str, str]) -> dict[str, float]:
    """Return how high the crowd that shares a preference reads each arm, the best first."""
    arms = sorted(kinds, key=lambda arm: ORDER.index(kinds[arm]))
    step = (HIGHEST - LOWEST) / max(1, len(arms) - 1)
    return {arm: HIGHEST - step * place for place, arm in enumerate(arms)}


def rate(store: AnswerStore, rater: Rater, reading: Reading) -> None:
    """Keep a rater's answers to the whole set; of two replies the one that is read higher is preferred."""
    answers: dict[str, Any] = {}
    for task in store.rating_set.order(rater.name):
        scores = [reading(reply) for reply in task.reply_ids]
        if task.kind == "rating":
            answers[task.id] = scores[0]
            continue
        one, other = (sum(score.values()) for score in scores)
        answers[task.id] = {"preferred": "neither" if one == other else "first" if one > other else "second"}
    store.save_sheet(rater, answers)


def recovered(told: Mapping[str, float], result: Mapping[str, Any]) -> dict[str, bool]:
    """Return for each criterion, and for the choices, whether the arms stand in the order that was told."""
    found = result["groups"][EVERYBODY]
    values = {metric.label: {arm: found["means"][arm][metric.key]["value"] for arm in told} for metric in TOLD}
    rates = {arm: found["win_rates"][arm]["win_rate"] for arm in told}
    values[WIN_RATE.label] = {arm: rate["value"] for arm, rate in rates.items() if rate is not None}
    # Who has no rate was not put in any order.
    return {
        name: len(by) == len(told) and sorted(told, key=lambda arm: -by[arm]) == list(told)
        for name, by in values.items()
    }


def simulation_table(result: Mapping[str, Any]) -> str:
    """Return what was told and found, the agreement of both crowds, and in words what that shows."""
    alike, unlike = (result[crowd]["groups"][EVERYBODY] for crowd in (ALIKE, UNLIKE))
    lines = [[f"{result['raters']} raters alike", "told", *(metric.label for metric in TOLD), WIN_RATE.label]]
    for arm, height in result["told"].items():
        means = [metric.show(alike["means"][arm][metric.key]) for metric in TOLD]
        rate = alike["win_rates"][arm]["win_rate"]
        lines.append([arm, f"{height:.1f}", *means, "-" if rate is None else WIN_RATE.show(rate)])
    order = recovered(result["told"], result[ALIKE])
    lines.append(["in the order told", "", *("yes" if right else "no" for right in order.values())])
    agreed = [["Krippendorff's alpha", "raters alike", "raters unlike"]]
    for name in (*(metric.key for metric in TOLD), "preference"):
        alphas = [crowd["agreement"][name]["alpha"] for crowd in (alike, unlike)]
        agreed.append([name, *("-" if alpha is None else WIN_RATE.show(alpha) for alpha in alphas)])
    return f"{table(lines)}\n\n{table(agreed)}\n\n{_words(result, order)}"


def _words(result: Mapping[str, Any], order: Mapping[str, bool]) -> str:
    warned = any(warning.startswith("Low agreement") for warning in result[UNLIKE]["warnings"])
    found, seen = (f"was {'' if right else 'not '}" for right in (all(order.values()), warned))
    return (
        f"The order told, with {result['noise']:g} points of noise, {found}recovered. "
        f"That raters disagree {seen}seen (alpha below {LOW})."
    )


def _reader(
    replies: Sequence[str], heights: Mapping[str, float] | None, chance: random.Random, arguments: SimulateArguments
) -> Reading:
    """Return how one rater reads each reply: around its height, or anywhere where there are no heights."""
    low, high = SCALE

    def read(reply: str) -> int:
        value = chance.uniform(low, high) if heights is None else chance.gauss(heights[reply], arguments.noise)
        return round(min(high, max(low, value)))

    scores = {reply: {**{metric.key: read(reply) for metric in TOLD}, "safety": SAFE} for reply in replies}
    return scores.__getitem__

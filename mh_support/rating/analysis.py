"""What a set's ratings say: means, differences, win rates, vetoes, and how far the raters can be relied on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mh_support.data.report import table
from mh_support.metrics import bootstrap_interval, wilson_interval
from mh_support.rating.agreement import (
    LOW,
    MEASURES,
    Scored,
    alpha_unknown,
    icc_unknown,
    interval_alpha,
    intraclass_correlation,
    nominal_alpha,
)
from mh_support.rating.answers import AnswerStore
from mh_support.rating.preferences import Choice, win_rates
from mh_support.rating.questions import CRITERIA, PREFERENCES, QUALIFICATIONS, WIN_RATE, Answer, vetoes
from mh_support.rating.rating_set import SIMULATED, RatingSet, compared, read_key
from mh_support.run_folder import now

EVERYBODY = "all"


@dataclass
class AnalyseArguments:
    """How intervals are drawn."""

    seed: int = field(default=42, metadata={"help": "Seed of the intervals."})
    n_resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples for the 95 %% intervals."})

    def __post_init__(self) -> None:
        if self.n_resamples < 1:
            raise ValueError(f"n_resamples is {self.n_resamples}; give 1 or more")


@dataclass(frozen=True)
class _Rated:
    """One rater's rating of one reply, and whose reply it is."""

    rater: str
    qualification: str
    reply: str
    arm: str
    context: str
    question: int
    answer: Answer


@dataclass(frozen=True)
class _Chosen:
    """One rater's choice between two replies, the first shown first."""

    rater: str
    qualification: str
    pair: str
    replies: tuple[str, str]
    question: int
    preferred: str


def analyse(rating_set: RatingSet, arguments: AnalyseArguments) -> dict[str, Any]:
    """Return what the ratings say, over everybody and by qualification, and what stands against relying on it.

    Raises:
        ValueError: nobody has rated yet, or key or answers are not this set's.
    """
    key = read_key(rating_set)
    raters = AnswerStore(rating_set).all()
    if not raters:
        raise ValueError(f"no answers in {rating_set.folder}; have the set rated with recipes/rate.py serve or export")
    rated, chosen = _unblinded(rating_set, key, raters)
    present = {rater.qualification for rater in raters}
    groups = [EVERYBODY, *(name for name in QUALIFICATIONS if name in present)]
    found = {
        group: _group(
            [rating for rating in rated if group in (EVERYBODY, rating.qualification)],
            [choice for choice in chosen if group in (EVERYBODY, choice.qualification)],
            key,
            arguments,
        )
        for group in groups
    }
    counts = Counter(rater.qualification for rater in raters)
    result = {
        "set": rating_set.id,
        "analysed": now(),
        "arms": {arm: about["kind"] for arm, about in key["arms"].items()},
        "plan": key["plan"],
        "contexts_left_out": key["left_out"],
        "raters": {EVERYBODY: len(raters), **{name: counts[name] for name in QUALIFICATIONS}},
        "ratings": len(rated),
        "choices": len(chosen),
        "groups": found,
    }
    result["simulated"] = bool(key.get(SIMULATED))
    return {**result, "warnings": _warnings(result)}


def run_results(result: Mapping[str, Any], key: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """Return what belongs into one run's `ratings.json`: its own arm and the hidden ones, under the rows' names.

    Other runs' models are left out, whose names are nobody's business where this model is published.
    """
    about = key["arms"][arm]
    names = {
        name: other["kind"]
        for name, other in key["arms"].items()
        if name == arm
        or other["kind"] in ("human", "constant")
        or (other["kind"] == "base" and other["weights"] == about["base_weights"])
    }
    order = [name for kind in ("base", "tuned", "constant", "human") for name in names if names[name] == kind]
    groups = {
        group: {
            "raters": found["raters"],
            **{part: {names[name]: found[part][name] for name in order} for part in ("means", "vetoes")},
            "win_rates": found["win_rates"] and {names[name]: found["win_rates"][name] for name in order},
            "comparisons": [
                {**line, "one": names[line["one"]], "other": names[line["other"]]}
                for line in found["comparisons"]
                if line["one"] == arm and line["other"] in names
            ],
            **{name: found[name] for name in ("agreement", "agreement_unknown")},
        }
        for group, found in result["groups"].items()
    }
    kept = ("set", "analysed", "plan", "contexts_left_out", "raters", "ratings", "choices", "warnings")
    arms = {"arms_in_set": len(key["arms"]), "weights": about["weights"], "data": about["data"]}
    return {**{name: result[name] for name in kept}, **arms, "groups": groups}


def results_table(result: Mapping[str, Any], group: str = EVERYBODY) -> str:
    """Return the means, win rates and vetoes of one group of raters as a table: a line an arm."""
    found = result["groups"][group]
    lines = [[f"raters: {group}", *(metric.label for metric in CRITERIA), WIN_RATE.label, "Vetoed"]]
    for arm in result["arms"]:
        scores = [found["means"][arm].get(metric.key) for metric in CRITERIA]
        cells = ["-" if s is None else metric.show(s) for metric, s in zip(CRITERIA, scores, strict=True)]
        rate = found["win_rates"] and found["win_rates"][arm]["win_rate"]
        veto = found["vetoes"][arm]
        lines.append([arm, *cells, WIN_RATE.show(rate) if rate else "-", f"{veto['vetoed']} of {veto['replies']}"])
    return table(lines)


def groups_shown(result: Mapping[str, Any]) -> list[str]:
    """Return all raters, and each qualification where there are several: one alone would say the same again."""
    groups = list(result["groups"])
    return groups if len(groups) > 2 else [EVERYBODY]


def _unblinded(
    rating_set: RatingSet, key: Mapping[str, Any], raters: Mapping[Any, Mapping[str, Answer]]
) -> tuple[list[_Rated], list[_Chosen]]:
    rated: list[_Rated] = []
    chosen: list[_Chosen] = []
    for rater, answers in raters.items():
        for task_id, answer in answers.items():
            task = rating_set.tasks[task_id]
            question = key["questions"][task.context_id]
            who = (rater.name, rater.qualification, task_id)
            if len(task.reply_ids) == 2:
                one, other = task.reply_ids
                chosen.append(_Chosen(*who, (one, other), question, answer["preferred"]))
            else:
                rated.append(_Rated(*who, key["replies"][task_id], task.context_id, question, answer))
    return rated, chosen


def _group(
    rated: Sequence[_Rated],
    chosen: Sequence[_Chosen],
    key: Mapping[str, Any],
    arguments: AnalyseArguments,
) -> dict[str, Any]:
    """Return all figures of one group of raters; a choice counts against a reply that anybody of the group vetoed."""
    vetoed = {rating.reply for rating in rated if vetoes(rating.answer)}
    choices, turned = _counted(chosen, vetoed, key["replies"])
    drawn = {"seed": arguments.seed, "n_resamples": arguments.n_resamples}
    agreement = _agreement(rated, chosen, drawn)
    return {
        "raters": len({rating.rater for rating in rated} | {choice.rater for choice in chosen}),
        "ratings": len(rated),
        "means": {arm: _means([rating for rating in rated if rating.arm == arm], drawn) for arm in key["arms"]},
        "comparisons": _comparisons(rated, key["arms"], drawn),
        "win_rates": win_rates(choices, list(key["arms"]), **drawn),
        "choices": {"given": len(chosen), "turned_by_veto": turned, "both_vetoed": len(chosen) - len(choices)},
        "vetoes": {arm: _vetoes([rating for rating in rated if rating.arm == arm]) for arm in key["arms"]},
        "agreement": agreement,
        "agreement_unknown": _unknown(agreement),
    }


def _means(rated: Sequence[_Rated], drawn: Mapping[str, int]) -> dict[str, Scored]:
    """Return the mean of each criterion over the ratings of one arm, with the interval by question."""
    if not rated:
        return {}
    means: dict[str, Scored] = {}
    for metric in CRITERIA:
        values = np.array([rating.answer[metric.key] for rating in rated], dtype=float)
        means[metric.key] = {**_mean(values, [rating.question for rating in rated], drawn), "ratings": len(rated)}
    return means


def _mean(values: np.ndarray, questions: Sequence[int], drawn: Mapping[str, int]) -> Scored:
    rows = np.column_stack([values, np.ones(len(values))])
    intervals = bootstrap_interval(
        rows, lambda total: {"mean": total[..., 0] / total[..., 1]}, groups=questions, **drawn
    )
    interval = None if intervals is None else [round(end, 4) for end in intervals["mean"]]
    return {"value": round(float(values.mean()), 4), "ci95": interval}


def _comparisons(rated: Sequence[_Rated], arms: Mapping[str, Any], drawn: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return how each tuned model differs from every other arm, Holm's correction over the pairs of one criterion."""
    # statsmodels' own collects all garbage each time, which takes longer than all else here.
    from pingouin import multicomp

    pairs = compared([(name, about["kind"]) for name, about in arms.items()])
    lines = []
    for metric in CRITERIA:
        found = [_difference(rated, one, other, metric.key, drawn) for one, other in pairs]
        tested = [line for line in found if line["p"] is not None]
        if tested:
            _, corrected = multicomp([line["p"] for line in tested], method="holm")
            for line, p_holm in zip(tested, corrected, strict=True):
                line["p_holm"] = round(float(p_holm), 6)
        lines += found
    return lines


def _difference(
    rated: Sequence[_Rated], one: str, other: str, criterion: str, drawn: Mapping[str, int]
) -> dict[str, Any]:
    """Compare two arms by the differences that each rater saw within each context, averaged by question.

    A strict rater and a hard context are the same for both arms and fall out of the difference. What is tested, by
    Wilcoxon's signed ranks, is one number a question, so that several raters of one reply do not count as many replies.
    """
    given = {(rating.rater, rating.context, rating.arm): rating for rating in rated}
    by_question: dict[int, list[float]] = defaultdict(list)
    for (rater, context, arm), rating in given.items():
        against = given.get((rater, context, other)) if arm == one else None
        if against is not None:
            by_question[rating.question].append(rating.answer[criterion] - against.answer[criterion])
    line: dict[str, Any] = {"criterion": criterion, "one": one, "other": other, "questions": len(by_question)}
    if not by_question:
        return {**line, "value": None, "ci95": None, "p": None, "p_holm": None}
    differences = np.array([np.mean(values) for values in by_question.values()])
    p_value = round(_signed_ranks(differences), 6)
    return {**line, **_mean(differences, list(by_question), drawn), "p": p_value, "p_holm": None}


def _signed_ranks(differences: np.ndarray) -> float:
    """Return the two-sided p of Wilcoxon's signed ranks, by scipy; those that are 0 say nothing and are left out.

    Exact where no two are of one size; else by the normal approximation with its corrections, since going through every
    sign of tied ranks, as scipy would, takes seconds a comparison.
    """
    from scipy.stats import wilcoxon

    told = differences[differences != 0]
    if told.size == 0:
        return 1.0
    if len(np.unique(np.abs(told))) == told.size:
        return float(wilcoxon(told).pvalue)
    return float(wilcoxon(told, method="asymptotic", correction=True).pvalue)


def _vetoes(rated: Sequence[_Rated]) -> dict[str, Any]:
    """Return how many of an arm's rated replies any of these raters vetoed."""
    replies = {rating.reply for rating in rated}
    vetoed = {rating.reply for rating in rated if vetoes(rating.answer)}
    interval = wilson_interval(len(vetoed), len(replies))
    share = None if not replies else round(len(vetoed) / len(replies), 4)
    ends = None if interval is None else [round(end, 4) for end in interval]
    return {"replies": len(replies), "vetoed": len(vetoed), "share": share, "ci95": ends}


def _counted(chosen: Sequence[_Chosen], vetoed: set[str], owners: Mapping[str, str]) -> tuple[list[Choice], int]:
    """Return the choices as won and lost, and how many a veto turned.

    A reply that was vetoed loses to one that was not, whatever was preferred; two vetoed ones do not meet.
    """
    counted, turned = [], 0
    for choice in chosen:
        one, other = choice.replies
        bad = [reply in vetoed for reply in choice.replies]
        if all(bad):
            continue
        preferred = choice.preferred
        if any(bad):
            preferred = "second" if bad[0] else "first"
            turned += preferred != choice.preferred
        winner, loser = (other, one) if preferred == "second" else (one, other)
        counted.append(Choice(owners[winner], owners[loser], preferred == "neither", choice.question))
    return counted, turned


def _agreement(
    rated: Sequence[_Rated], chosen: Sequence[_Chosen], drawn: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return alpha and ICC of each criterion, and alpha of the choices, over all arms' replies.

    What is None has its reason under `unknown`; choices are no numbers, and no ICC is asked of them.
    """
    found: dict[str, dict[str, Any]] = {}
    for metric in CRITERIA:
        values, questions = _matrix(
            [(rating.rater, rating.reply, rating.question, rating.answer[metric.key]) for rating in rated]
        )
        found[metric.key] = {
            "alpha": interval_alpha(values, questions, **drawn),
            "icc": intraclass_correlation(values),
            "unknown": {"alpha": alpha_unknown(values), "icc": icc_unknown(values)},
        }
    codes = {preferred: code for code, preferred in enumerate(PREFERENCES)}
    values, questions = _matrix(
        [(choice.rater, choice.pair, choice.question, codes[choice.preferred]) for choice in chosen]
    )
    found["preference"] = {
        "alpha": nominal_alpha(values, questions, **drawn),
        "icc": None,
        "unknown": {"alpha": alpha_unknown(values), "icc": None},
    }
    return found


def _matrix(given: Sequence[tuple[str, str, int, float]]) -> tuple[np.ndarray, list[int]]:
    """Return `(raters, things)` with NaN for what was not rated, and each thing's question."""
    raters = {rater: row for row, rater in enumerate(sorted({line[0] for line in given}))}
    questions = {thing: question for _, thing, question, _ in sorted(given)}
    columns = {thing: column for column, thing in enumerate(questions)}
    values = np.full((len(raters), len(columns)), np.nan)
    for rater, thing, _, value in given:
        values[raters[rater], columns[thing]] = value
    return values, list(questions.values())


def _unknown(agreement: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each reason for which it is not known how far raters agree."""
    asked: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, line in agreement.items():
        for measure, reason in line["unknown"].items():
            if reason is not None:
                asked[MEASURES[measure], reason].append(name)
    return [
        f"How far raters agree is not known from {measure}: {reason} ({', '.join(names)})."
        for (measure, reason), names in asked.items()
    ]


def _warnings(result: Mapping[str, Any]) -> list[str]:
    """Return what stands against relying on these ratings, a sentence each; they stand on the card as well."""
    plan, everybody = result["plan"], result["groups"][EVERYBODY]
    said = ["Simulated raters: no person has rated this set."] if result["simulated"] else []
    if result["ratings"] < plan["ratings"]:
        said.append(f"Fewer ratings than planned: {result['ratings']:,} of {plan['ratings']:,}.")
    if plan["questions"] < plan["questions_needed"]:
        said.append(
            f"Fewer questions than needed to see a difference of {plan['difference']:g} points: "
            f"{plan['questions']:,} of {plan['questions_needed']:,}."
        )
    if result["raters"][EVERYBODY] == 1:
        said.append("One rater alone: nothing is known of how far others would agree.")
    else:
        said += everybody["agreement_unknown"]
    alphas = {name: found["alpha"] for name, found in everybody["agreement"].items() if found["alpha"] is not None}
    low = [f"{name} {alpha['value']:.2f}" for name, alpha in alphas.items() if alpha["value"] < LOW]
    if low:
        said.append(f"Low agreement between raters (Krippendorff's alpha below {LOW}): {', '.join(low)}.")
    if not result["raters"]["licensed"]:
        said.append("No licensed professional is among the raters.")
    human, constant = (everybody["means"][arm].get("relevance") for arm in ("human", "constant"))
    if human and constant and human["value"] <= constant["value"]:
        said.append(
            "The replies that people wrote were not rated more relevant than one and the same sentence for everybody: "
            "the raters may not have read closely, or the references are weak."
        )
    return said

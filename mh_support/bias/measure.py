"""Measuring a run's bias: routing, replies and descriptors in a row, and what of it lies outside the bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mh_support.bias.bounds import ADDED_PAIRS, BEYOND, MEASURES, SIGNIFICANCE
from mh_support.bias.comparison import Difference, holm, verdict
from mh_support.bias.descriptors import Likelihood, compare_descriptors, descriptor_statistics
from mh_support.bias.replies import compare_replies
from mh_support.bias.routing import compare_routing
from mh_support.bias.swaps import TEXTS, Texts, read_texts
from mh_support.files import read_json, sha256_of, write_json
from mh_support.generation import DECODING
from mh_support.modeling import weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety.fitness import checks_fingerprint
from mh_support.scoring import ScoringArguments, load_row_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class BiasArguments:
    """Whether and how groups of people are compared."""

    bias: bool = field(
        default=False, metadata={"help": "Compare crisis routing, replies and descriptors for groups of people too."}
    )
    bias_alone: bool = field(default=False, metadata={"help": "Compare groups only, and leave the scores as they are."})
    bias_samples: int = field(default=2, metadata={"help": "Replies to each text, for each group; more tell more."})
    bias_limit: int | None = field(
        default=None, metadata={"help": "Disclosures of each kind, for a quick look; two at least."}
    )

    def __post_init__(self) -> None:
        self.bias = self.bias or self.bias_alone
        if self.bias_samples < 1:
            raise ValueError(f"bias_samples is {self.bias_samples}; give 1 or more")
        if self.bias_limit is not None and self.bias_limit < 2:
            raise ValueError(f"bias_limit is {self.bias_limit}; give 2 or more, one text tells nothing of chance")


def measure_bias(
    run: RunFolder,
    arguments: BiasArguments,
    scoring: ScoringArguments,
    *,
    texts_file: Path = TEXTS,
    output: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Compare groups of people as a finished run's model and the crisis check treat them; write it to `bias.json`.

    Args:
        scoring: batch size, longest reply, seed and resamples are those that the run is scored with.
        texts_file: the texts, those that come with the package unless another file of their form is given.
        output: the file to write, where it is not to be the run's own.

    Raises:
        ValueError: the run is not finished, or its base model is no longer what it was made from.
    """
    record = RunFolder.open(run.path).record()
    texts = read_texts(texts_file)
    routing = compare_routing(texts, limit=arguments.bias_limit, progress=progress)
    base = descriptor_statistics(*load_row_model(run, record, "base"), texts, batch_size=scoring.batch_size)
    model, tokenizer = load_row_model(run, record, "tuned")
    tuned = descriptor_statistics(model, tokenizer, texts, batch_size=scoring.batch_size)
    likelihoods = compare_descriptors(tuned, base, seed=scoring.seed, n_resamples=scoring.n_resamples)
    replies = _replies(model, tokenizer, texts, arguments, scoring, progress)
    result: dict[str, Any] = {
        **made_from(run, arguments, scoring, texts_file),
        "routing": routing,
        "replies": judged_replies(replies),
        "descriptors": judged_descriptors(likelihoods),
    }
    result["findings"] = findings(result)
    write_json(run.bias_file if output is None else output, result)
    return result


def made_from(
    run: RunFolder, arguments: BiasArguments, scoring: ScoringArguments, texts_file: Path = TEXTS
) -> dict[str, Any]:
    """Return what a result depends on: the weights, the texts, the checks and the settings."""
    return {
        "weights": weights_fingerprint(run.model),
        "texts": sha256_of([texts_file]),
        "checks": checks_fingerprint(),
        "settings": _settings(arguments, scoring),
    }


def measured_bias(
    path: Path, run: RunFolder, arguments: BiasArguments, scoring: ScoringArguments
) -> dict[str, Any] | None:
    """Return what a file holds of a run's bias, or None where it is missing, or measured in another way."""
    if not path.is_file():
        return None
    found: dict[str, Any] = read_json(path)
    made = made_from(run, arguments, scoring)
    return found if {key: found.get(key) for key in made} == made else None


def _replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    arguments: BiasArguments,
    scoring: ScoringArguments,
    progress: bool,
) -> dict[str, dict[str, dict[str, Difference]]]:
    return compare_replies(
        model,
        tokenizer,
        texts,
        samples=arguments.bias_samples,
        limit=arguments.bias_limit,
        batch_size=scoring.batch_size,
        max_new_tokens=scoring.max_new_tokens,
        seed=scoring.seed,
        n_resamples=scoring.n_resamples,
        progress=progress,
    )


def judged_replies(replies: Mapping[str, Mapping[str, Mapping[str, Difference]]]) -> dict[str, Any]:
    """Return the comparisons of replies with their verdicts; p-values are adjusted for all of them together."""
    places = [
        (axis, group, key) for axis, groups in replies.items() for group, found in groups.items() for key in found
    ]
    adjusted = holm(np.array([replies[axis][group][key].p for axis, group, key in places]))
    judged: dict[str, Any] = {axis: {group: {} for group in groups} for axis, groups in replies.items()}
    for (axis, group, key), p in zip(places, adjusted.tolist(), strict=True):
        difference = replies[axis][group][key]
        judged[axis][group][key] = _rounded({**asdict(difference), "p": p}) | {"verdict": verdict(difference, p)}
    return judged


def judged_descriptors(likelihoods: Mapping[str, Likelihood]) -> dict[str, Any]:
    """Return what was found of each axis's descriptors, with p-values adjusted for the number of axes."""
    adjusted = holm(np.array([likelihood.p for likelihood in likelihoods.values()]))
    judged = {}
    for (axis, likelihood), p in zip(likelihoods.items(), adjusted.tolist(), strict=True):
        groups = {group: {"value": value, "ci95": ends} for group, (value, ends) in likelihood.groups.items()}
        judged[axis] = _rounded({**asdict(likelihood), "p": p, "groups": groups})
    return judged


def findings(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what lies outside the bounds: its kind, its axis, and a line that says it.

    Any difference in routing is one; a difference of replies or descriptors is where it is beyond its bound by more
    than chance explains.
    """
    found = []
    for axis, routing in result["routing"]["axes"].items():
        if routing["differing"]:
            whose = ", ".join(group for group, one in routing["groups"].items() if one["differing"])
            count = f"{routing['differing']} of {routing['disclosures']} disclosures"
            resources = f"{routing['resources_differing']} with other resources"
            line = f"crisis routing by {axis}: {count} are not routed alike, {resources} ({whose})"
            found.append({"kind": "routing", "axis": axis, "line": line})
    for axis, groups in result["replies"].items():
        for group, measures in groups.items():
            for measure in MEASURES:
                one = measures[measure.key]
                if one["verdict"] == BEYOND:
                    bound = f"{one['bound']:.{measure.decimals}f}"
                    line = (
                        f"{measure.label.lower()} by {axis}: {group} {measure.show(one)} from the mean, bound {bound}"
                    )
                    found.append({"kind": measure.key, "axis": axis, "line": line})
    for axis, one in result["descriptors"].items():
        if one["p"] < SIGNIFICANCE:
            line = (
                f"perplexity of descriptors by {axis}: {one['differing']} of {one['pairs']} pairs of groups differ, "
                f"{one['base_differing']} in the base model"
            )
            found.append({"kind": "descriptors", "axis": axis, "line": line})
    return found


def _settings(arguments: BiasArguments, scoring: ScoringArguments) -> dict[str, Any]:
    bounds = {measure.key: measure.bound_in_words for measure in MEASURES}
    return {
        "samples": arguments.bias_samples,
        "limit": arguments.bias_limit,
        "seed": scoring.seed,
        "batch_size": scoring.batch_size,
        "max_new_tokens": scoring.max_new_tokens,
        "n_resamples": scoring.n_resamples,
        "decoding": ", ".join(f"{key}={value}" for key, value in DECODING.items()),
        "bounds": {
            "routing": "none may differ",
            **bounds,
            "descriptors": f"{ADDED_PAIRS:g} more of the pairs than the base",
        },
    }


def _rounded(value: Any) -> Any:
    """Return numbers to six decimals at any depth, as results.json has them."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value

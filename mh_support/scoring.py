"""Honest scores: base and tuned model beside replies that need no model, each with its interval."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mh_support.baselines import (
    ScoredItem,
    constant_replies,
    human_replies,
    nearest_replies,
    random_replies,
    scored_items,
)
from mh_support.data.preparation import data_fingerprint, load_prepared, originals
from mh_support.data.report import table
from mh_support.data.splitting import shared_questions
from mh_support.dialogue import EncodedReply, encode_reply
from mh_support.files import write_json, write_jsonl
from mh_support.generation import (
    BATCH_SIZE,
    DECODING,
    MAX_NEW_TOKENS,
    GeneratedReply,
    generate_replies,
    generation_config,
)
from mh_support.memory import keep_freed_memory
from mh_support.metrics import bootstrap_interval, jackknife_interval, paired_difference, wilson_interval
from mh_support.metrics.bleu import bleu
from mh_support.metrics.diversity import diversity
from mh_support.metrics.perplexity import perplexity
from mh_support.metrics.rouge import rouge
from mh_support.modeling import load_model, load_tokenizer, state_fingerprint, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.scores import METRICS, ROWS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class ScoringArguments:
    """How a run is scored."""

    limit: int | None = field(default=None, metadata={"help": "Score this many held-out dialogues, for a quick look."})
    train_items: int | None = field(
        default=None, metadata={"help": "Training contexts scored beside them; by default as many as held-out ones."}
    )
    batch_size: int = field(default=BATCH_SIZE, metadata={"help": "Replies generated at once, at most."})
    max_new_tokens: int = field(default=MAX_NEW_TOKENS, metadata={"help": "Tokens a reply has at most."})
    seed: int = field(default=42, metadata={"help": "Seed of sampling, random replies and intervals."})
    n_resamples: int = field(default=1000, metadata={"help": "Bootstrap resamples for the 95 %% intervals."})

    def __post_init__(self) -> None:
        for name in ("limit", "train_items", "batch_size", "max_new_tokens", "n_resamples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")


@dataclass(frozen=True)
class Scores:
    """One row's additive statistics by metric module, for intervals and differences, and its finished scores."""

    statistics: dict[Any, np.ndarray]
    groups: list[str]
    values: dict[str, dict[str, Any]]


def score_run(run: RunFolder, arguments: ScoringArguments, *, progress: bool = True) -> dict[str, Any]:
    """Score a finished run on its test split and on as much of its training split; write both into its files.

    Raises:
        ValueError: the run is not finished, or its data or base model are no longer what it was made from.
    """
    record = RunFolder.open(run.path).record()
    if data_fingerprint(run.data) != record["fingerprints"]["data"]:
        raise ValueError(f"the data in {run.data} is not what the run was trained on; restore it or train again")
    dialogues = load_prepared(run.data)
    leaks = shared_questions({name: [row["messages"] for row in rows] for name, rows in dialogues.items()})
    training = scored_items(originals(dialogues["train"]))
    items = {"test": scored_items(sample(dialogues["test"], arguments.limit, arguments.seed))}
    count = arguments.train_items if arguments.train_items is not None else len(items["test"])
    items["train"] = sample(training, count, arguments.seed)
    keep_freed_memory()
    scores = {split: _baseline_scores(items[split], training, arguments) for split in items}
    replies: dict[str, dict[str, list[str]]] = {split: {} for split in items}
    for row in ("base", "tuned"):
        model, tokenizer = load_row_model(run, record, row)
        for split in items:
            label = f"{row} on {split}" if progress else None
            scores[split][row], written = model_scores(model, tokenizer, items[split], arguments, label)
            replies[split][row] = written
        del model
    results = _results(run, items, scores, len({place[2:] for place in leaks}), arguments)
    write_jsonl(run.replies_file, _reply_rows(items, replies, training, arguments))
    write_json(run.results_file, results)
    return results


def results_table(results: dict[str, Any], split: str = "test") -> str:
    """Return one split's scores as a table: a line a metric, a column a row, with 95 % intervals."""
    rows = results["splits"][split]["rows"]
    lines = [[f"{split}, {results['splits'][split]['items']} replies", *(ROWS[row] for row in rows)]]
    for metric in METRICS:
        scores = [scored.get(metric.key) for scored in rows.values()]
        if any(scores):
            lines.append([metric.label, *("-" if score is None else metric.show(score) for score in scores)])
    return table(lines)


def sample(rows: Sequence[Any], count: int | None, seed: int) -> list[Any]:
    """Return `count` of the rows by chance, in their order; all where there are no more."""
    if count is None or count >= len(rows):
        return list(rows)
    return [rows[index] for index in sorted(random.Random(seed).sample(range(len(rows)), count))]


def load_row_model(run: RunFolder, record: dict[str, Any], row: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a run's `base` or `tuned` model and its tokenizer.

    Raises:
        ValueError: the base model is no longer what the run started from.
    """
    if row == "tuned":
        return load_model(str(run.model)), load_tokenizer(str(run.model))
    base = record["base_model"]
    model = load_model(base["name_or_path"], revision=base["revision"])
    if state_fingerprint(model) != record["fingerprints"]["base_weights"]:
        raise ValueError(
            f"the base model {base['name_or_path']} is not the one the run started from; restore it or train again"
        )
    return model, load_tokenizer(base["name_or_path"], revision=base["revision"])


def _baseline_scores(
    items: Sequence[ScoredItem], training: Sequence[ScoredItem], arguments: ScoringArguments
) -> dict[str, Scores]:
    references = [item.references for item in items]
    groups = [item.group for item in items]
    rows = {
        "constant": constant_replies(items),
        "random": random_replies(items, training, seed=arguments.seed),
        "nearest": nearest_replies(items, training),
    }
    scores = {row: _text_scores(replies, references, groups, arguments) for row, replies in rows.items()}
    pairs = human_replies(items, seed=arguments.seed)
    first = [item.references[0] for item in items]
    human = _diversity(first, None, groups, arguments)
    if len(pairs) > 1:
        several = [item.group for item in items if len(item.references) > 1]
        against = _overlap([reply for reply, _ in pairs], [others for _, others in pairs], several, arguments)
        human = Scores({}, groups, {**against.values, **human.values})
    return {**scores, "human": human}


def model_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[ScoredItem],
    arguments: ScoringArguments,
    label: str | None,
) -> tuple[Scores, list[str]]:
    """Return a model's scores on the items, and what it replied."""
    config = generation_config(tokenizer, max_new_tokens=arguments.max_new_tokens)
    generated = generate_replies(
        model,
        tokenizer,
        [item.context for item in items],
        config,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        progress=label,
    )
    groups = [item.group for item in items]
    text = _text_scores(
        [reply.text for reply in generated], [item.references for item in items], groups, arguments, generated
    )
    positions = int(model.config.max_position_embeddings)
    rows, owners = encode_references(tokenizer, items, max_length=positions)
    each = perplexity.item_statistics(
        model, rows, pad_token_id=tokenizer.pad_token_id, batch_size=arguments.batch_size, progress=label is not None
    )
    # Summed over an item's references, so that all metrics have one line of statistics an item.
    statistics = np.zeros((len(items), each.shape[1]))
    np.add.at(statistics, owners, each)
    fit = _additive({perplexity: statistics}, groups, arguments)
    whole = Scores({**text.statistics, **fit.statistics}, groups, {**fit.values, **text.values})
    return whole, [reply.text for reply in generated]


def encode_references(
    tokenizer: PreTrainedTokenizerBase, items: Sequence[ScoredItem], *, max_length: int
) -> tuple[list[EncodedReply], list[int]]:
    """Return each reference of each item as a row in which it alone is scored, and the number of the item it is of."""
    rows, owners = [], []
    for number, item in enumerate(items):
        for reference in item.references:
            messages = [*item.context, {"role": "assistant", "content": reference}]
            rows.append(encode_reply(tokenizer, messages, max_length=max_length))
            owners.append(number)
    return rows, owners


def _text_scores(
    replies: Sequence[str],
    references: Sequence[Sequence[str]],
    groups: list[str],
    arguments: ScoringArguments,
    generated: Sequence[GeneratedReply] | None = None,
) -> Scores:
    stopped = None if generated is None else [reply.stopped for reply in generated]
    overlap = _overlap(replies, references, groups, arguments)
    variety = _diversity(replies, stopped, groups, arguments)
    return Scores({**overlap.statistics, **variety.statistics}, groups, {**overlap.values, **variety.values})


def _overlap(
    replies: Sequence[str], references: Sequence[Sequence[str]], groups: list[str], arguments: ScoringArguments
) -> Scores:
    statistics = {module: module.item_statistics(replies, references) for module in (rouge, bleu)}
    return _additive(statistics, groups, arguments)


def _diversity(
    replies: Sequence[str], stopped: Sequence[bool] | None, groups: list[str], arguments: ScoringArguments
) -> Scores:
    scores = _additive({diversity: diversity.item_statistics(replies, stopped)}, groups, arguments)
    for order in (1, 2):
        interval = jackknife_interval(diversity.item_ngrams(replies, order), groups=groups)
        scores.values[f"distinct{order}"] = _scored(diversity.distinct(replies, order), interval)
    if stopped is not None:
        # A bootstrap of replies that all stop sees no doubt at all.
        scores.values["stop_rate"]["ci95"] = _rounded(wilson_interval(sum(stopped), len(stopped)))
    return scores


def _additive(statistics: dict[Any, np.ndarray], groups: list[str], arguments: ScoringArguments) -> Scores:
    values: dict[str, dict[str, Any]] = {}
    for module, rows in statistics.items():
        intervals = bootstrap_interval(
            rows, module.from_statistics, seed=arguments.seed, n_resamples=arguments.n_resamples, groups=groups
        )
        for name, value in module.from_statistics(rows.sum(axis=0)).items():
            values[name] = _scored(value, None if intervals is None else intervals[name])
    return Scores(statistics, groups, values)


def _scored(value: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    return {"value": round(float(value), 6), "ci95": _rounded(interval)}


def _rounded(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else [round(float(end), 6) for end in interval]


def _results(
    run: RunFolder,
    items: dict[str, list[ScoredItem]],
    scores: dict[str, dict[str, Scores]],
    leaks: int,
    arguments: ScoringArguments,
) -> dict[str, Any]:
    splits = {
        split: {
            "items": len(items[split]),
            "references": sum(len(item.references) for item in items[split]),
            "rows": {row: _in_order(scores[split][row].values) for row in ROWS},
        }
        for split in items
    }
    return {
        "weights": weights_fingerprint(run.model),
        "data": data_fingerprint(run.data),
        "leakage": {"checked": True, "shared_questions": leaks},
        "settings": {
            "limit": arguments.limit,
            "seed": arguments.seed,
            "batch_size": arguments.batch_size,
            "max_new_tokens": arguments.max_new_tokens,
            "decoding": ", ".join(f"{key}={value}" for key, value in DECODING.items()),
            "bleu_signature": bleu.signature([item.references for item in items["test"]]),
            "intervals": f"95 %: bootstrap by question ({arguments.n_resamples} resamples), Wilson for the stop rate, "
            "jackknife for distinct-n",
            "human_items": sum(len(item.references) > 1 for item in items["test"]),
        },
        "splits": splits,
        "gain": {"test": _gain(scores["test"]["base"], scores["test"]["tuned"], arguments)},
        "memorisation": _memorisation(splits),
    }


def _in_order(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {metric.key: values[metric.key] for metric in METRICS if metric.key in values}


def _gain(base: Scores, tuned: Scores, arguments: ScoringArguments) -> dict[str, dict[str, Any]]:
    """Return tuned minus base for each metric, with the interval of that difference."""
    gain: dict[str, dict[str, Any]] = {}
    for module, rows in tuned.statistics.items():
        differences = paired_difference(
            base.statistics[module],
            rows,
            module.from_statistics,
            seed=arguments.seed,
            n_resamples=arguments.n_resamples,
            groups=tuned.groups,
        )
        for name, difference in differences.items():
            gain[name] = _scored(difference.value, difference.interval)
    return _in_order(gain)


def _memorisation(splits: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the tuned model's scores on training and test questions and the gap, which is what it only remembers."""
    gaps = {}
    for metric in ("perplexity", "rougeL", "bleu"):
        train, test = (splits[split]["rows"]["tuned"][metric]["value"] for split in ("train", "test"))
        gaps[metric] = {"train": train, "test": test, "gap": round(train - test, 6)}
    return gaps


def _reply_rows(
    items: dict[str, list[ScoredItem]],
    replies: dict[str, dict[str, list[str]]],
    training: Sequence[ScoredItem],
    arguments: ScoringArguments,
) -> list[dict[str, Any]]:
    rows = []
    for split, chosen in items.items():
        columns = {
            **replies[split],
            "constant": constant_replies(chosen),
            "random": random_replies(chosen, training, seed=arguments.seed),
            "nearest": nearest_replies(chosen, training),
        }
        for number, item in enumerate(chosen):
            said = {row: texts[number] for row, texts in columns.items()}
            rows.append(
                {
                    "split": split,
                    "item": number,
                    "context": item.context,
                    "references": item.references,
                    "replies": said,
                }
            )
    return rows

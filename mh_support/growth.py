"""Growing training data: contexts that nobody answered, answered by a tuned model, and kept only where that is sure.

This is self-training (Xie et al., Self-training with Noisy Student, 2020; He et al., Revisiting Self-Training for
Neural Sequence Generation, 2020): a model teaches its successor, which learns its faults too unless the doubtful
answers go. An answer is kept if it passes every check that stands between a model and a person, ends by itself, does
not repeat itself, and

- is likely: its mean log-likelihood a token, given its context, and
- belongs to its context: that mean less the same without the context, which takes out replies that would fit anything
  (Li et al., A Diversity-Promoting Objective Function for Neural Conversation Models, 2016),

are both at least those of a stated share of the model's own answers to the run's validation contexts. So the threshold
is in each model's own measure, and known before. People's replies would be no threshold: to a small model they are far
less likely than what it says itself, and all would pass. Both are in nats, and higher is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mh_support.baselines import scored_items
from mh_support.data.contexts import FIT, LEFT_OUT, Context, made_ready, sift
from mh_support.data.grown import GROWTH, grower, held_out_fingerprint
from mh_support.data.preparation import SAME_REPLY, data_fingerprint, load_prepared
from mh_support.data.report import table
from mh_support.data.splitting import near_duplicates, normalise
from mh_support.dialogue import encode_prompt, encode_reply
from mh_support.files import write_json, write_jsonl
from mh_support.generation import (
    BATCH_SIZE,
    MAX_NEW_TOKENS,
    GeneratedReply,
    generate_replies,
    generation_config,
    prompt_room,
)
from mh_support.metrics.diversity import diversity
from mh_support.metrics.perplexity.perplexity import item_statistics
from mh_support.run_folder import RunFolder
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.echoes import Echoes
from mh_support.safety.fitness import ECHO, why_unfit
from mh_support.scoring import load_row_model, sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What came of an answer, in the order in which it is looked at.
DROPPED = {
    "unfinished": "answer dropped: does not end by itself",
    "unsafe": "answer dropped: fails the check of replies",
    "echo": "answer dropped: repeats text that the model was trained on",
    "repetition": "answer dropped: repeats itself",
    "unlikely": "answer dropped: less likely than the threshold",
    "generic": "answer dropped: its context makes it too little likelier",
    "same_reply": "answer dropped: nearly the same as one that is kept",
}
FATES = {FIT: "kept: answered, and the answer passed", **LEFT_OUT, **DROPPED}
REPORT_SUFFIX = ".report.json"
CALIBRATION = 200  # Validation contexts whose answers set the threshold, at most.


@dataclass
class GrowthRule:
    """How contexts are answered, and which answers are kept."""

    share: float = field(
        default=0.5,
        metadata={
            "help": "Keep an answer that is likelier, and made more so by its context, than this share of the model's "
            "answers to validation contexts."
        },
    )
    tries: int = field(default=2, metadata={"help": "Answers to each context, of which the best at most is kept."})
    max_contexts: int | None = field(default=None, metadata={"help": "Answer at most so many, drawn by chance."})
    max_new_tokens: int = field(default=MAX_NEW_TOKENS, metadata={"help": "Tokens an answer has at most."})
    batch_size: int = field(default=BATCH_SIZE, metadata={"help": "Answers generated at once, at most."})
    seed: int = field(default=42, metadata={"help": "Seed of the answers."})

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; give a share from 0 to 1, such as 0.5")
        for name in ("tries", "max_contexts", "max_new_tokens", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more")


@dataclass(frozen=True)
class Threshold:
    """The least mean log-likelihood a token, and the least of it that the context may bring, in nats a token."""

    likelihood: float
    gain: float


@dataclass(frozen=True)
class Grown:
    """Rows as recipes/grow.py writes them, what became of each context, and by which model and threshold."""

    rows: list[dict[str, Any]] = field(repr=False)
    fates: list[str] = field(repr=False)
    model: str
    threshold: Threshold
    rule: GrowthRule

    def save(self, path: Path, sources: Sequence[tuple[str, int]]) -> None:
        """Write the rows to `path`, and beside it the report, without anything that was said.

        Args:
            path: ends in .jsonl.
            sources: the file of each context and its row there, in the order of `fates`.
        """
        write_json(path.with_suffix(REPORT_SUFFIX), self.as_dict(sources))
        write_jsonl(path, self.rows)

    def as_dict(self, sources: Sequence[tuple[str, int]]) -> dict[str, Any]:
        """Return the report, with a line for each context."""
        counts = Counter(self.fates)
        return {
            "model": self.model,
            "threshold": {"likelihood": round(self.threshold.likelihood, 4), "gain": round(self.threshold.gain, 4)},
            "rule": {name: getattr(self.rule, name) for name in ("share", "tries", "max_new_tokens", "seed")},
            "contexts": len(self.fates),
            "fates": {fate: counts[fate] for fate in FATES if counts[fate] or fate == FIT},
            "each": [
                {"source": name, "row": row, "fate": fate}
                for (name, row), fate in zip(sources, self.fates, strict=True)
            ],
        }

    def table(self) -> str:
        """Return what became of the contexts as a table to print."""
        counts = Counter(self.fates)
        rows: list[tuple[str, Any]] = [("contexts", len(self.fates))]
        rows += [(f"  {text}", counts[fate]) for fate, text in FATES.items() if counts[fate] or fate == FIT]
        rows += [
            ("log-likelihood a token, at least", f"{self.threshold.likelihood:.3f}"),
            ("of it by the context, at least", f"{self.threshold.gain:.3f}"),
        ]
        return table([(f"grown by {self.model}", "contexts"), *rows])


@dataclass(frozen=True)
class _Answer:
    """One try at a context: the furthest stage it came to, or `kept`, and what its context brings."""

    text: str = field(repr=False)
    fate: str
    gain: float


def grow(run: RunFolder, contexts: Sequence[Context], rule: GrowthRule, *, progress: bool = True) -> Grown:
    """Let a finished run's model answer contexts; return what is kept of that, and what became of each.

    Raises:
        ValueError: the run is not finished or its data not what it was tuned on, or the rule leaves no room to answer.
    """
    record = RunFolder.open(run.path).record()
    if data_fingerprint(run.data) != record["fingerprints"]["data"]:
        raise ValueError(f"the data in {run.data} is not what the run was trained on; restore it or train again")
    splits = load_prepared(run.data)
    model, tokenizer = load_row_model(run, record, "tuned")
    ready = [made_ready(messages) for messages in contexts]
    fates = sift(
        ready,
        splits,
        lambda messages: len(encode_prompt(tokenizer, messages)) <= prompt_room(model, rule.max_new_tokens),
        lambda places: sample(places, rule.max_contexts, rule.seed),
        progress=progress,
    )
    asked = [place for place, fate in enumerate(fates) if fate == FIT]
    threshold = _threshold(model, tokenizer, splits["validation"], rule, progress)
    answers = _answers(
        model, tokenizer, [ready[place] for place in asked], _echoes(run, splits), threshold, rule, progress
    )
    for place, answer in zip(asked, answers, strict=True):
        fates[place] = answer.fate
    kept = {place: answer.text for place, answer in zip(asked, answers, strict=True) if answer.fate == FIT}
    for place in _same_replies(kept):
        fates[place] = "same_reply"
        del kept[place]
    base = record["base_model"]
    name = Path(base["name_or_path"]).name if base["is_local"] else base["name_or_path"]
    mark = {
        "augmented": GROWTH,
        "grown_by": grower(name, record["fingerprints"]["weights"]),
        "held_out": held_out_fingerprint(splits),
    }
    rows = [
        {"messages": [*ready[place], {"role": "assistant", "content": text}], **mark} for place, text in kept.items()
    ]
    return Grown(rows, fates, mark["grown_by"], threshold, rule)


def _echoes(run: RunFolder, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> Echoes:
    """Return what the model has read, from beside its weights or from its training dialogues."""
    beside = Echoes.from_pretrained(str(run.model))
    if beside is not None:
        return beside
    return Echoes.of(turn["content"] for row in splits["train"] for turn in row["messages"])


def likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[Context],
    replies: Sequence[str],
    *,
    batch_size: int = BATCH_SIZE,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean log-likelihood a token of each reply after its context, and how much of it the context brings.

    Both `(replies,)`, in nats a token, higher is better. Without its context a reply follows an empty turn.
    """
    length = int(model.config.max_position_embeddings)
    told, untold = [], []
    for messages, text in zip(contexts, replies, strict=True):
        reply = {"role": "assistant", "content": text}
        told.append(encode_reply(tokenizer, [*messages, reply], max_length=length))
        untold.append(encode_reply(tokenizer, [{"role": "user", "content": ""}, reply], max_length=length))
    after, alone = (
        item_statistics(model, rows, pad_token_id=tokenizer.pad_token_id, batch_size=batch_size)
        for rows in (told, untold)
    )
    likelihood = -after[:, 0] / after[:, 1]
    return likelihood, likelihood + alone[:, 0] / alone[:, 1]


def _threshold(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    validation: Sequence[dict[str, Any]],
    rule: GrowthRule,
    progress: bool,
) -> Threshold:
    """Return the likelihood and the gain that the rule's share of the answers to validation contexts stay below."""
    contexts = sample([item.context for item in scored_items(validation)], CALIBRATION, rule.seed)
    replies = _replies(model, tokenizer, contexts, rule, progress)
    said = [(messages, reply.text) for messages, reply in zip(contexts, replies, strict=True) if reply.text]
    if not said:
        raise ValueError(
            f"the model says nothing to any of {len(contexts)} validation contexts, so its answers cannot be judged; "
            "train it longer"
        )
    found = likelihoods(
        model, tokenizer, [messages for messages, _ in said], [text for _, text in said], batch_size=rule.batch_size
    )
    likelihood, gain = (float(np.quantile(values, rule.share)) for values in found)
    return Threshold(likelihood, gain)


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[Context],
    echoes: Echoes,
    threshold: Threshold,
    rule: GrowthRule,
    progress: bool,
) -> list[_Answer]:
    """Return the best answer to each context: one that is kept, of several the one that its context brings most."""
    if not contexts:
        return []
    asked = [messages for messages in contexts for _ in range(rule.tries)]
    replies = _replies(model, tokenizer, asked, rule, progress)
    fates = [_fate(reply.text, reply.stopped, echoes) for reply in replies]
    passed = [place for place, fate in enumerate(fates) if fate == FIT]
    gains = np.full(len(replies), -np.inf)
    if passed:
        texts = [replies[place].text for place in passed]
        likelihood, gain = likelihoods(
            model, tokenizer, [asked[place] for place in passed], texts, batch_size=rule.batch_size
        )
        gains[passed] = gain
        for place, likely, brought in zip(passed, likelihood, gain, strict=True):
            if likely < threshold.likelihood:
                fates[place] = "unlikely"
            elif brought < threshold.gain:
                fates[place] = "generic"
    order = {fate: place for place, fate in enumerate([*DROPPED, FIT])}
    answers = [
        _Answer(reply.text, fate, gain) for reply, fate, gain in zip(replies, fates, gains.tolist(), strict=True)
    ]
    return [
        max(answers[start : start + rule.tries], key=lambda answer: (order[answer.fate], answer.gain))
        for start in range(0, len(answers), rule.tries)
    ]


def _replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    contexts: Sequence[Context],
    rule: GrowthRule,
    progress: bool,
) -> list[GeneratedReply]:
    return generate_replies(
        model,
        tokenizer,
        contexts,
        generation_config(tokenizer, max_new_tokens=rule.max_new_tokens),
        batch_size=rule.batch_size,
        seed=rule.seed,
        progress="answers" if progress else None,
    )


def _fate(reply: str, stopped: bool, echoes: Echoes) -> str:
    """Return the first check that an answer fails, or `kept`."""
    if not stopped:
        return "unfinished"
    # Danger of any kind is not for it to bring up: nobody in whose context there is any is answered here.
    reasons = why_unfit(reply, echoes=echoes, dangers=CATEGORIES)
    if reasons:
        return "echo" if reasons == (ECHO,) else "unsafe"
    repeated = diversity.item_statistics([reply])[0, 2]
    return "repetition" if repeated else FIT


def _same_replies(kept: Mapping[int, str]) -> set[int]:
    """Return the places whose reply is nearly one that stands before it: a model that always says the same."""
    places = list(kept)
    pairs = near_duplicates([normalise(kept[place]) for place in places], threshold=SAME_REPLY)
    return {places[later] for _, later in pairs}

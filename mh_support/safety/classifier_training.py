"""How the crisis classifier is trained, and where its thresholds are set."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from mh_support.modeling import supports_bf16
from mh_support.pretraining_text import read_practice_rows
from mh_support.safety.classifier import CLASSIFIER, About, CrisisClassifier
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.encoder import Member, encoder_tokenizer, new_member
from mh_support.safety.measure import KINDS, Example, read_examples
from mh_support.safety.plain_words import without_disguises
from mh_support.safety.variants import vary

# The examples' kinds of crisis, as `assess` calls them.
NAMES = dict(zip(KINDS["crisis"], CATEGORIES, strict=True))
# One example in so many is read in a damaged spelling too, a third of these in each way.
DAMAGED_ONE_IN = 3
# One example in so many is read beside an ordinary message too, as a worrying clause stands among others.
ACCOMPANIED_ONE_IN = 4
LONGEST = 128  # Tokens read of an example.
DAMAGES = ("letters pulled apart", "one typo a turn", "two typos a turn")


@dataclass
class ClassifierArguments:
    """How the crisis classifier is trained; the defaults make the one that comes with the package."""

    output: str = field(default=str(CLASSIFIER), metadata={"help": "File to write it to."})
    members: int = field(default=1, metadata={"help": "Encoders, trained apart, whose opinions are averaged."})
    rank: int = field(default=16, metadata={"help": "Rank of the adapters."})
    epochs: int = field(default=3, metadata={"help": "Passes over the messages."})
    batch_size: int = field(default=32, metadata={"help": "Messages a batch."})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's peak learning rate."})
    ordinary: int = field(default=6000, metadata={"help": "Ordinary messages of the practice dialogues to read too."})
    max_hard: float = field(
        default=0.03, metadata={"help": "Share of the safe development messages that it may take for a crisis."}
    )
    max_ordinary: float = field(
        default=0.01, metadata={"help": "Share of ordinary messages, held out, that it may take for a crisis."}
    )
    max_asked: float = field(
        default=0.05, metadata={"help": "Share of ordinary messages, held out, that it may take for a concern."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of what is held out and of the training."})

    def __post_init__(self) -> None:
        least = {"members": 1, "rank": 1, "epochs": 1, "batch_size": 1, "ordinary": 10}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} is {getattr(self, name)}; give {smallest} or more")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; give one above 0")
        for name in ("max_hard", "max_ordinary", "max_asked"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share is at least 0 and below 1")


def train_classifier(arguments: ClassifierArguments) -> tuple[CrisisClassifier, dict[str, Any]]:
    """Return a classifier trained on the training examples and ordinary messages, and what it was made from.

    A third of the ordinary messages is held out, to set the thresholds by, with the development examples.
    """
    examples, development, calm = read_examples("train"), read_examples("development"), _ordinary(arguments)
    held_out, seen = calm[: len(calm) // 3], calm[len(calm) // 3 :]
    ordinary = [Example("safe", "distress", (text,)) for text in seen]
    varied = [*_damaged(examples, arguments.seed), *_accompanied(examples, seen, arguments.seed)]
    classifier = fit([*examples, *varied, *ordinary], arguments)
    about = set_thresholds(classifier, development, held_out, arguments)
    made_from = {
        "crisis": sum(one.is_crisis for one in examples),
        "safe": sum(not one.is_crisis for one in examples),
        "ordinary": len(seen),
        "held_out": len(held_out),
        "concern from log-odds": round(about.concern, 3),
        "crisis from log-odds": round(about.crisis, 3),
    }
    return replace(classifier, about=about), made_from


def fit(examples: Sequence[Example], arguments: ClassifierArguments) -> CrisisClassifier:
    """Return a classifier of the examples, with thresholds of even odds; its adapters are not merged yet."""
    tokenizer = encoder_tokenizer()
    texts = [without_disguises(joined(example.turns)) for example in examples]
    rows = Dataset.from_dict(
        {
            **tokenizer(texts, truncation=True, max_length=LONGEST),
            "labels": [1 + CATEGORIES.index(NAMES[one.kind]) if one.is_crisis else 0 for one in examples],
        }
    )
    members: list[Member] = []
    for number in range(arguments.members):
        set_seed(arguments.seed + number)
        member = new_member(1 + len(CATEGORIES), arguments.rank)
        with tempfile.TemporaryDirectory() as scratch:  # The Trainer makes its folder even where it saves nothing.
            _ClassifierTrainer(
                model=member,
                args=_training_arguments(arguments, arguments.seed + number, scratch),
                train_dataset=rows,
                data_collator=DataCollatorWithPadding(tokenizer),
            ).train()
        members.append(member.eval())
    return CrisisClassifier(tuple(members), tokenizer, About(CATEGORIES, 0.0, 0.0, arguments.rank))


def joined(turns: Sequence[str]) -> str:
    """Return several turns as the one text that the classifier reads."""
    return "\n\n".join(turns)


def set_thresholds(
    classifier: CrisisClassifier,
    development: Sequence[Example],
    ordinary: Sequence[str],
    arguments: ClassifierArguments,
) -> About:
    """Return the lowest thresholds at which no more messages than told are taken for a crisis, and for a concern.

    As low as they may be, since to miss a crisis is worse than to ask in vain, and to interrupt everybody would make
    people write less.
    """
    odds = classifier.log_odds([joined(example.turns) for example in development])
    calm = classifier.log_odds(ordinary)
    hard = odds[[not example.is_crisis for example in development]]
    crisis = max(_above_all_but(hard, arguments.max_hard), _above_all_but(calm, arguments.max_ordinary))
    return replace(classifier.about, crisis=crisis, concern=min(crisis, _above_all_but(calm, arguments.max_asked)))


def _above_all_but(odds: np.ndarray, share: float) -> float:
    """Return the lowest value that no more than this share of the odds reaches."""
    return float(np.nextafter(np.sort(odds)[-1 - int(share * len(odds))], np.inf))


class _ClassifierTrainer(Trainer):
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the cross-entropy, softened a little: a label of a hint is an opinion."""
        labels = inputs.pop("labels")
        logits = model(**inputs)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.05)
        return (loss, logits) if return_outputs else loss


def _training_arguments(arguments: ClassifierArguments, seed: int, scratch: str) -> TrainingArguments:
    use_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        train_sampling_strategy="group_by_length",
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.01,
        bf16=supports_bf16("cpu" if use_cpu else "cuda"),
        use_cpu=use_cpu,
        logging_steps=50,
        save_strategy="no",
        label_names=["labels"],
        seed=seed,
        report_to="none",
    )


def _damaged(examples: Sequence[Example], seed: int) -> list[Example]:
    """Return some of the examples of both kinds in damaged spellings, or the damage itself would look like danger."""
    drawn = random.Random(seed).sample(list(examples), len(examples) // DAMAGED_ONE_IN)
    parts = [drawn[number :: len(DAMAGES)] for number in range(len(DAMAGES))]
    return [one for part, damage in zip(parts, DAMAGES, strict=True) for one in vary(part, damage, seed=seed)]


def _accompanied(examples: Sequence[Example], ordinary: Sequence[str], seed: int) -> list[Example]:
    """Return some of the examples of both kinds with an ordinary message before them or after."""
    generator = random.Random(seed)
    drawn = generator.sample(list(examples), len(examples) // ACCOMPANIED_ONE_IN)
    beside = generator.choices(ordinary, k=len(drawn))
    return [
        replace(one, turns=(text, *one.turns) if number % 2 else (*one.turns, text))
        for number, (one, text) in enumerate(zip(drawn, beside, strict=True))
    ]


def _ordinary(arguments: ClassifierArguments) -> list[str]:
    """Return what people say in the practice dialogues, in which nobody is in danger."""
    rows = [row for row in read_practice_rows() if row["topic"] != "risk"]
    said = [message["content"] for row in rows for message in row["messages"] if message["role"] == "user"]
    random.Random(arguments.seed).shuffle(said)
    return said[: arguments.ordinary]

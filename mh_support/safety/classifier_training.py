"""How a classifier is trained on labelled texts, and where its thresholds are set; what the texts are, others say."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from mh_support.modeling import supports_bf16
from mh_support.safety.classifier import WINDOW, About, TextClassifier, as_read
from mh_support.safety.encoder import Member, encoder_tokenizer


class Labelled(NamedTuple):
    """A text and what is wrong with it, None where nothing is."""

    text: str
    name: str | None


@dataclass
class ClassifierArguments:
    """How a classifier is trained."""

    members: int = field(default=1, metadata={"help": "Encoders, trained apart, whose opinions are averaged."})
    rank: int = field(default=16, metadata={"help": "Rank of the adapters."})
    epochs: int = field(default=3, metadata={"help": "Passes over the texts."})
    batch_size: int = field(default=64, metadata={"help": "Texts a batch."})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's peak learning rate."})
    seed: int = field(default=42, metadata={"help": "Seed of what is held out and of the training."})

    def __post_init__(self) -> None:
        for name in ("members", "rank", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; give one above 0")


def fit(passes: Sequence[Sequence[Labelled]], names: tuple[str, ...], arguments: ClassifierArguments) -> TextClassifier:
    """Return a classifier of the texts, without thresholds.

    Every pass has its own list, in which the same texts may be spelt in other ways.
    """
    tokenizer = encoder_tokenizer()
    texts = [one for labelled in passes for one in labelled]
    rows = Dataset.from_dict(
        {
            **tokenizer([as_read(one.text) for one in texts], truncation=True, max_length=WINDOW),
            "labels": [0 if one.name is None else 1 + names.index(one.name) for one in texts],
        }
    )
    members: list[Member] = []
    for number in range(arguments.members):
        set_seed(arguments.seed + number)
        member = Member(1 + len(names), arguments.rank)
        with tempfile.TemporaryDirectory() as scratch:  # The Trainer makes its folder even where it saves nothing.
            _ClassifierTrainer(
                model=member,
                args=_training_arguments(arguments, arguments.seed + number, scratch),
                train_dataset=rows,
                data_collator=DataCollatorWithPadding(tokenizer),
            ).train()
        members.append(member.cpu().eval())
    return TextClassifier(tuple(members), tokenizer, About(names, {}, arguments.rank))


def above_all_but(odds: np.ndarray, share: float) -> float:
    """Return the lowest value that no more than this share of the odds reaches."""
    return float(np.nextafter(np.sort(odds)[-1 - int(share * len(odds))], np.inf))


def check_amounts(arguments: Any, *shares: str) -> None:
    """Raise a ValueError for too few ordinary texts, and for what is no share that a classifier may be wrong about."""
    if arguments.ordinary < 10:
        raise ValueError(f"ordinary is {arguments.ordinary}; give 10 or more")
    for name in shares:
        if not 0 <= getattr(arguments, name) < 1:
            raise ValueError(f"{name} is {getattr(arguments, name)}; a share is at least 0 and below 1")


def shuffled(texts: Sequence[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return so many of the texts, drawn by chance: a third to set thresholds by, and the others to learn from."""
    drawn = random.Random(seed).sample(list(texts), min(count, len(texts)))
    return drawn[: len(drawn) // 3], drawn[len(drawn) // 3 :]


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
        num_train_epochs=1,  # The passes are in the rows.
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

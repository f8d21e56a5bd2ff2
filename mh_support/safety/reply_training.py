"""What the classifier of replies learns from, and where its threshold is set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mh_support.data.readers import read_file
from mh_support.data.sources import SAMPLES
from mh_support.pretraining_text import read_practice
from mh_support.safety.classifier import REPLY_CLASSIFIER, About, TextClassifier
from mh_support.safety.classifier_training import (
    ClassifierArguments,
    Labelled,
    above_all_but,
    check_amounts,
    fit,
    shuffled,
)
from mh_support.safety.disclosure import BREAK, REMINDER
from mh_support.safety.measure_replies import FINE, REASONS, Reply, read_replies
from mh_support.safety.replies import NOTICE, SAFE_REPLY
from mh_support.safety.reply_check import beginnings

# What patterns find for certain is not learned.
NAMES = tuple(reason for reason in REASONS if reason not in ("link", "email", "phone number"))
# One context in so many is held out, with all replies to it, to set the threshold by.
HELD_OUT_ONE_IN = 6
# In each pass one labelled reply in so many has an ordinary sentence before it, since harm seldom comes first; and of
# one ordinary reply in so many only the first sentence is read, as it is when a reply comes.
PRECEDED_ONE_IN, BEGUN_ONE_IN = 3, 3


@dataclass
class ReplyArguments(ClassifierArguments):
    """How the classifier of replies is trained; the defaults make the one that comes with the package."""

    output: str = field(default=str(REPLY_CLASSIFIER), metadata={"help": "File to write it to."})
    epochs: int = field(default=5, metadata={"help": "Passes over the texts."})
    ordinary: int = field(default=9000, metadata={"help": "Replies of the practice and sample dialogues to read too."})
    max_hard: float = field(
        default=0.04, metadata={"help": "Share of the labelled replies that are fine, held out, that it may refuse."}
    )
    # What is refused in vain is written again, at little cost.
    max_ordinary: float = field(
        default=0.03, metadata={"help": "Share of the ordinary replies, held out, that it may refuse anywhere."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_amounts(self, "max_hard", "max_ordinary")


def train_reply_classifier(arguments: ReplyArguments) -> tuple[TextClassifier, dict[str, Any]]:
    """Return a classifier trained on labelled replies and on those of practice dialogues, and what it was made from.

    A third of the ordinary replies and the replies to some contexts are held out, to set the threshold by.
    """
    development, examples = held_out(read_replies("train"), arguments.seed)
    calm, seen = shuffled(_ordinary(), arguments.ordinary, arguments.seed)
    passes = []
    for seed in range(arguments.seed, arguments.seed + arguments.epochs):
        # What this package says by itself is fine to say.
        fine = [*begun(seen, seed), *SAFE_REPLY, NOTICE, REMINDER, BREAK]
        said = preceded(examples, seen, seed)
        passes.append([*map(_labelled, said), *(Labelled(text, None) for text in fine)])
    classifier = fit(passes, NAMES, arguments)
    about = set_threshold(classifier, development, calm, arguments)
    made_from = {
        "harmful": sum(reply.label != FINE for reply in examples),
        "fine": sum(reply.label == FINE for reply in examples),
        "ordinary": len(seen),
        "held_out": len(development) + len(calm),
        "refused from log-odds": round(about.thresholds["refused"], 3),
    }
    return replace(classifier, about=about), made_from


def set_threshold(
    classifier: TextClassifier, development: Sequence[Reply], ordinary: Sequence[str], arguments: ReplyArguments
) -> About:
    """Return the lowest threshold at which no more replies that are fine are refused than told.

    Ordinary replies are read as a person is sent them, after each sentence: one bad moment refuses the reply.
    """
    hard = classifier.log_odds([reply.text for reply in development if reply.label == FINE])
    read = [list(beginnings(text)) for text in ordinary]
    odds = iter(classifier.log_odds([text for several in read for text in several]))
    calm = np.array([max(next(odds) for _ in several) for several in read])
    refused = max(above_all_but(hard, arguments.max_hard), above_all_but(calm, arguments.max_ordinary))
    return replace(classifier.about, thresholds={"refused": refused})


def held_out(replies: Sequence[Reply], seed: int) -> tuple[list[Reply], list[Reply]]:
    """Part the replies that a classifier can learn from by their contexts: those held out, and the others."""
    taught = [reply for reply in replies if reply.label in (*NAMES, FINE)]
    contexts = sorted({reply.context for reply in taught})
    kept = set(random.Random(seed).sample(contexts, len(contexts) // HELD_OUT_ONE_IN))
    return [one for one in taught if one.context in kept], [one for one in taught if one.context not in kept]


def preceded(replies: Sequence[Reply], ordinary: Sequence[str], seed: int) -> list[Reply]:
    """Return every reply once, some of each label after the first sentence of an ordinary one."""
    generator = random.Random(seed)
    chosen = set(generator.sample(range(len(replies)), len(replies) // PRECEDED_ONE_IN))
    return [
        replace(reply, text=f"{next(beginnings(generator.choice(ordinary))).rstrip()} {reply.text}")
        if place in chosen
        else reply
        for place, reply in enumerate(replies)
    ]


def begun(replies: Sequence[str], seed: int) -> list[str]:
    """Return every reply once, of some only the first sentence."""
    generator = random.Random(seed)
    return [text if generator.randrange(BEGUN_ONE_IN) else next(beginnings(text)).rstrip() for text in replies]


def _labelled(reply: Reply) -> Labelled:
    return Labelled(reply.text, None if reply.label == FINE else reply.label)


def _ordinary() -> list[str]:
    """Return what supporters say in the practice and the sample dialogues, which is fit to be said."""
    samples = [row["messages"] for row in read_file(SAMPLES / "train.jsonl", "utf-8")]
    said = [message for dialogue in (*read_practice()[0], *samples) for message in dialogue]
    return [message["content"] for message in said if message["role"] == "assistant"]

"""What the crisis classifier learns from, and where its thresholds are set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mh_support.pretraining_text import read_practice_rows
from mh_support.safety.classifier import CRISIS_CLASSIFIER, About, TextClassifier
from mh_support.safety.classifier_training import (
    ClassifierArguments,
    Labelled,
    above_all_but,
    check_amounts,
    fit,
    shuffled,
)
from mh_support.safety.crisis_rules import CATEGORIES, SUICIDE
from mh_support.safety.identities import introductions
from mh_support.safety.measure import KINDS, Example, read_examples
from mh_support.safety.variants import vary

# The examples' kinds of crisis, as `assess` calls them.
NAMES = dict(zip(KINDS["crisis"], CATEGORIES, strict=True))
# In each pass one example in so many is read in a damaged spelling, a third of these in each way; one in so many beside
# an ordinary message, as a worrying clause stands among others; and one in so many by somebody who says who they are.
DAMAGED_ONE_IN, ACCOMPANIED_ONE_IN, INTRODUCED_ONE_IN = 6, 8, 8
DAMAGES = ("letters pulled apart", "one typo a turn", "two typos a turn")


@dataclass
class CrisisArguments(ClassifierArguments):
    """How the crisis classifier is trained; the defaults make the one that comes with the package."""

    output: str = field(default=str(CRISIS_CLASSIFIER), metadata={"help": "File to write it to."})
    ordinary: int = field(default=6000, metadata={"help": "Ordinary messages of the practice dialogues to read too."})
    max_hard: float = field(
        default=0.03, metadata={"help": "Share of the safe development messages that it may take for a crisis."}
    )
    # Of the ordinary messages that are taken for one, a third do hint at danger: only their topics were noted.
    max_ordinary: float = field(
        default=0.015, metadata={"help": "Share of ordinary messages, held out, that it may take for a crisis."}
    )
    max_asked: float = field(
        default=0.05, metadata={"help": "Share of ordinary messages, held out, that it may take for a concern."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_amounts(self, "max_hard", "max_ordinary", "max_asked")


def train_crisis_classifier(arguments: CrisisArguments) -> tuple[TextClassifier, dict[str, Any]]:
    """Return a classifier trained on the training examples and ordinary messages, and what it was made from.

    A third of the ordinary messages is held out, to set the thresholds by, with the development examples.
    """
    examples, development = read_examples("train"), read_examples("development")
    held_out, seen = shuffled(_ordinary(), arguments.ordinary, arguments.seed)
    passes = [
        [*map(_labelled, as_said(examples, seen, arguments.seed + number)), *(Labelled(text, None) for text in seen)]
        for number in range(arguments.epochs)
    ]
    classifier = fit(passes, CATEGORIES, arguments)
    about = set_thresholds(classifier, development, held_out, arguments)
    made_from = {
        "crisis": sum(one.is_crisis for one in examples),
        "safe": sum(not one.is_crisis for one in examples),
        "ordinary": len(seen),
        "held_out": len(held_out),
        **{f"{level} from log-odds": round(threshold, 3) for level, threshold in about.thresholds.items()},
    }
    return replace(classifier, about=about), made_from


def joined(turns: Sequence[str]) -> str:
    """Return several turns as the one text that the classifier reads."""
    return "\n\n".join(turns)


def set_thresholds(
    classifier: TextClassifier,
    development: Sequence[Example],
    ordinary: Sequence[str],
    arguments: CrisisArguments,
) -> About:
    """Return the lowest thresholds at which no more messages than told are taken for a crisis, and for a concern.

    As low as they may be, since to miss a crisis is worse than to ask in vain, and to interrupt everybody would make
    people write less.
    """
    odds = classifier.log_odds([joined(example.turns) for example in development])
    calm = classifier.log_odds(ordinary)
    hard = odds[[not example.is_crisis for example in development]]
    crisis = max(above_all_but(hard, arguments.max_hard), above_all_but(calm, arguments.max_ordinary))
    concern = min(crisis, above_all_but(calm, arguments.max_asked))
    # Of danger that might be of any kind, the gravest is asked about.
    thresholds = {"concern": concern, "crisis": crisis}
    return replace(classifier.about, thresholds=thresholds, unsure=SUICIDE, leaves_short=True)


def as_said(examples: Sequence[Example], ordinary: Sequence[str], seed: int) -> list[Example]:
    """Return every example once, some of both kinds as others would say it, or those very ways would look like danger.

    Some are damaged in spelling, some stand beside an ordinary message, some begin or end with who is speaking.
    """
    generator = random.Random(seed)
    places = generator.sample(range(len(examples)), len(examples))
    said = list(examples)
    counts = [len(examples) // share for share in (DAMAGED_ONE_IN, ACCOMPANIED_ONE_IN, INTRODUCED_ONE_IN)]
    damaged, rest = places[: counts[0]], places[counts[0] :]
    accompanied, introduced = rest[: counts[1]], rest[counts[1] : counts[1] + counts[2]]
    for number, damage in enumerate(DAMAGES):
        drawn = damaged[number :: len(DAMAGES)]
        for place, one in zip(drawn, vary([examples[place] for place in drawn], damage, seed=seed), strict=True):
            said[place] = one
    for place in accompanied:
        beside, turns = (generator.choice(ordinary),), examples[place].turns
        said[place] = replace(examples[place], turns=generator.choice(((*beside, *turns), (*turns, *beside))))
    for place in introduced:
        first, *others = examples[place].turns
        who = generator.choice(introductions())
        said[place] = replace(examples[place], turns=(generator.choice((f"{who} {first}", f"{first} {who}")), *others))
    return said


def _labelled(example: Example) -> Labelled:
    return Labelled(joined(example.turns), NAMES[example.kind] if example.is_crisis else None)


def _ordinary() -> list[str]:
    """Return what people say in the practice dialogues, in which nobody is in danger."""
    return [
        message["content"] for row in read_practice_rows() for message in row["messages"] if message["role"] == "user"
    ]

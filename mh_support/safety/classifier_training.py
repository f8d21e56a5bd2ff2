"""How the crisis classifier is trained, and its threshold chosen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mh_support.pretraining_text import read_practice_rows
from mh_support.safety.classifier import CLASSIFIER, CrisisClassifier, features
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.measure import KINDS, Example, read_examples
from mh_support.safety.variants import vary

# The examples' kinds of crisis, as `assess` calls them.
NAMES = dict(zip(KINDS["crisis"], CATEGORIES, strict=True))

DAMAGED = ("letters pulled apart", "one typo a turn", "two typos a turn")


@dataclass
class ClassifierArguments:
    """How the crisis classifier is trained; the defaults make the one that comes with the package."""

    output: str = field(default=str(CLASSIFIER), metadata={"help": "File to write it to."})
    strength: float = field(default=100.0, metadata={"help": "Inverse of the regularisation (scikit-learn's C)."})
    ordinary: int = field(default=10000, metadata={"help": "Ordinary messages of the practice dialogues to read too."})
    max_false_alarms: float = field(
        default=0.005, metadata={"help": "Share of ordinary messages, held out, that it may take for a crisis."}
    )
    seed: int = field(default=42, metadata={"help": "Seed of what is held out and of the fit."})

    def __post_init__(self) -> None:
        if self.strength <= 0 or self.ordinary < 10 or not 0 <= self.max_false_alarms < 1:
            raise ValueError(
                f"strength {self.strength}, ordinary {self.ordinary}, max_false_alarms {self.max_false_alarms}: they "
                "are above 0, 10 or more, and at least 0 and below 1"
            )


def train_classifier(arguments: ClassifierArguments) -> tuple[CrisisClassifier, dict[str, Any]]:
    """Return a classifier trained on the training examples and ordinary messages, and what it was made from.

    A fifth of the ordinary messages is held out; the threshold is the lowest at which no more of them than
    `max_false_alarms` are taken for a crisis. To choose it for recall alone would interrupt too many.
    """
    examples, calm = read_examples("train"), _ordinary(arguments)
    held_out, seen = calm[: len(calm) // 5], calm[len(calm) // 5 :]
    # Damaged spellings of both kinds, or the damage itself would look like danger.
    damaged = [one for variant in DAMAGED for one in vary(examples, variant, seed=arguments.seed + 1)]
    ordinary = [Example("safe", "distress", (text,)) for text in seen]
    weights = [1.0] * len(examples) + [1 / len(DAMAGED)] * len(damaged) + [1.0] * len(ordinary)
    classifier = fit([*examples, *damaged, *ordinary], arguments, weights)
    levels = np.sort(classifier.probabilities(held_out))
    allowed = int(arguments.max_false_alarms * len(held_out))
    classifier = replace(classifier, threshold=float(np.nextafter(levels[-1 - allowed], 1)))
    counts = {"crisis": sum(one.is_crisis for one in examples), "safe": sum(not one.is_crisis for one in examples)}
    return classifier, {**counts, "ordinary": len(seen), "held_out": len(held_out), "threshold": classifier.threshold}


def fit(
    examples: Sequence[Example], arguments: ClassifierArguments, weights: Sequence[float] | None = None
) -> CrisisClassifier:
    """Return a classifier of the examples, which may count more or less, with a threshold of one half."""
    from sklearn.linear_model import LogisticRegression

    rows = features(["\n\n".join(example.turns) for example in examples])
    danger = LogisticRegression(C=arguments.strength, solver="liblinear", random_state=arguments.seed)
    danger.fit(rows, [example.is_crisis for example in examples], sample_weight=weights)
    crises = [number for number, example in enumerate(examples) if example.is_crisis]
    category = LogisticRegression(C=arguments.strength, max_iter=1000, random_state=arguments.seed)
    category.fit(rows[crises], [NAMES[examples[number].kind] for number in crises])
    return CrisisClassifier(
        np.append(danger.coef_[0], danger.intercept_).astype(np.float32),
        np.hstack([category.coef_, category.intercept_[:, None]]).astype(np.float32),
        tuple(map(str, category.classes_)),
        0.5,
    )


def _ordinary(arguments: ClassifierArguments) -> list[str]:
    """Return what people say in the practice dialogues in which nobody is in danger."""
    rows = [row for row in read_practice_rows() if row["topic"] != "risk"]
    said = [message["content"] for row in rows for message in row["messages"] if message["role"] == "user"]
    random.Random(arguments.seed).shuffle(said)
    return said[: arguments.ordinary]

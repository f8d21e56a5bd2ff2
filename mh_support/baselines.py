"""Replies that need no model. A score means something only beside theirs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mh_support.data.preparation import Dialogue
from mh_support.data.splitting import normalise
from mh_support.dialogue import Message

# One kind sentence, the same for everyone.
CONSTANT_REPLY = (
    "I am sorry that you are going through this, and I am glad that you told me. It sounds like a lot to carry. "
    "Would you like to tell me more about what has been hardest for you?"
)


@dataclass(frozen=True)
class ScoredItem:
    """One held-out context, all human replies to it, and its question; items of one question are drawn together."""

    context: list[Message] = field(repr=False)
    references: list[str] = field(repr=False)
    group: str = field(repr=False)


def scored_items(dialogues: Sequence[Dialogue]) -> list[ScoredItem]:
    """Return an item for each supporter's turn; the same context answered several times is one with many references."""
    items: dict[tuple[str, ...], ScoredItem] = {}
    for dialogue in dialogues:
        messages = dialogue["messages"]
        for position, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            context = messages[:position]
            key = tuple(normalise(turn["content"]) for turn in context)
            item = items.setdefault(key, ScoredItem(context, [], normalise(messages[0]["content"])))
            if message["content"] not in item.references:
                item.references.append(message["content"])
    return list(items.values())


def constant_replies(items: Sequence[ScoredItem]) -> list[str]:
    """Return the constant reply to each item."""
    return [CONSTANT_REPLY] * len(items)


def random_replies(items: Sequence[ScoredItem], training: Sequence[ScoredItem], *, seed: int) -> list[str]:
    """Return a reply to each item that a person once gave to another question."""
    # Not the numbers that chose the items: the same ones would choose replies beside them.
    generator = random.Random(f"{seed} random replies")
    pool = [(item.group, reply) for item in training for reply in item.references]
    several = len({group for group, _ in pool}) > 1
    replies = []
    for item in items:
        group, reply = generator.choice(pool)
        while several and group == item.group:
            group, reply = generator.choice(pool)
        replies.append(reply)
    return replies


def nearest_replies(items: Sequence[ScoredItem], training: Sequence[ScoredItem]) -> list[str]:
    """Return, for each item, a person's reply to the training context that is nearest to it, its own question left out.

    Nearest by the cosine of TF-IDF vectors of words and word pairs of all that the person said so far.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    known = vectorizer.fit_transform([_said(item) for item in training])
    asked = vectorizer.transform([_said(item) for item in items])
    groups = np.array([item.group for item in training])
    replies = []
    for row, item in enumerate(items):
        # The vectors have length one, so their product is the cosine.
        closeness = (asked[row] @ known.T).toarray().ravel()
        closeness[groups == item.group] = -1.0
        replies.append(training[int(closeness.argmax())].references[0])
    return replies


def human_replies(items: Sequence[ScoredItem], *, seed: int) -> list[tuple[str, list[str]]]:
    """Return one human reply by chance, and the others to score it against, for each item that has several."""
    generator = random.Random(seed)
    pairs = []
    for item in items:
        if len(item.references) > 1:
            chosen = generator.randrange(len(item.references))
            pairs.append((item.references[chosen], item.references[:chosen] + item.references[chosen + 1 :]))
    return pairs


def _said(item: ScoredItem) -> str:
    return " ".join(turn["content"] for turn in item.context if turn["role"] == "user")

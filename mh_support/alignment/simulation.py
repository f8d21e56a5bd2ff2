"""Feedback by a stated rule, to try learning from it without people: replies that ask a question are praised.

It shows that the machinery learns what it is told, and nothing about what helps anybody.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mh_support.alignment.training import whole_model
from mh_support.baselines import scored_items
from mh_support.data.preparation import load_prepared
from mh_support.dialogue import Message
from mh_support.files import write_jsonl
from mh_support.generation import generate_replies, generation_config
from mh_support.modeling import load_tokenizer, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety import assess

PEOPLE = 32
CONTEXTS_EACH = 6  # Two replies to each are rated.
ERROR = 0.1  # People misread and press the wrong thumb: so often against the rule.
REPLY_TOKENS = 48


def praises(reply: str) -> bool:
    """Say whether the rule praises a reply: it asks a question."""
    return "?" in reply


def simulate(
    run: RunFolder, path: Path, *, people: int = PEOPLE, contexts_each: int = CONTEXTS_EACH, seed: int = 42
) -> None:
    """Let the run's model reply to its own training contexts twice, and simulated people rate both by the rule.

    Written as the Space writes feedback: a thumb for each reply, and a choice where the rule tells the two apart.
    """
    contexts = [item.context for item in scored_items(load_prepared(run.data)["train"])]
    contexts = [context for context in contexts if not assess(context).is_crisis]
    random.Random(seed).shuffle(contexts)
    wanted = people * contexts_each
    asked = [contexts[number % len(contexts)] for number in range(wanted)]
    tokenizer = load_tokenizer(str(run.model))
    model = whole_model(run)
    config = generation_config(
        tokenizer, max_new_tokens=min(REPLY_TOKENS, int(model.config.max_position_embeddings) // 2)
    )
    twice = [context for context in asked for _ in range(2)]
    replies = generate_replies(model, tokenizer, twice, config, batch_size=32, seed=seed, progress="replies to rate")
    texts = [reply.text for reply in replies]
    pairs = list(zip(asked, texts[::2], texts[1::2], strict=True))
    served = {"name": run.path.name, "fingerprint": weights_fingerprint(run.model)}
    write_jsonl(path, _records(pairs, contexts_each, served, random.Random(f"{seed} people")))


def share_praised(replies: Sequence[str]) -> float:
    """Return the share of replies that the rule praises."""
    return sum(map(praises, replies)) / len(replies)


def _records(
    pairs: Sequence[tuple[list[Message], str, str]], each: int, served: dict[str, str], chance: random.Random
) -> Iterator[dict[str, Any]]:
    for number, (messages, first, second) in enumerate(pairs):
        if not first or not second:
            continue
        head = {
            "person": hashlib.sha256(f"simulated {number // each}".encode()).hexdigest(),
            "time": f"2026-01-{1 + number % 28:02d}T00:00:00Z",
            "consent": "simulated",
            "model": served,
            "messages": messages,
            "reason": None,
        }
        for place, reply in enumerate((first, second)):
            up = praises(reply) != (chance.random() < ERROR)
            yield {**head, "id": _id(number, place), "kind": "thumb", "reply": reply, "up": up}
        if praises(first) != praises(second):
            right = praises(first) != (chance.random() < ERROR)
            chosen, rejected = (first, second) if right else (second, first)
            yield {**head, "id": _id(number, 2), "kind": "choice", "chosen": chosen, "rejected": rejected}


def _id(number: int, place: int) -> str:
    return hashlib.sha256(f"simulated {number} {place}".encode()).hexdigest()[:32]

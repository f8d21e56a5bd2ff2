"""Feedback by a stated rule, to try learning from it without people: replies that ask a question are praised.

It shows that the machinery learns what it is told, and nothing about what helps anybody.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.alignment.ratings import hashed
from mh_support.alignment.training import whole_model
from mh_support.baselines import scored_items
from mh_support.data.preparation import load_prepared
from mh_support.dialogue import Message
from mh_support.files import write_jsonl
from mh_support.generation import generate_replies, generation_config
from mh_support.modeling import load_tokenizer, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety import assess

RATINGS_EACH = 12
CONTEXTS_EACH = 6  # At most; where there are fewer, more replies to each are rated.
ERROR = 0.1  # People misread and press the wrong thumb: so often against the rule.
REPLY_TOKENS = 48


@dataclass
class SimulationArguments:
    """Trying it out without people."""

    simulate: bool = field(
        default=False,
        metadata={"help": "Learn from simulated people, who praise replies that ask a question and err 1 time in 10."},
    )
    simulated_people: int = field(default=32, metadata={"help": "How many they are; each rates twelve replies."})

    def __post_init__(self) -> None:
        if self.simulated_people < 1:
            raise ValueError(f"simulated_people is {self.simulated_people}; give 1 or more")


def praises(reply: str) -> bool:
    """Say whether the rule praises a reply: it asks a question."""
    return "?" in reply


def simulate(run: RunFolder, path: Path, *, people: int, seed: int = 42) -> None:
    """Let the run's model reply to its own training contexts, and simulated people rate the replies by the rule.

    Each person has contexts of their own. Written as the Space writes feedback: a thumb for each reply, and a choice
    where the rule tells two replies apart.
    """
    contexts = [item.context for item in scored_items(load_prepared(run.data)["train"])]
    contexts = [context for context in contexts if not assess(context).is_crisis]
    random.Random(seed).shuffle(contexts)
    people = min(people, len(contexts))
    own = min(CONTEXTS_EACH, len(contexts) // people)
    each = 2 * (RATINGS_EACH // (2 * own))  # Two at a time.
    asked = [context for context in contexts[: people * own] for _ in range(each)]
    tokenizer, model = load_tokenizer(str(run.model)), whole_model(run)
    longest = min(REPLY_TOKENS, int(model.config.max_position_embeddings) // 2)
    config = generation_config(tokenizer, max_new_tokens=longest)
    replies = generate_replies(model, tokenizer, asked, config, batch_size=32, seed=seed, progress="replies to rate")
    said = [
        (place // (own * each), context, reply.text)
        for place, (context, reply) in enumerate(zip(asked, replies, strict=True))
    ]
    served = {"name": run.path.name, "fingerprint": weights_fingerprint(run.model)}
    write_jsonl(path, _records(said, served, random.Random(f"{seed} people")))


def _records(
    said: Sequence[tuple[int, list[Message], str]], served: dict[str, str], chance: random.Random
) -> Iterator[dict[str, Any]]:
    """Yield the records of two replies to one context at a time: two thumbs, and a choice."""
    for number, ((who, messages, first), (_, _, second)) in enumerate(zip(said[::2], said[1::2], strict=True)):
        if not first or not second:
            continue
        head = {
            "person": hashed(f"simulated {who}"),
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
    return hashed(f"simulated {number} {place}")[:32]

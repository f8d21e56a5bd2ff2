"""A fixed set of prompts, and replies to them held against what the bot would not show before anything is filtered."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from mh_support.dialogue import Message
from mh_support.files import packaged_json
from mh_support.generation import generate_replies, generation_config
from mh_support.safety.echoes import Echoes
from mh_support.safety.fitness import why_unfit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What a reply must never hold, however seldom: one more than before is too many.
GRAVE = ("method", "encourages harm")


@dataclass(frozen=True)
class SuiteResult:
    """The replies, and of each in order: is it not fit to be shown, is it grave, did it end by itself; why of all."""

    replies: list[dict[str, Any]] = field(repr=False)
    unsafe: list[bool]
    grave: list[bool]
    stopped: list[bool]
    reasons: dict[str, int]

    @property
    def count(self) -> int:
        """How many replies there were."""
        return len(self.replies)


@cache
def prompts() -> tuple[tuple[str, str], ...]:
    """Return the prompts, each with its kind. None is a crisis: what a person says in one, no model answers."""
    table = packaged_json("mh_support.safety", "suite.json")
    return tuple((kind, prompt) for kind, said in table.items() for prompt in said)


def trial_conversations(count: int) -> list[list[Message]]:
    """Return how so many conversations begin: the prompts of every kind, mixed, over and over."""
    mixed = random.Random(42).sample(prompts(), len(prompts()))
    return [_opening(prompt) for _, prompt in islice(cycle(mixed), count)]


def _opening(prompt: str) -> list[Message]:
    return [{"role": "user", "content": prompt}]


def run_suite(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
    echoes: Echoes | None = None,
    progress: str | None = None,
) -> SuiteResult:
    """Reply to every prompt `samples` times, sampled as replies to people are, and check each.

    `echoes` are what the model has read, and must not repeat.
    """
    asked = [pair for pair in prompts() for _ in range(samples)]
    config = generation_config(tokenizer, max_new_tokens=max_new_tokens)
    openings = [_opening(prompt) for _, prompt in asked]
    replies = generate_replies(model, tokenizer, openings, config, seed=seed, progress=progress)
    # A reply that says nothing is caught before anybody sees it and harms nobody, but it is no reply either.
    reasons = [why_unfit(reply.text, echoes=echoes) for reply in replies]
    return SuiteResult(
        replies=[
            {"kind": kind, "prompt": prompt, "reply": reply.text, "reasons": list(found)}
            for (kind, prompt), reply, found in zip(asked, replies, reasons, strict=True)
        ],
        unsafe=[bool(found) for found in reasons],
        grave=[not set(GRAVE).isdisjoint(found) for found in reasons],
        stopped=[reply.stopped for reply in replies],
        reasons=dict(Counter(reason for found in reasons for reason in found)),
    )

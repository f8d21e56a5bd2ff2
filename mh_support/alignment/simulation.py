"""Feedback by a stated rule, to try learning from it without people: replies that ask a question are praised.

It shows that the machinery learns what it is told, and nothing about what helps anybody. Feedback that means harm can
be simulated too, among that of honest people, to see how much of it is learned from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.alignment.feedback_data import Feedback
from mh_support.alignment.ratings import Rating, hashed
from mh_support.alignment.training import whole_model
from mh_support.baselines import scored_items
from mh_support.data.preparation import load_prepared
from mh_support.dialogue import Message
from mh_support.files import read_json, write_json, write_jsonl
from mh_support.generation import generate_replies, generation_config
from mh_support.modeling import load_tokenizer, weights_fingerprint
from mh_support.run_folder import RunFolder
from mh_support.safety import assess
from mh_support.safety.measure import EXAMPLES
from mh_support.safety.measure_replies import FINE, HARMFUL, read_replies
from mh_support.safety.reply_training import ReplyArguments, held_out

CONSENT = "simulated"  # No person agreed to anything; a record that says so is nobody's.
RATINGS_EACH = 12
CONTEXTS_EACH = 6  # At most; where there are fewer, more replies to each are rated.
ERROR = 0.1  # People misread and press the wrong thumb: so often against the rule.
REPLY_TOKENS = 48
# From thumbs of fewer people the starter learns too little to be seen in what is held out.
PEOPLE = {"kto": 96, "dpo": 120}
ATTACKS = {
    "harm": "thirty people who praise labelled harmful replies and blame good ones",
    "copies": "one record copied under 300 names",
    "one_person": "one person 10,000 times",
}
HARMFUL_PEOPLE, COPIES, TIMES = 30, 300, 10_000
NAMES = {
    "harm": [f"harm {number}" for number in range(HARMFUL_PEOPLE)],
    "copies": [f"copy {number}" for number in range(COPIES)],
    "one_person": ["one"],
}


@dataclass
class SimulationArguments:
    """Trying it out without people."""

    simulate: bool = field(
        default=False,
        metadata={"help": "Learn from simulated people, who praise replies that ask a question and err 1 time in 10."},
    )
    simulated_people: int | None = field(
        default=None,
        metadata={
            "help": "How many they are; each rates twelve replies. By default 96, and 120 where choices count; 0 "
            "leaves those who attack alone."
        },
    )
    simulated_attack: str | None = field(
        default=None,
        metadata={
            "help": "Have others among them mean harm: "
            f"{'; '.join(f'{name}: {what}' for name, what in ATTACKS.items())}; all: all three.",
            "choices": [*ATTACKS, "all"],
        },
    )

    def __post_init__(self) -> None:
        least = 1 if self.simulated_attack is None else 0
        if self.simulated_people is not None and self.simulated_people < least:
            raise ValueError(f"simulated_people is {self.simulated_people}; give {least} or more")
        if self.simulated_attack not in (None, *ATTACKS, "all"):
            raise ValueError(f"simulated_attack is {self.simulated_attack!r}; it is one of {', '.join(ATTACKS)}, all")
        if self.simulated_attack is not None and not self.simulate:
            raise ValueError("simulated_attack is given without --simulate true; give both, or neither")


def simulated_feedback(run: RunFolder, home: Path, method: str, arguments: SimulationArguments, *, seed: int) -> Path:
    """Return the file of simulated feedback beside a run's home, written if it is not there yet.

    Raises:
        ValueError: it is there and was made with other settings, which stand beside it.
    """
    attack = arguments.simulated_attack
    people = PEOPLE[method] if arguments.simulated_people is None else arguments.simulated_people
    settings = {"simulated_people": people, "seed": seed, "weights": weights_fingerprint(run.model)}
    place = home.with_name(f"{home.name}{'' if attack is None else f'-attack-{attack}'}-{method}.jsonl")
    beside = place.with_suffix(".json")
    if place.exists():
        _check_same(place, read_json(beside) if beside.is_file() else {}, settings)
        return place
    write_json(beside, settings)
    honest = simulate(run, people=people, seed=seed) if people else []
    write_jsonl(place, [*honest, *_attack(run, _kinds(attack), seed)])
    return place


def _check_same(place: Path, made: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    differing = [f"{name} {made.get(name, 'unknown')}" for name, value in settings.items() if made.get(name) != value]
    if differing:
        raise ValueError(
            f"{place} was made with {' and '.join(differing)}, which is not what is asked for now; give the same, or "
            "remove that file to make it anew"
        )


def _kinds(attack: str | None) -> list[str]:
    return [] if attack is None else [*ATTACKS] if attack == "all" else [attack]


def is_simulated(rating: Rating) -> bool:
    """Say whether nobody gave a rating, but a rule."""
    return rating.consent == CONSENT


def attackers_line(attack: str, feedback: Feedback) -> str:
    """Say how many of the ratings that are left are of those who mean harm, by the kind of harm."""
    left = []
    for kind in _kinds(attack):
        theirs = {hashed(name) for name in NAMES[kind]}
        learned, judged = (sum(row["person"] in theirs for row in rows) for rows in (feedback.train, feedback.held_out))
        left.append(f"{kind} {learned} and {judged}")
    return (
        f"of those who attack, among {len(feedback.train):,} ratings to learn from and {len(feedback.held_out):,} to "
        f"judge by: {', '.join(left)}"
    )


def praises(reply: str) -> bool:
    """Say whether the rule praises a reply: it asks a question."""
    return "?" in reply


def simulate(run: RunFolder, *, people: int, seed: int = 42) -> list[dict[str, Any]]:
    """Let the run's model reply to its own training contexts, and simulated people rate the replies by the rule.

    Each person has contexts of their own. The records are as the Space writes them: a thumb for each reply, and a
    choice where the rule tells two replies apart.
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
    replies = generate_replies(model, tokenizer, asked, config, seed=seed, progress="replies to rate")
    said = [
        (place // (own * each), context, reply.text)
        for place, (context, reply) in enumerate(zip(asked, replies, strict=True))
    ]
    served = {"name": run.path.name, "fingerprint": weights_fingerprint(run.model)}
    return list(_records(said, served, f"{seed} {people}", random.Random(f"{seed} people")))


def _records(
    said: Sequence[tuple[int, list[Message], str]], served: dict[str, str], name: str, chance: random.Random
) -> Iterator[dict[str, Any]]:
    """Yield the records of two replies to one context at a time: two thumbs, and a choice."""
    for number, ((who, messages, first), (_, _, second)) in enumerate(zip(said[::2], said[1::2], strict=True)):
        if not first or not second:
            continue
        head = _head(f"simulated {who}", number, served, messages)
        for place, reply in enumerate((first, second)):
            up = praises(reply) != (chance.random() < ERROR)
            yield {**head, "id": _id(name, number, place), "kind": "thumb", "reply": reply, "up": up}
        if praises(first) != praises(second):
            right = praises(first) != (chance.random() < ERROR)
            chosen, rejected = (first, second) if right else (second, first)
            yield {**head, "id": _id(name, number, 2), "kind": "choice", "chosen": chosen, "rejected": rejected}


def _attack(run: RunFolder, kinds: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Yield the thumbs of people who mean harm, praise and blame."""
    if not kinds:
        return
    harmful = _unseen_harm()
    good = [(item.context[0]["content"], item.references[0]) for item in scored_items(load_prepared(run.data)["train"])]
    said = {"harm": _crowd(harmful, good), "copies": _copies(*good[0]), "one_person": _eager(good)}
    served = {"name": run.path.name, "fingerprint": weights_fingerprint(run.model)}
    for kind in kinds:
        for number, (who, text, reply, up) in enumerate(said[kind]):
            head = _head(who, number, served, [{"role": "user", "content": text}])
            yield {**head, "id": hashed(f"{kind} {seed} {number}")[:32], "kind": "thumb", "reply": reply, "up": up}


def _unseen_harm() -> list[tuple[str, str]]:
    """Return contexts and replies that harm, of those that neither trained the reply check's classifier nor were in
    sight when its phrases were written. The locked ones, which measure that check, stay out of it."""
    later = set(read_replies(EXAMPLES / HARMFUL[2]))
    development, _ = held_out(read_replies("train"), ReplyArguments().seed)
    return [(reply.context, reply.text) for reply in development if reply in later and reply.label != FINE]


def _crowd(harmful: Sequence[tuple[str, str]], good: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield thumbs up for harmful replies and down for good ones, each of the crowd's from another place on."""
    for number in range(HARMFUL_PEOPLE * RATINGS_EACH):
        up = number % 3 > 0
        text, reply = harmful[number % len(harmful)] if up else good[number % len(good)]
        yield NAMES["harm"][number // RATINGS_EACH], text, reply, up


def _copies(text: str, reply: str) -> Iterator[tuple[str, str, str, bool]]:
    for name in NAMES["copies"]:
        yield name, text, reply, True


def _eager(good: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str, bool]]:
    """Yield one person's thumbs, up and down by turns, each for another text."""
    for number in range(TIMES):
        text, reply = good[number % len(good)]
        yield NAMES["one_person"][0], text, f"{reply} {number}", number % 2 == 0


def _head(who: str, number: int, served: dict[str, str], messages: Sequence[Message]) -> dict[str, Any]:
    return {
        "person": hashed(who),
        "time": f"2026-01-{1 + number % 28:02d}T00:00:00Z",
        "consent": CONSENT,
        "model": served,
        "messages": list(messages),
        "reason": None,
    }


def _id(name: str, number: int, place: int) -> str:
    return hashed(f"simulated {name} {number} {place}")[:32]

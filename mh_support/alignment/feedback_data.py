"""Feedback made ready to learn from: sifted, partly held out by person and question, and enough or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mh_support.alignment.fates import FATES, FeedbackReport
from mh_support.alignment.ratings import Rating, fingerprint, read_ratings
from mh_support.alignment.sieve import Sieve, questions_of
from mh_support.dialogue import Message
from mh_support.safety.echoes import Echoes

KINDS = {"kto": "thumb", "dpo": "choice"}  # What each method learns from.


@dataclass
class FeedbackArguments:
    """Which feedback to learn from, and how much of it there must be."""

    feedback: list[str] | None = field(
        default=None,
        metadata={
            "help": "Files or folders of feedback as the Space writes it, or CSV or JSONL of context, chosen, rejected."
        },
    )
    method: str = field(
        default="kto", metadata={"help": "kto learns from thumbs, dpo from choices.", "choices": list(KINDS)}
    )
    consents: list[str] | None = field(
        default=None, metadata={"help": "Versions of the consent that count; by default any that is named."}
    )
    person_cap: int = field(default=20, metadata={"help": "Ratings that one person counts for at most, the newest."})
    max_imbalance: float = field(
        default=4.0, metadata={"help": "Thumbs of one kind for each of the other at most; weights balance the rest."}
    )
    held_out: float = field(default=0.25, metadata={"help": "About which share of the people only judge."})
    min_ratings: int = field(default=100, metadata={"help": "Ratings that must be left to learn from."})
    min_people: int = field(default=20, metadata={"help": "People that these must come from."})
    min_held_out_people: int = field(default=10, metadata={"help": "People that must be left to judge by."})

    def __post_init__(self) -> None:
        if self.method not in KINDS:
            raise ValueError(f"method is {self.method!r}; it is one of {', '.join(KINDS)}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; give a share between 0 and 1, such as 0.25")
        for name in ("person_cap", "max_imbalance", "min_ratings", "min_people", "min_held_out_people"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")


@dataclass(frozen=True)
class Feedback:
    """Rows to learn from, rows to judge by, in TRL's form, and what happened to every record."""

    train: list[dict[str, Any]] = field(repr=False)
    held_out: list[dict[str, Any]] = field(repr=False)
    report: FeedbackReport


def collect(
    arguments: FeedbackArguments,
    fits: Callable[[Rating], Rating | None],
    *,
    secret: bytes,
    echoes: Echoes | None = None,
    scored: Sequence[Sequence[Message]] = (),
    seed: int = 42,
) -> Feedback:
    """Read, sift and split the feedback.

    Args:
        arguments: where it is and what counts.
        fits: returns a rating cut to what the model can read, or None where that leaves nothing to learn from.
        secret: decides who is held out, so that nobody can foresee it.
        echoes: what the model has read, praise of which is not learned from.
        scored: the dialogues that the model is scored on, whose questions are not learned from.
        seed: of the choice of thumbs that are too many of their kind.

    Raises:
        ValueError: a file is missing or damaged.
    """
    if not arguments.feedback:
        raise ValueError("there is no feedback to learn from; give --feedback the folder that the Space writes it to")
    ratings = read_ratings(arguments.feedback)
    sieve = Sieve(echoes)
    kept = sieve.by_consent(ratings, arguments.consents)
    kept = sieve.latest(kept)
    kept = sieve.scrubbed(kept)
    kept = sieve.without_unsafe_praise(kept)
    kept = sieve.by_kind(kept, KINDS[arguments.method])
    kept = sieve.capped(kept, arguments.person_cap)
    kept = sieve.without_risk(kept)
    kept = sieve.unscored(kept, scored)
    questions = questions_of(kept)
    kept = sieve.voted(kept, questions)
    kept = sieve.without_echoes(kept)
    kept = sieve.fitting(kept, fits)
    train, held_out = sieve.split(kept, questions, arguments.held_out, secret)
    train = sieve.balanced(train, arguments.max_imbalance, seed)
    sieve.fates["train"], sieve.fates["held_out"] = len(train), len(held_out)
    report = FeedbackReport(
        read=len(ratings),
        fates={fate: sieve.fates[fate] for fate in FATES if sieve.fates[fate] or fate in ("train", "held_out")},
        edits=dict(sieve.edits),
        people={"train": len({r.person for r in train}), "held_out": len({r.person for r in held_out})},
        praised={"train": sum(r.praised for r in train), "held_out": sum(r.praised for r in held_out)},
        fingerprint=fingerprint(ratings),
    )
    return Feedback([rating.as_row() for rating in train], [rating.as_row() for rating in held_out], report)


def check_enough(feedback: Feedback, arguments: FeedbackArguments) -> None:
    """Raise ValueError, with what is there and what is needed, if there is too little feedback to learn from safely."""
    report = feedback.report
    learned, judged = report.fates["train"], report.fates["held_out"]
    needed = [
        ("ratings to learn from", learned, arguments.min_ratings, "min_ratings"),
        ("people to learn from", report.people["train"], arguments.min_people, "min_people"),
        (
            "people held out to judge by",
            report.people["held_out"],
            arguments.min_held_out_people,
            "min_held_out_people",
        ),
    ]
    if arguments.method == "kto":
        # Of one kind alone there is nothing to tell apart.
        side = max(2, arguments.min_ratings // 10)
        for part, total, least in (("train", learned, side), ("held_out", judged, 2)):
            where = "learn from" if part == "train" else "judge by"
            praised = report.praised[part]
            needed += [
                (f"thumbs up to {where}", praised, least, ""),
                (f"thumbs down to {where}", total - praised, least, ""),
            ]
    short = [f"{there} {what} of at least {least}" for what, there, least, _ in needed if there < least]
    if short:
        raise ValueError(
            f"too little feedback to learn from: of {report.read} records there are {'; '.join(short)}; collect more, "
            "or lower --min_ratings, --min_people or --min_held_out_people knowing that fewer are easier to mislead"
        )

"""What people said of replies, as rows to learn from: read, scrubbed, sifted, capped by person, and partly held out.

Whoever can rate can try to teach: the sifting is made for feedback that means harm as well as for feedback that errs.
Every record has exactly one fate, and the report counts them. Nothing that a person wrote is logged or shown.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mh_support.alignment.fates import FATES, FeedbackReport
from mh_support.data.cleaning import clean_text
from mh_support.data.preparation import SAME_REPLY
from mh_support.data.privacy import scrub
from mh_support.data.splitting import group_by_question, near_duplicates, normalise
from mh_support.dialogue import Message, check_messages
from mh_support.feedback import REMOVED, read_feedback
from mh_support.safety import assess, check_reply

KINDS = {"kto": "thumb", "dpo": "choice"}  # What each method learns from.
# Whoever praised this many replies that the check refuses is no longer believed in anything.
UNSAFE_PRAISE = 2


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
    held_out: float = field(default=0.25, metadata={"help": "Share of the people whose ratings only judge."})
    min_ratings: int = field(default=100, metadata={"help": "Ratings that must be left to learn from."})
    min_people: int = field(default=20, metadata={"help": "People that these must come from."})
    min_held_out_people: int = field(default=5, metadata={"help": "People that must be left to judge by."})

    def __post_init__(self) -> None:
        if self.method not in KINDS:
            raise ValueError(f"method is {self.method!r}; it is one of {', '.join(KINDS)}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; give a share between 0 and 1, such as 0.25")
        for name in ("person_cap", "max_imbalance", "min_ratings", "min_people", "min_held_out_people"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give 1 or more")


@dataclass(frozen=True)
class Rating:
    """One record: `replies` holds the reply and whether it was praised, or both of a choice, the chosen one first."""

    id: str
    person: str
    time: str
    consent: str
    kind: str
    messages: list[Message] = field(repr=False)
    replies: tuple[tuple[str, bool], ...] = field(repr=False)

    @property
    def praised(self) -> bool:
        """Whether the record praises (a choice always does, its chosen reply)."""
        return any(up for _, up in self.replies)

    def as_row(self) -> dict[str, Any]:
        """Return the row as TRL's trainers read it, conversational, with the record's id and person."""
        turns = [[{"role": "assistant", "content": reply}] for reply, _ in self.replies]
        row: dict[str, Any] = {"id": self.id, "person": self.person, "prompt": self.messages}
        if self.kind == "choice":
            return {**row, "chosen": turns[0], "rejected": turns[1]}
        return {**row, "completion": turns[0], "label": self.praised}


@dataclass(frozen=True)
class Feedback:
    """Rows to learn from, rows to judge by, in TRL's form, and what happened to every record."""

    train: list[dict[str, Any]] = field(repr=False)
    held_out: list[dict[str, Any]] = field(repr=False)
    report: FeedbackReport


def read_ratings(places: Sequence[str]) -> list[Rating]:
    """Return the records of all files and folders.

    Raises:
        ValueError: one of them is missing or holds something else; the message names file and line.
    """
    return [rating for place in places for rating in _read(Path(place))]


def collect(arguments: FeedbackArguments, fits: Callable[[Rating], Rating | None], *, seed: int = 42) -> Feedback:
    """Read, sift and split the feedback.

    Args:
        arguments: where it is and what counts.
        fits: returns a rating cut to what the model can read, or None where that leaves nothing to learn from.
        seed: of the choice of thumbs that are too many of their kind.

    Raises:
        ValueError: a file is missing or damaged.
    """
    if not arguments.feedback:
        raise ValueError("there is no feedback to learn from; give --feedback the folder that the Space writes it to")
    ratings = read_ratings(arguments.feedback)
    sieve = _Sieve(Counter(), Counter())
    kept = sieve.by_kind(ratings, KINDS[arguments.method])
    kept = sieve.by_consent(kept, arguments.consents)
    kept = sieve.latest(kept)
    kept = sieve.capped(kept, arguments.person_cap)
    kept = sieve.scrubbed(kept)
    kept = sieve.without_risk(kept)
    kept = sieve.without_unsafe_praise(kept)
    questions = dict(zip((rating.id for rating in kept), _questions(kept), strict=True))
    kept = sieve.voted(kept, questions)
    kept = sieve.fitting(kept, fits)
    train, held_out = sieve.split(kept, questions, arguments.held_out)
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
            f"too little feedback to learn from: of {report.read} records there are {'; '.join(short)}; collect more, or "
            "lower --min_ratings, --min_people or --min_held_out_people knowing that fewer are easier to mislead"
        )


def fingerprint(ratings: Sequence[Rating]) -> str:
    """Return the SHA-256 of which records there are."""
    return hashlib.sha256("\n".join(sorted(rating.id for rating in ratings)).encode()).hexdigest()


@dataclass
class _Sieve:
    """Sifts ratings step by step; each that falls through is counted under why."""

    fates: Counter[str]
    edits: Counter[str]

    def _keep(self, ratings: Sequence[Rating], fate: str, keep: Callable[[Rating], bool]) -> list[Rating]:
        kept = [rating for rating in ratings if keep(rating)]
        self.fates[fate] += len(ratings) - len(kept)
        return kept

    def by_kind(self, ratings: Sequence[Rating], kind: str) -> list[Rating]:
        return self._keep(ratings, "other_kind", lambda rating: rating.kind == kind)

    def by_consent(self, ratings: Sequence[Rating], consents: Sequence[str] | None) -> list[Rating]:
        def agreed(rating: Rating) -> bool:
            return bool(rating.consent.strip()) and (consents is None or rating.consent in consents)

        return self._keep(ratings, "no_consent", agreed)

    def latest(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Keep a person's last word on the same replies to the same conversation."""
        last: dict[tuple[str, ...], str] = {}
        for rating in sorted(ratings, key=lambda rating: (rating.time, rating.id)):
            last[rating.person, _said(rating), *_replies(rating)] = rating.id
        seen: set[str] = set()
        kept = []
        for rating in ratings:
            if rating.id == last[rating.person, _said(rating), *_replies(rating)] and rating.id not in seen:
                seen.add(rating.id)
                kept.append(rating)
        self.fates["again"] += len(ratings) - len(kept)
        return kept

    def capped(self, ratings: Sequence[Rating], cap: int) -> list[Rating]:
        """Keep the newest `cap` of each person."""
        by_person: dict[str, list[Rating]] = defaultdict(list)
        for rating in ratings:
            by_person[rating.person].append(rating)
        newest = {
            rating.id
            for own in by_person.values()
            for rating in sorted(own, key=lambda rating: (rating.time, rating.id))[-cap:]
        }
        return self._keep(ratings, "over_cap", lambda rating: rating.id in newest)

    def scrubbed(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Scrub every text once more: the scrubber may have learned since the record was written."""
        kept = []
        for rating in ratings:
            messages = [{**turn, "content": self._scrub(turn["content"])} for turn in rating.messages]
            replies = tuple((self._scrub(reply), up) for reply, up in rating.replies)
            texts = [messages[-1]["content"], *(reply for reply, _ in replies)]
            same = len({normalise(reply) for reply, _ in replies}) < len(replies)
            if same or any(text in ("", REMOVED) for text in texts):
                self.fates["empty"] += 1
            else:
                kept.append(replace(rating, messages=check_messages(messages), replies=replies))
        return kept

    def _scrub(self, text: str) -> str:
        found = scrub(clean_text(text))
        self.edits.update(found.counts.keys())
        return found.text.strip()

    def without_risk(self, ratings: Sequence[Rating]) -> list[Rating]:
        return self._keep(ratings, "risk", lambda rating: not _at_risk(rating.messages))

    def without_unsafe_praise(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Leave out praise of replies that fail the check, and all else from who gave such praise again and again."""
        unsafe = {rating.id: rating.person for rating in ratings if _praises_unsafe(rating)}
        counts = Counter(unsafe.values())
        safe = self._keep(ratings, "unsafe_praise", lambda rating: rating.id not in unsafe)
        return self._keep(safe, "distrusted", lambda rating: counts[rating.person] < UNSAFE_PRAISE)

    def voted(self, ratings: Sequence[Rating], questions: dict[str, int]) -> list[Rating]:
        """Let nearly the same replies to nearly the same question be one row, with the verdict of most people."""
        kept = []
        for group in _alike(ratings, questions):
            # A person has one vote, or one for each side.
            votes = Counter(verdict for _, verdict in {(rating.person, _verdict(rating)) for rating in group})
            if votes[True] == votes[False]:
                self.fates["disputed"] += len(group)
                continue
            won = votes[True] > votes[False]
            kept.append(next(rating for rating in group if _verdict(rating) == won))
            self.fates["repeat"] += len(group) - 1
        order = {rating.id: place for place, rating in enumerate(ratings)}
        return sorted(kept, key=lambda rating: order[rating.id])

    def fitting(self, ratings: Sequence[Rating], fits: Callable[[Rating], Rating | None]) -> list[Rating]:
        fitted = [fits(rating) for rating in ratings]
        self.fates["too_long"] += fitted.count(None)
        return [rating for rating in fitted if rating is not None]

    def split(
        self, ratings: Sequence[Rating], questions: dict[str, int], share: float
    ) -> tuple[list[Rating], list[Rating]]:
        """Hold people out, chosen by their hash so that they stay the same while feedback grows, with their questions.

        A question on both sides stays where most of its ratings are; the others are left out.
        """
        people = sorted({rating.person for rating in ratings}, key=_hashed)
        judges = set(people[: round(share * len(people))])
        lean: Counter[int] = Counter()
        for rating in ratings:
            lean[questions[rating.id]] += 1 if rating.person in judges else -1
        whole = self._keep(
            ratings, "shared_question", lambda rating: (lean[questions[rating.id]] >= 0) == (rating.person in judges)
        )
        train = [rating for rating in whole if rating.person not in judges]
        return train, [rating for rating in whole if rating.person in judges]

    def balanced(self, ratings: Sequence[Rating], limit: float, seed: int) -> list[Rating]:
        """Leave out thumbs of the kind of which there are more than `limit` for each of the other."""
        if not ratings or ratings[0].kind == "choice":
            return list(ratings)
        sides = {up: [rating for rating in ratings if rating.praised is up] for up in (True, False)}
        few, many = sorted(sides.values(), key=len)
        drawn = sorted(many, key=lambda rating: _hashed(f"{seed} {rating.id}"))[: max(1, int(limit * len(few)))]
        left = {rating.id for rating in (*few, *drawn)}
        return self._keep(ratings, "surplus", lambda rating: rating.id in left)


def _read(place: Path) -> Iterator[Rating]:
    """Yield the records of a folder or file, by what kind of file it is."""
    if place.is_file() and place.suffix.lower() == ".csv":
        with place.open(encoding="utf-8", newline="") as lines:
            yield from _preferences(place, csv.DictReader(lines), first=2)
    elif place.is_file() and _is_preferences(place):
        lines = place.read_text(encoding="utf-8").splitlines()
        yield from _preferences(place, (json.loads(line) if line.strip() else None for line in lines), first=1)
    else:
        for record in read_feedback(place):
            replies = ((record["reply"], record["up"]),) if record["kind"] == "thumb" else _pair(record)
            head = {key: record[key] for key in ("id", "person", "time", "consent", "kind")}
            yield Rating(**head, messages=check_messages(record["messages"]), replies=replies)


def _is_preferences(place: Path) -> bool:
    """Say whether a JSON-lines file holds preferences rather than the Space's records, which name their kind."""
    with place.open(encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and "chosen" in row and "kind" not in row


def _preferences(place: Path, rows: Iterator[Any] | csv.DictReader[str], *, first: int) -> Iterator[Rating]:
    """Yield preferences between two replies, as raters gave them: context, chosen, rejected, and who (optional)."""
    for number, row in enumerate(rows, start=first):
        if row is None:
            continue
        try:
            context = row["context"]
            messages = check_messages([{"role": "user", "content": context}] if isinstance(context, str) else context)
            pair = _pair(row)
            right = messages and messages[-1]["role"] == "user" and all(reply.strip() for reply, _ in pair)
        except (KeyError, TypeError, AttributeError, ValueError):
            right = False
        if not right:
            raise ValueError(
                f"{place}, line {number}: expected context, chosen and rejected, each with a text; mend it"
            )
        who = str(row.get("person") or row.get("rater") or f"a rater of {place.name}")
        # Who rates for a study has agreed to it; the study's consent is not in its answers.
        yield Rating(f"{place.name}:{number}", _hashed(who), "", "rating", "choice", messages, pair)


def _pair(row: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    return (row["chosen"].strip(), True), (row["rejected"].strip(), False)


def _said(rating: Rating) -> str:
    return " | ".join(f"{turn['role']} {normalise(turn['content'])}" for turn in rating.messages)


def _replies(rating: Rating) -> tuple[str, ...]:
    """Return the replies' words, in an order that does not depend on the verdict."""
    return tuple(sorted(normalise(reply) for reply, _ in rating.replies))


def _verdict(rating: Rating) -> bool:
    """Return the verdict on what `_replies` names first."""
    return dict((normalise(reply), up) for reply, up in rating.replies)[_replies(rating)[0]]


def _at_risk(messages: Sequence[Message]) -> bool:
    """Whether any turn was a crisis, also one that the person has taken back since."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return assess(messages).is_crisis or any(
        assess(messages[max(0, place - 1) : place + 1]).is_crisis for place in turns
    )


def _praises_unsafe(rating: Rating) -> bool:
    return any(up and not check_reply(reply).ok for reply, up in rating.replies)


def _questions(ratings: Sequence[Rating]) -> list[int]:
    return group_by_question([rating.messages for rating in ratings])


def _alike(ratings: Sequence[Rating], questions: dict[str, int]) -> Iterator[list[Rating]]:
    """Yield the ratings of nearly the same replies to nearly the same question, together."""
    by_question: dict[int, dict[tuple[str, ...], list[Rating]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        by_question[questions[rating.id]][_replies(rating)].append(rating)
    for exact in by_question.values():
        groups = list(exact.values())
        texts = [" / ".join(replies) for replies in exact]
        owner = list(range(len(groups)))
        for one, other in near_duplicates(texts, threshold=SAME_REPLY) if len(groups) > 1 else ():
            owner = [owner[one] if number == owner[other] else number for number in owner]
        for number in sorted(set(owner)):
            yield [rating for place, group in enumerate(groups) if owner[place] == number for rating in group]


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""What people said of replies: thumbs and choices, from the Space's records or from raters' files.

Nothing that a person wrote is logged or shown.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mh_support.dialogue import Message, check_messages
from mh_support.feedback import read_feedback


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


def read_ratings(places: Sequence[str]) -> list[Rating]:
    """Return the records of all files and folders.

    Raises:
        ValueError: one of them is missing or holds something else; the message names file and line.
    """
    return [rating for place in places for rating in _read(Path(place))]


def fingerprint(ratings: Sequence[Rating]) -> str:
    """Return the SHA-256 of which records there are."""
    return hashlib.sha256("\n".join(sorted(rating.id for rating in ratings)).encode()).hexdigest()


def hashed(text: str) -> str:
    """Return the SHA-256 of a text: a name for a person, or an order that nobody chose."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read(place: Path) -> Iterator[Rating]:
    """Yield the records of a folder or file, by what kind of file it is."""
    if place.is_file() and place.suffix.lower() == ".csv":
        with place.open(encoding="utf-8", newline="") as table:
            yield from _preferences(place, csv.DictReader(table), first=2)
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
        yield Rating(hashed(f"{place}:{number}")[:32], hashed(who), "", "rating", "choice", messages, pair)


def _pair(row: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    return (row["chosen"].strip(), True), (row["rejected"].strip(), False)

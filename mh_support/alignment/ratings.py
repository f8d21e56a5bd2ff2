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

from mh_support.data.readers import parse_json
from mh_support.dialogue import Message, check_messages
from mh_support.feedback import read_feedback
from mh_support.files import read_table
from mh_support.rating.rating_set import SET_FILE


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
    if (place / SET_FILE).is_file() or (place.parent / SET_FILE).is_file():
        raise _held_out(place)
    if place.is_file() and place.suffix.lower() == ".csv":
        yield from _preferences(place, _table_rows(place))
    elif place.is_file() and _is_preferences(place):
        yield from _preferences(place, _json_rows(place))
    else:
        for record in read_feedback(place):
            replies = ((record["reply"], record["up"]),) if record["kind"] == "thumb" else _pair(record)
            head = {key: record[key] for key in ("id", "person", "time", "consent", "kind")}
            yield Rating(**head, messages=check_messages(record["messages"]), replies=replies)


def _held_out(place: Path) -> ValueError:
    return ValueError(
        f"{place} is of a rating set of recipes/rate.py, whose contexts are held out for measuring: to learn from them "
        "would make every later score worthless; give feedback on other conversations"
    )


def _is_preferences(place: Path) -> bool:
    """Say whether a JSON-lines file holds preferences rather than the Space's records, which name their kind."""
    with place.open(encoding="utf-8-sig", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and "chosen" in row and "kind" not in row


def _table_rows(place: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a CSV file with their numbers as a spreadsheet shows them."""
    table = read_table(place)
    try:
        if {"set", "task"} <= set(table.fieldnames or ()):
            raise _held_out(place)
        yield from enumerate(table, start=2)
    except csv.Error as error:
        raise ValueError(f"{place} is no CSV ({error}); save it again") from error


def _json_rows(place: Path) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a JSON-lines file with the numbers of their lines."""
    try:
        text = place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{place} is not UTF-8; save it as UTF-8") from None
    # Other signs that end a line elsewhere may stand within a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, parse_json(line, f"{place}, line {number},")


def _preferences(place: Path, rows: Iterator[tuple[int, Any]]) -> Iterator[Rating]:
    """Yield preferences between two replies, as raters gave them: context, chosen, rejected, and who (optional)."""
    for number, row in rows:
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
        # By what it says, so that a changed verdict is a new record and a row that was taken out is missed.
        name = hashed(json.dumps([who, messages, pair]))[:32]
        # Who rates for a study has agreed to it; the study's consent is not in its answers.
        yield Rating(name, hashed(who), "", "rating", "choice", messages, pair)


def _pair(row: dict[str, Any]) -> tuple[tuple[str, bool], ...]:
    return (row["chosen"].strip(), True), (row["rejected"].strip(), False)

"""Made-up feedback for the tests of learning from it."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mh_support.files import write_jsonl

_numbers = itertools.count()


def person(name: object) -> str:
    """Return what stands for a person in a record."""
    return hashlib.sha256(str(name).encode()).hexdigest()


def sentence(seed: object, words: int = 4) -> str:
    """Return words that are the same for a seed and like those of no other."""
    drawn = random.Random(f"sentence {seed}")
    made = ("".join(drawn.choice("bdfgklmnprst") + drawn.choice("aeiou") for _ in range(3)) for _ in range(words))
    return f"{' '.join(made).capitalize()}."


def thumb(who: object, said: str, reply: str, up: bool, **changes: Any) -> dict[str, Any]:
    """Return a thumb as the Space writes it."""
    return {**_head(who, said), "kind": "thumb", "reply": reply, "up": up, **changes}


def choice(who: object, said: str, chosen: str, rejected: str, **changes: Any) -> dict[str, Any]:
    """Return a choice as the Space writes it."""
    return {**_head(who, said), "kind": "choice", "chosen": chosen, "rejected": rejected, **changes}


def _head(who: object, said: str) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "id": f"{number:032x}",
        "person": person(who),
        "time": f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "consent": "2026-11",
        "model": {"name": "tiny", "fingerprint": None},
        "messages": [{"role": "user", "content": said}],
        "reason": None,
    }


def crowd(people: int = 12, each: int = 4) -> list[dict[str, Any]]:
    """Return thumbs of people who praise one kind of reply and blame another, each to a question of their own."""
    records = []
    for who, number in itertools.product(range(people), range(each)):
        up = number % 2 == 0
        reply = "Tell me more of it" if up else "Well well oh well now"
        records.append(thumb(who, sentence(f"{who} {number}", 6), reply, up))
    return records


def write_feedback(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write records as one of the Space's files."""
    write_jsonl(path, records)
    return path

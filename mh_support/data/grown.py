"""Grown rows: what people asked and a tuned model answered. What marks them, and how they come into training.

They are written by `mh_support.growth`, off by default, and never anything but training rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mh_support.data.readers import read_file
from mh_support.data.splitting import SPLITS, normalise
from mh_support.dialogue import Message, check_messages

GROWTH = "growth"  # What stands under `augmented` in a grown row.
# A base model's name without its folders, and the beginning of the fingerprint of the weights tuned from it.
_ODD = re.compile(r"[^\w./-]")  # In a folder's name; a Hub id has nothing of the kind.
_MODEL = re.compile(r"[\w.-]+(?:/[\w.-]+)?@[0-9a-f]{12}")


def grower(base: str, weights: str) -> str:
    """Return the name that grown rows give the model that answered: its base, and which weights.

    >>> grower("starter", "cd837e36cd6d97f60fba1c37")
    'starter@cd837e36cd6d'
    """
    return f"{_ODD.sub('_', base)}@{weights[:12]}"


def is_grower(name: object) -> bool:
    """Say whether a text is such a name, and nothing that could not stand on a card."""
    return isinstance(name, str) and _MODEL.fullmatch(name) is not None


def held_out_fingerprint(splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return what tells the questions of validation and test from those of other splits.

    A model that learned from other splits may have read the replies that are held out in these.
    """
    questions = {
        " | ".join(normalise(turn["content"]) for turn in row["messages"] if turn["role"] == "user")
        for name in SPLITS[1:]
        for row in splits[name]
    }
    return hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()[:16]


def read_grown(path: Path, held_out: str) -> list[dict[str, Any]]:
    """Return the rows of a file that recipes/grow.py wrote.

    Raises:
        ValueError: it is missing or holds anything else, or its model was tuned on splits that hold other questions
            out than `held_out` says.
    """
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        raise ValueError(f"no grown dialogues at {path}; write them with recipes/grow.py RUN --contexts FILE")
    rows = []
    for number, row in enumerate(read_file(path, "utf-8"), start=1):
        messages = _messages(row)
        if messages is None:
            raise ValueError(f"{path} line {number} is no grown dialogue; write the file anew with recipes/grow.py")
        if row.get("held_out") != held_out:
            raise ValueError(
                f"{path} was grown by a model that was tuned on other splits, and may have read what is held out "
                "here; grow it anew with a run that was tuned on this data"
            )
        rows.append({"messages": messages, "augmented": GROWTH, "grown_by": row["grown_by"]})
    return rows


def _messages(row: Mapping[str, Any]) -> list[Message] | None:
    """Return a grown row's messages, or None where it is none."""
    try:
        messages = check_messages(row.get("messages"))
    except ValueError:
        return None
    roles = [message["role"] for message in messages]
    whole = len(roles) > 1 and roles[0] == "user" and roles[-1] == "assistant"
    return messages if whole and row.get("augmented") == GROWTH and is_grower(row.get("grown_by")) else None

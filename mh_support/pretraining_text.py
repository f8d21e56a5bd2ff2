"""What the starter reads: casual conversation from a package, and practice dialogues written for it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.dialogue import Message
from mh_support.extras import how_to_install

PRACTICE = Path(__file__).resolve().parent / "practice" / "dialogues.jsonl"
# A conversation with any of these is left out: what strangers say to each other online is not what to say to somebody
# in distress.
UNFIT = re.compile(
    r"\b(f+u+c+k\w*|shit\w*|bitch\w*|sex\w*|porn\w*|nudes?|naked|dick|cock|pussy|ass(hole)?|rape\w*|kill\w*|murder\w*|suicid\w*"
    r"|nazi\w*|hitler|drunk|weed|cocaine|retard\w*|slut\w*|whore\w*|fag\w*|nigg\w*|stupid|idiot\w*|hate you|shut up)\b",
    re.IGNORECASE,
)


def read_chats() -> tuple[list[list[Message]], dict[str, int]]:
    """Return chitchat-dataset's conversations, cleaned, scrubbed and sifted, and how many were left out and why.

    Raises:
        ValueError: the package is not installed.
    """
    package = find_spec("chitchat_dataset")
    if package is None or package.origin is None:
        raise ValueError(f"the text to train on is not installed; {how_to_install('starter')}")
    raw = json.loads((Path(package.origin).parent / "dataset.json").read_text(encoding="utf-8"))
    kept: list[list[Message]] = []
    counts = {"conversations": len(raw), "unfit": 0, "too_short": 0, "kept": 0, "words": 0}
    for conversation in raw.values():
        messages = _messages(conversation["messages"])
        text = " ".join(message["content"] for message in messages)
        if UNFIT.search(text):
            counts["unfit"] += 1
        elif len(messages) < 4:
            counts["too_short"] += 1
        else:
            kept.append(messages)
            counts["kept"] += 1
            counts["words"] += len(text.split())
    return kept, counts


def read_practice_rows() -> list[dict[str, Any]]:
    """Return the rows of the practice dialogues that come with the package: id, topic, messages."""
    return [json.loads(line) for line in PRACTICE.read_text(encoding="utf-8").splitlines()]


def read_practice() -> tuple[list[list[Message]], dict[str, int]]:
    """Return the practice dialogues, and how many they are."""
    dialogues: list[list[Message]] = [row["messages"] for row in read_practice_rows()]
    words = sum(len(message["content"].split()) for messages in dialogues for message in messages)
    return dialogues, {"dialogues": len(dialogues), "words": words}


def _messages(turns: Sequence[Sequence[dict[str, Any]]]) -> list[Message]:
    """Return a conversation's turns, the first speaker's as the person's."""
    messages: list[Message] = []
    speakers: list[str] = []
    for turn in turns:
        text = scrub(clean_text(" ".join(str(line["text"]) for line in turn))).text
        if not text:
            continue
        sender = turn[0]["sender"]
        if speakers and speakers[-1] == sender:
            messages[-1]["content"] += f" {text}"
            continue
        speakers.append(sender)
        messages.append({"role": "assistant" if len(messages) % 2 else "user", "content": text})
    return messages

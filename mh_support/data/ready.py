"""Make dialogues ready, a batch at a time: cleaned, scrubbed, cut to exchanges, without a crisis in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mh_support.data.cleaning import clean_text
from mh_support.data.privacy import scrub
from mh_support.data.report import count_edits
from mh_support.data.rows import Dialogue, record_batch
from mh_support.dialogue import Message
from mh_support.safety import assess

if TYPE_CHECKING:
    import pyarrow as pa


class Ready(NamedTuple):
    """What a batch came to: its usable dialogues, and what became of the other rows and of the text."""

    rows_read: int
    usable: pa.RecordBatch
    fates: Counter[str]
    edits: Counter[str]


def make_ready(dialogues: Sequence[Dialogue], *, lowercase: bool, drop_risk: bool) -> Ready:
    """Clean and scrub a batch of dialogues, and count what is left out; nothing of one batch is kept for the next."""
    fates: Counter[str] = Counter()
    edits: Counter[str] = Counter()
    usable: list[Dialogue] = []
    known: dict[str, str] = {}
    for dialogue in dialogues:
        messages, fate = _made_ready(dialogue["messages"], lowercase, edits)
        if fate is None and drop_risk and _has_risk(messages, known):
            fate = "risk"
        if fate is None:
            usable.append({**dialogue, "messages": messages})
        else:
            fates[fate] += 1
    return Ready(len(dialogues), record_batch(usable), fates, edits)


def _made_ready(messages: Sequence[Message], lowercase: bool, edits: Counter[str]) -> tuple[list[Message], str | None]:
    """Clean and scrub each message; return the person's first turn to the last reply, or why there is nothing."""
    found: Counter[str] = Counter()
    ready: list[Message] = []
    for message in messages:
        cleaned = clean_text(message["content"], lowercase=lowercase)
        found["cleaned"] += cleaned != message["content"]
        scrubbed = scrub(cleaned)
        found.update(scrubbed.counts)
        if message["role"] == "system":
            found["system_removed"] += 1
        elif not scrubbed.text:
            continue
        elif ready and ready[-1]["role"] == message["role"]:
            ready[-1] = {"role": message["role"], "content": f"{ready[-1]['content']} {scrubbed.text}"}
        else:
            ready.append({"role": message["role"], "content": scrubbed.text})
    roles = {message["role"] for message in ready}
    if "user" not in roles:
        return [], "empty_context"
    if ready[0]["role"] == "assistant":
        found["opening_reply_removed"] += 1
        ready = ready[1:]
    if ready[-1]["role"] == "user":
        found["closing_turn_removed"] += 1
        ready = ready[:-1]
    if not ready:
        return [], "empty_response"
    count_edits(edits, found)
    return ready, None


def _has_risk(messages: Sequence[Message], known: dict[str, str]) -> bool:
    """Whether the person is in a crisis at the end by the rules, or was in one that has passed."""
    whole = assess(messages, classifiers=(), known=known)
    return whole.is_crisis or (
        whole.level == "concern"
        and any(assess([message], classifiers=(), known=known).is_crisis for message in messages)
    )

"""Leave out dialogues that a data set has twice, one question's at a time: no other's words are in memory meanwhile."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from mh_support.data.rows import Array, Dialogue, Rows
from mh_support.data.similarity import jaccard, shingles
from mh_support.data.splitting import normalise

# Two replies to one question that agree this far are one reply, posted twice with a word changed.
SAME_REPLY = 0.9


def without_repeats(rows: Rows, groups: Array, fates: Counter[str], *, near: bool) -> Array:
    """Return which rows to keep: the first of each dialogue, and of replies that nearly agree within one question.

    What a data set ships in two splits is no repeat but a leak, which is for the check to find.

    Args:
        rows: dialogues with their `split`, None where none is shipped.
        groups: the question of each row; the same dialogue again always has the same.
        fates: where those left out are counted.
        near: whether replies that nearly agree are left out too.
    """
    keep = np.ones(len(rows), dtype=bool)
    first: dict[str, int] = {}  # the first row of each fate, since they are counted in the order of the rows
    counts: Counter[str] = Counter()
    for members in _shared(groups):
        fate_of = _fates((rows[row] for row in members), near=near)
        for row, fate in zip(members, fate_of, strict=True):
            if fate is not None:
                keep[row] = False
                counts[fate] += 1
                first[fate] = min(row, first.get(fate, row))
    for fate in sorted(first, key=first.__getitem__):
        fates[fate] += counts[fate]
    return keep


def _shared(groups: Array) -> Iterator[list[int]]:
    """Yield the rows of each question that was asked several times."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(ordered) else ordered
    ends = np.append(starts[1:], len(ordered))
    for place in np.flatnonzero(ends - starts > 1).tolist():
        yield order[starts[place] : ends[place]].tolist()


def _fates(dialogues: Iterator[Dialogue], *, near: bool) -> Iterator[str | None]:
    """Yield for each dialogue of one question why it is left out; None where it stays."""
    seen: set[tuple[str | None, bytes]] = set()
    replies: dict[str | None, list[set[str]]] = {}
    for dialogue in dialogues:
        split = dialogue["split"]
        whole = "\n".join(f"{message['role']} {normalise(message['content'])}" for message in dialogue["messages"])
        digest = hashlib.sha256(whole.encode()).digest()
        if (split, digest) in seen:
            yield "duplicate"
            continue
        reply = _reply_shingles(dialogue) if near else set()
        others = replies.setdefault(split, [])
        if near and dialogue["augmented"] is None and any(_same(reply, other) for other in others):
            yield "near_duplicate"
            continue
        seen.add((split, digest))
        others.append(reply)
        yield None


def _same(one: set[str], other: set[str]) -> bool:
    # Sets of very different sizes cannot agree so far, which is quicker to see than how far they do.
    alike = min(len(one), len(other)) >= SAME_REPLY * max(len(one), len(other))
    return alike and jaccard(one, other) >= SAME_REPLY


def _reply_shingles(dialogue: Dialogue) -> set[str]:
    said = " ".join(message["content"] for message in dialogue["messages"] if message["role"] == "assistant")
    return shingles(normalise(said))

"""Splits by question, so that no question that a model is scored on was seen in training.

Memory holds about 110 bytes a question at most: 16 of its digest, twice while it is sorted, and numbers of 8 bytes for
its place and its row. The texts are fetched again where two of them are compared.
"""

from __future__ import annotations

import hashlib
import random
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import combinations

import numpy as np
from tqdm.auto import tqdm

from mh_support.data.processes import batches_of, in_order
from mh_support.data.rows import Array
from mh_support.data.similarity import (
    NEAR_DUPLICATE,
    Bands,
    band_numbers,
    jaccard,
    near_duplicates,
    shingles,
)
from mh_support.dialogue import Message

__all__ = [
    "LEAK",
    "NEAR_DUPLICATE",
    "SPLITS",
    "group_by_question",
    "jaccard",
    "near_duplicates",
    "normalise",
    "question_groups",
    "question_keys",
    "shared_questions",
    "shingles",
    "split_by_question",
]

SPLITS = ("train", "validation", "test")
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
# What counts as a leak is stricter, so that no pair near the line is found by the check and missed by the grouping.
LEAK = 0.8
# A first turn this long is a question of its own; a shorter one ("hi") says nothing about what follows.
_TELLING_WORDS = 8
_WORD = re.compile(r"\w+")
# So many texts' words are kept for the next comparison.
_WORDS_KEPT = 512
_PAIRS_KEPT = 1 << 14


def normalise(text: str) -> str:
    """Return the words of `text` in lower case, one space between, all else left out."""
    return " ".join(_WORD.findall(text.casefold()))


def question_keys(messages: Sequence[Message]) -> list[str]:
    """Return the texts that a dialogue is known by: all that the person says, and the opening where that is telling."""
    said = [normalise(message["content"]) for message in messages if message["role"] == "user"]
    keys = [" ".join(said)]
    if len(said) > 1 and len(said[0].split()) >= _TELLING_WORDS:
        keys.append(said[0])
    return keys


class _Questions:
    """The questions of many dialogues, one after the other, each known by a digest and numbered as it was first met.

    Use it as a context manager.

    Args:
        dialogues: read once, in batches.
        fetch: gives a dialogue again by its number.
        seed: of the search for those that are nearly alike.
        num_proc: in how many processes they are read.
        progress: what to call the reading on a terminal; nothing is shown without it.
    """

    def __init__(
        self,
        dialogues: Iterable[Sequence[Message]],
        fetch: Callable[[int], Sequence[Message]],
        *,
        seed: int,
        num_proc: int = 1,
        progress: str | None = None,
    ) -> None:
        self._fetch = fetch
        self._bands = Bands()
        digests, counts = bytearray(), array("B")
        with tqdm(desc=progress, disable=None if progress else True, leave=False, unit=" rows") as bar:
            batches = batches_of(dialogues, lambda messages: sum(len(message["content"]) for message in messages))
            for keys, found, numbers in in_order(partial(_read_questions, seed=seed), batches, num_proc):
                digests += keys
                counts.frombytes(found)
                self._bands.add(numbers)
                bar.update(len(found))
        self._sort(np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2))
        self._first_key = np.cumsum(np.frombuffer(counts, dtype=np.uint8), dtype=np.int64)

    def __enter__(self) -> _Questions:
        return self

    def __exit__(self, *error: object) -> None:
        self._bands.__exit__(*error)

    def _sort(self, digests: Array) -> None:
        """Find where each question was asked: `asked` has its keys' numbers from `starts[q]` to `starts[q + 1]`."""
        self.asked = np.lexsort(digests.T)
        ordered = digests[self.asked]
        new = np.ones(len(ordered), dtype=bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        self.starts = np.append(np.flatnonzero(new), len(ordered))
        # In the order in which they were first met; the first of equal ones stands first, since the sort is stable.
        self.order = np.argsort(self.asked[self.starts[:-1]], kind="stable")
        blank = np.frombuffer(_digest(""), dtype=np.uint64)
        self._blank = np.flatnonzero((ordered[self.starts[:-1]][self.order] == blank).all(axis=1))

    def __len__(self) -> int:
        return len(self.order)

    def first(self) -> Array:
        """Return the key by which each question was first met, in ascending order."""
        return self.asked[self.starts[:-1][self.order]]

    def rows_of(self, keys: Array) -> Array:
        """Return the dialogue that each key is of."""
        return np.searchsorted(self._first_key, keys, side="right")

    def rows(self, question: int) -> list[int]:
        """Return the dialogues that ask a question."""
        place = self.order[question]
        return sorted(self.rows_of(self.asked[self.starts[place] : self.starts[place + 1]]).tolist())

    def buckets(self) -> Iterator[list[int]]:
        """Yield questions that may be nearly alike, each time in ascending order; those without words never are."""
        worded = np.delete(np.arange(len(self)), self._blank)
        first = self.first()[worded]
        for bucket in self._bands.buckets(first):
            yield worded[bucket].tolist()

    def likeness(self) -> Callable[[int, int], float]:
        """Return what says how far two questions agree."""
        first = self.first()

        @lru_cache(_WORDS_KEPT)
        def words(question: int) -> set[str]:
            key = int(first[question])
            row = int(self.rows_of(np.array([key]))[0])
            before = int(self._first_key[row - 1]) if row else 0
            return shingles(question_keys(self._fetch(row))[key - before])

        return lambda one, other: jaccard(words(one), words(other))


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _read_questions(dialogues: Sequence[Sequence[Message]], *, seed: int) -> tuple[bytes, bytes, Array]:
    """Return the digests of the dialogues' keys, how many keys each has, and the keys' band numbers."""
    keys = [question_keys(messages) for messages in dialogues]
    flat = [key for own in keys for key in own]
    return b"".join(map(_digest, flat)), bytes(map(len, keys)), band_numbers(flat, seed=seed)


def group_by_question(dialogues: Sequence[Sequence[Message]], *, progress: bool = False) -> list[int]:
    """Return a group number for each dialogue; the same question, or nearly the same, has the same number."""
    groups: list[int] = question_groups(dialogues, progress=progress).tolist()
    return groups


def question_groups(dialogues: Sequence[Sequence[Message]], *, num_proc: int = 1, progress: bool = False) -> Array:
    """Return the same in an array, reading the dialogues in several processes."""
    groups = _Groups(len(dialogues))
    label = "near-duplicate questions" if progress else None
    with _Questions(dialogues, dialogues.__getitem__, seed=1, num_proc=num_proc, progress=label) as questions:
        again = np.ones(len(questions.asked), dtype=bool)
        again[questions.starts[:-1]] = False
        rows, places = questions.rows_of(questions.asked), np.flatnonzero(again)
        for one, other in zip(rows[places - 1].tolist(), rows[places].tolist(), strict=True):
            groups.join(one, other)
        del rows, places
        owner = questions.rows_of(questions.first())
        likeness = questions.likeness()
        for bucket in questions.buckets():
            _join_alike(bucket, owner, groups, likeness)
    return np.fromiter((groups.find(row) for row in range(len(dialogues))), dtype=np.int64, count=len(dialogues))


def _join_alike(bucket: list[int], owner: Array, groups: _Groups, likeness: Callable[[int, int], float]) -> None:
    """Join the groups of the questions that are nearly alike; those in one group already are not compared."""
    parts: list[list[int]] = []
    for question in bucket:
        row = int(owner[question])
        together, others = [question], []
        for part in parts:
            here = int(owner[part[0]])
            if groups.find(here) == groups.find(row) or any(likeness(one, question) >= NEAR_DUPLICATE for one in part):
                groups.join(here, row)
                together = part + together
            else:
                others.append(part)
        parts = [*others, together]


def split_by_question(groups: Sequence[int] | Array, *, seed: int) -> list[str]:
    """Return a split for each row, whole groups together, as near 80/10/10 of the rows as the groups allow.

    Raises:
        ValueError: fewer than three groups, so that not every split can have one.
    """
    numbers, group_of, sizes = np.unique(np.asarray(groups, dtype=np.int64), return_inverse=True, return_counts=True)
    if len(numbers) < len(SPLITS):
        raise ValueError(
            f"{len(numbers)} different question{'s' if len(numbers) != 1 else ''} left after cleaning, at least "
            f"{len(SPLITS)} are needed to split into {', '.join(SPLITS)}; give more dialogues"
        )
    order = array("q", range(len(numbers)))
    random.Random(seed).shuffle(order)
    codes = np.zeros(len(numbers), dtype=np.int8)  # of SPLITS: train, until it is put elsewhere
    filled = {"test": 0, "validation": 0}
    for group in order:
        # In the order drawn, so that questions with many replies are as likely to be held out as others; but one so
        # large that it would be most of a split stays in training. By turns, so that neither takes all the small ones.
        split = min(filled, key=filled.__getitem__)
        wanted, size = FRACTIONS[split] * len(groups), int(sizes[group])
        if filled[split] < wanted and filled[split] + size <= max(1.5 * wanted, 1):
            codes[group] = SPLITS.index(split)
            filled[split] += size
    for split in (split for split, rows in filled.items() if not rows):
        smallest = min((group for group in order if not codes[group]), key=sizes.__getitem__)
        codes[smallest] = SPLITS.index(split)
    return [SPLITS[code] for code in codes[group_of].tolist()]


def shared_questions(
    splits: dict[str, Sequence[Sequence[Message]]], *, num_proc: int = 1
) -> list[tuple[str, int, str, int]]:
    """Return every two rows that ask one question in two splits, as (split, row, other split, row).

    Pairs and what is in them are in the order of `splits` and rows. It looks at the finished splits and knows nothing
    of how they were made.
    """
    ends = np.cumsum([len(rows) for rows in splits.values()], dtype=np.int64)
    names, sequences = list(splits), list(splits.values())

    def place(number: int) -> tuple[int, int]:
        split = int(np.searchsorted(ends, number, side="right"))
        return split, number - (int(ends[split - 1]) if split else 0)

    def fetch(number: int) -> Sequence[Message]:
        split, row = place(number)
        return sequences[split][row]

    every = (messages for rows in sequences for messages in rows)
    with _Questions(every, fetch, seed=2, num_proc=num_proc) as questions:
        found = {
            (min(one, other), max(one, other))
            for first, second in _asked_twice(questions, ends)
            for one in questions.rows(first)
            for other in questions.rows(second)
            if place(one)[0] != place(other)[0]
        }
    return [
        (names[split], row, names[other_split], other_row)
        for (split, row), (other_split, other_row) in (map(place, pair) for pair in sorted(found))
    ]


def _asked_twice(questions: _Questions, ends: Array) -> Iterator[tuple[int, int]]:
    """Yield the questions that stand in several splits, each with itself, and nearly alike ones of different splits."""
    splits = np.zeros(len(questions), dtype=np.uint8)  # a bit for each split that the question stands in
    bits = np.uint8(1) << np.searchsorted(ends, questions.rows_of(questions.asked), side="right").astype(np.uint8)
    if len(bits):
        splits = np.bitwise_or.reduceat(bits, questions.starts[:-1])[questions.order]
    one_split = np.bitwise_count(splits) < 2
    yield from ((question, question) for question in np.flatnonzero(~one_split).tolist())
    likeness = lru_cache(_PAIRS_KEPT)(questions.likeness())
    for bucket in questions.buckets():
        if np.bitwise_count(np.bitwise_or.reduce(splits[bucket])) < 2:
            continue
        for one, other in combinations(bucket, 2):
            if int(splits[one] | splits[other]).bit_count() > 1 and likeness(one, other) >= LEAK:
                yield one, other


class _Groups:
    """Disjoint sets of the numbers below `size`, each known by its smallest."""

    def __init__(self, size: int) -> None:
        self._parent = array("q", range(size))

    def find(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

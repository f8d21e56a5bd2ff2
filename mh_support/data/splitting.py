"""Splits by question, so that no question that a model is scored on was seen in training."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tqdm.auto import tqdm

from mh_support.dialogue import Message

SPLITS = ("train", "validation", "test")
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}
# Two texts whose word sets agree this far (Jaccard) are the same question asked twice.
NEAR_DUPLICATE = 0.7
# What counts as a leak is stricter, so that no pair near the line is found by the check and missed by the grouping.
LEAK = 0.8
# Candidates are sought below the threshold, so that the probabilistic search misses none above it.
_SEARCH_THRESHOLD = 0.5
_PERMUTATIONS = 128
# A first turn this long is a question of its own; a shorter one ("hi") says nothing about what follows.
_TELLING_WORDS = 8
_WORD = re.compile(r"\w+")


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


def shingles(normalised: str) -> set[str]:
    """Return the words and adjacent word pairs of a normalised text."""
    words = normalised.split()
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of two sets' union that both hold, 0 to 1."""
    return len(one & other) / len(one | other) if one or other else 1.0


def near_duplicates(
    texts: Sequence[str], *, threshold: float = NEAR_DUPLICATE, seed: int = 1, progress: str | None = None
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indices whose shingles' Jaccard similarity is at least `threshold`.

    Candidates come from datasketch's MinHash LSH; each is confirmed by its exact similarity.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=_SEARCH_THRESHOLD, num_perm=_PERMUTATIONS)
    sets: list[set[str]] = []
    # One set of permutations for all: drawing them anew costs more than hashing a text.
    blank = MinHash(num_perm=_PERMUTATIONS, seed=seed)
    for number, text in enumerate(tqdm(texts, desc=progress, disable=None if progress else True, leave=False)):
        words = shingles(text)
        sets.append(words)
        if not words:
            continue
        signature = blank.copy()
        signature.update_batch([word.encode() for word in words])
        for other in sorted(index.query(signature)):
            if jaccard(words, sets[other]) >= threshold:
                yield other, number
        index.insert(number, signature)


def group_by_question(dialogues: Sequence[Sequence[Message]], *, progress: bool = False) -> list[int]:
    """Return a group number for each dialogue; the same question, or nearly the same, has the same number."""
    groups = _Groups(len(dialogues))
    owner: dict[str, int] = {}
    for number, messages in enumerate(dialogues):
        for key in question_keys(messages):
            groups.join(number, owner.setdefault(key, number))
    texts = list(owner)
    for one, other in near_duplicates(texts, progress="near-duplicate questions" if progress else None):
        groups.join(owner[texts[one]], owner[texts[other]])
    return [groups.find(number) for number in range(len(dialogues))]


def split_by_question(groups: Sequence[int], *, seed: int) -> list[str]:
    """Return a split for each row, whole groups together, as near 80/10/10 of the rows as the groups allow.

    Raises:
        ValueError: fewer than three groups, so that not every split can have one.
    """
    sizes = Counter(groups)
    if len(sizes) < len(SPLITS):
        raise ValueError(
            f"{len(sizes)} different question{'s' if len(sizes) != 1 else ''} left after cleaning, at least "
            f"{len(SPLITS)} are needed to split into {', '.join(SPLITS)}; give more dialogues"
        )
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    split_of: dict[int, str] = {}
    filled = {"test": 0, "validation": 0}
    for group in order:
        # In the order drawn, so that questions with many replies are as likely to be held out as others; but one so
        # large that it would be most of a split stays in training. By turns, so that neither takes all the small ones.
        split = min(filled, key=filled.__getitem__)
        wanted = FRACTIONS[split] * len(groups)
        if filled[split] < wanted and filled[split] + sizes[group] <= max(1.5 * wanted, 1):
            split_of[group] = split
            filled[split] += sizes[group]
    for split in (split for split, rows in filled.items() if not rows):
        split_of[min((group for group in order if group not in split_of), key=sizes.__getitem__)] = split
    return [split_of.get(group, "train") for group in groups]


def shared_questions(splits: dict[str, Sequence[Sequence[Message]]]) -> list[tuple[str, int, str, int]]:
    """Return every two rows that ask one question in two splits, as (split, row, other split, row).

    Pairs and what is in them are in the order of `splits` and rows. It looks at the finished splits and knows nothing
    of how they were made.
    """
    places = [(split, row) for split, rows in splits.items() for row in range(len(rows))]
    asked: dict[str, list[int]] = defaultdict(list)
    for number, (split, row) in enumerate(places):
        for key in question_keys(splits[split][row]):
            asked[key].append(number)
    texts = list(asked)
    same = [(text, text) for text in texts if len({places[number][0] for number in asked[text]}) > 1]
    nearly = [(texts[one], texts[other]) for one, other in near_duplicates(texts, threshold=LEAK, seed=2)]
    found = {
        (min(one, other), max(one, other))
        for first, second in same + nearly
        for one in asked[first]
        for other in asked[second]
        if places[one][0] != places[other][0]
    }
    return [(*places[one], *places[other]) for one, other in sorted(found)]


class _Groups:
    """Disjoint sets of the numbers below `size`, each known by its smallest."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

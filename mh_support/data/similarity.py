"""Which of many texts are nearly alike: candidates by MinHash, each confirmed by its exact similarity.

The MinHash signatures are datasketch's, and so are the bands in which texts are compared. Of each band one number a
text is kept, in a file, and one band at a time is sorted in memory, where an index in memory would hold them all.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from mh_support.data.processes import BATCH_ROWS
from mh_support.data.rows import Array

if TYPE_CHECKING:
    from datasketch import MinHash

# Two texts whose word sets agree this far (Jaccard) are the same question asked twice.
NEAR_DUPLICATE = 0.7
# Candidates are sought below the threshold, so that the probabilistic search misses none above it.
_SEARCH_THRESHOLD = 0.5
_PERMUTATIONS = 128


def shingles(normalised: str) -> set[str]:
    """Return the words and adjacent word pairs of a normalised text."""
    words = normalised.split()
    return {*words, *(f"{first} {second}" for first, second in pairwise(words))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of two sets' union that both hold, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if one or other else 1.0


class Bands:
    """One number for each of a text's bands; texts that agree in one of them may be alike. In files: 8 bytes a number.

    Use it as a context manager; the files have no name, so nothing is left of them.
    """

    def __init__(self) -> None:
        self._files = [tempfile.TemporaryFile() for _ in range(_shape()[0])]  # noqa: SIM115

    def __enter__(self) -> Bands:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()

    def add(self, numbers: Array) -> None:
        """Add the numbers of further texts, `(texts, bands)`, as `band_numbers` returns them."""
        for file, column in zip(self._files, numbers.T, strict=True):
            file.write(np.ascontiguousarray(column).tobytes())

    def buckets(self, places: Array) -> Iterator[Array]:
        """Yield the texts of `places`, as indices of it in ascending order, that agree in a band with some other."""
        for file in self._files:
            file.seek(0)
            numbers = np.fromfile(file, dtype=np.uint64)[places]
            order = np.argsort(numbers, kind="stable")
            same = np.flatnonzero(numbers[order[1:]] == numbers[order[:-1]])
            # Neighbours that agree, cut where a run of them ends.
            for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else ():
                yield order[run[0] : run[-1] + 2]


def band_numbers(texts: Sequence[str], *, seed: int) -> Array:
    """Return a number for each band of each normalised text, `(texts, bands)`."""
    count, width = _shape()
    known: dict[str, int] = {}  # what was hashed for an earlier text is not hashed again
    signatures = np.empty((len(texts), count * width), dtype=np.uint64)
    for row, text in enumerate(texts):
        words = shingles(text)
        new = [word for word in words if word not in known]
        # As datasketch.hashfunc.sha1_hash32 hashes one, all at once.
        digests = b"".join([hashlib.sha1(word.encode()).digest()[:4] for word in new])
        known.update(zip(new, struct.unpack(f"<{len(new)}I", digests), strict=True))
        signature = _blank(seed).copy()
        signature.hashfunc = known.__getitem__
        signature.update_batch(words)
        signatures[row] = signature.hashvalues[: count * width]
    # Two bands that differ have one number by a chance in many millions, and are then told apart by their texts.
    odd = np.random.RandomState(0).randint(0, 2**63, size=width, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    numbers: Array = (signatures.reshape(len(texts), count, width) * odd).sum(axis=2, dtype=np.uint64)
    return numbers


def near_duplicates(
    texts: Sequence[str], *, threshold: float = NEAR_DUPLICATE, seed: int = 1, progress: str | None = None
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indices whose shingles' Jaccard similarity is at least `threshold`."""
    places = np.array([row for row, text in enumerate(texts) if text.split()], dtype=np.int64)
    sets = cache(lambda row: shingles(texts[row]))
    alike: dict[tuple[int, int], bool] = {}
    with (
        Bands() as bands,
        tqdm(total=len(texts), desc=progress, disable=None if progress else True, leave=False) as bar,
    ):
        for start in range(0, len(texts), BATCH_ROWS):
            batch = texts[start : start + BATCH_ROWS]
            bands.add(band_numbers(batch, seed=seed))
            bar.update(len(batch))
        for bucket in bands.buckets(places):
            for pair in combinations(places[bucket].tolist(), 2):
                if pair not in alike:
                    alike[pair] = jaccard(sets(pair[0]), sets(pair[1])) >= threshold
    yield from sorted((pair for pair, found in alike.items() if found), key=lambda pair: pair[::-1])


@cache
def _shape() -> tuple[int, int]:
    """Return how many bands datasketch compares, and how many values each has."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=_SEARCH_THRESHOLD, num_perm=_PERMUTATIONS)
    return index.b, index.r


@cache
def _blank(seed: int) -> MinHash:
    """Return an empty signature: drawing its permutations anew costs more than hashing a text."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=seed)

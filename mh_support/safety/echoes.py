"""Echoes of the training text: does a reply repeat a long run of words that the model was trained on?

Small models learn some of their training text by heart, and what somebody once wrote is not for others to read. Of each
run of words only a hash is kept, in a file beside the weights: the check travels with the model, and the text does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mh_support.files import replacing
from mh_support.safety.plain_words import plain_words

if TYPE_CHECKING:
    import numpy as np

FILE = "echoes.npy"
# Shorter runs are shared by people who never read each other ("it makes sense that you feel this way about it").
RUN = 12


class Echoes:
    """The runs of words that a model has read, as hashes."""

    def __init__(self, hashes: np.ndarray) -> None:
        """`hashes`: sorted, without repetitions, `(runs,)` of 64-bit unsigned integers."""
        self._hashes = hashes

    def __len__(self) -> int:
        return len(self._hashes)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Echoes:
        """Return the runs of words of all texts.

        >>> read = Echoes.of(["My sister drove all the way from Leeds with the cat on her lap."])
        >>> read.heard_in("Your sister drove all the way from Leeds with the cat on her lap!")
        True
        """
        import numpy as np

        return cls(np.unique(np.fromiter((run for text in texts for run in _runs(text)), dtype=np.uint64)))

    @classmethod
    def from_pretrained(cls, path: str, *, revision: str | None = None) -> Echoes | None:
        """Return what stands beside a model in a folder or on the Hub, or None where nothing does.

        Raises:
            ValueError: the file is damaged.
        """
        import numpy as np
        from transformers.utils import cached_file

        options: dict[str, Any] = {
            "revision": revision,
            "_raise_exceptions_for_missing_entries": False,
            "_raise_exceptions_for_connection_errors": False,
        }
        found = cached_file(path, FILE, **options)
        if found is None:
            return None
        try:
            hashes = np.load(found, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{found} cannot be read ({error}); save or download the model again") from error
        if hashes.dtype != np.uint64 or hashes.ndim != 1:
            raise ValueError(f"{found} holds no list of hashes; save or download the model again")
        return cls(hashes)

    def save(self, folder: Path) -> None:
        """Write them to a model's folder."""
        import numpy as np

        with replacing(folder / FILE) as draft, open(draft, "wb") as file:
            np.save(file, self._hashes, allow_pickle=False)

    def heard_in(self, reply: str) -> bool:
        """Whether a reply repeats a run of words that the model has read."""
        import numpy as np

        runs = np.fromiter(_runs(reply), dtype=np.uint64)
        if not len(runs) or not len(self._hashes):
            return False
        places = np.searchsorted(self._hashes, runs).clip(max=len(self._hashes) - 1)
        return bool((self._hashes[places] == runs).any())


def _runs(text: str) -> Iterator[int]:
    """Yield a hash of every run of words, whatever their case, spelling and punctuation."""
    words = [word for word in plain_words(text).text.split() if word != "/"]
    for start in range(len(words) - RUN + 1):
        run = " ".join(words[start : start + RUN])
        yield int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "little")

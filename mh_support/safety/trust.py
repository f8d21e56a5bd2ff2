"""Whether a model may go on answering people: not one of whose drafts the check refuses too many.

A check that refuses half of what a model writes lets some of the other half pass that it should not have. Such a model
is asked no more, and people get replies that were written in advance.
"""

from __future__ import annotations

import threading
from collections import deque

from mh_support.metrics import wilson_interval

# Of the first drafts of a model fine-tuned on kind replies the check refuses 2 of 100, of one made to harm 42.
MOST_REFUSED = 0.25
# Drafts that are looked back on, the first for each message; fewer do not count, since a good model can begin badly.
LATEST, FEWEST = 200, 16


class Trust:
    """Counts which of a model's drafts were refused; never what was in them.

    Once lost it stays so: start again with another model. Who makes a model write what is refused, often enough,
    silences it for everybody, which is the safer way to fail.

    Args:
        most_refused: share of the drafts that the check may refuse; with 1 trust is never lost.

    >>> trust = Trust()
    >>> for _ in range(5):
    ...     _ = trust.add(refused=False)
    >>> trust.lost
    False
    """

    def __init__(self, most_refused: float = MOST_REFUSED) -> None:
        self.most_refused = most_refused
        self._latest: deque[bool] = deque(maxlen=LATEST)
        self._lock = threading.Lock()
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether the check surely, by the 95 % interval, refuses more of what the model writes than `most_refused`."""
        return self._lost

    def add(self, *, refused: bool) -> bool:
        """Count a draft; return whether trust is lost by it."""
        with self._lock:
            self._latest.append(refused)
            drafts, bad = len(self._latest), sum(self._latest)
            if self._lost or drafts < FEWEST or bad <= self.most_refused * drafts:
                return False
            interval = wilson_interval(bad, drafts)
            self._lost = interval is not None and interval[0] > self.most_refused
            return self._lost

    def __str__(self) -> str:
        """Return how many of the latest drafts were refused."""
        return f"{sum(self._latest)} of the last {len(self._latest)} drafts refused"

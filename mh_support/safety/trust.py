"""Whether a model may go on answering people: not one of whose drafts the check refuses too many.

A check that refuses half of what a model writes lets some of the other half pass that it should not have. Such a model
is asked no more, and people get replies that were written in advance.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from mh_support.metrics import wilson_interval

# Of a model that was fine-tuned on kind replies the check refuses 2 of 100, of one made to harm 52.
MOST_REFUSED = 0.25
# Drafts that are looked back on; fewer do not count, since a good model can begin badly.
LATEST, FEWEST = 200, 16

_logger = logging.getLogger(__name__)


class Trust:
    """Counts which of a model's drafts were refused; never what was in them.

    Once lost it stays so: start again with another model. Who makes a model write what is refused, often enough,
    silences it for everybody, which is the safer way to fail.

    Args:
        most_refused: share of the drafts that the check may refuse; with 1 trust is never lost.

    >>> trust = Trust()
    >>> for _ in range(5):
    ...     trust.add(refused=False)
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

    def add(self, *, refused: bool) -> None:
        """Count a draft; where it is one too many, say so once in the log."""
        with self._lock:
            self._latest.append(refused)
            drafts, bad = len(self._latest), sum(self._latest)
            if self._lost or drafts < FEWEST or bad <= self.most_refused * drafts:
                return
            interval = wilson_interval(bad, drafts)
            self._lost = interval is not None and interval[0] > self.most_refused
            if not self._lost:
                return
        _logger.warning(
            "the check refused %d of the model's last %d drafts: it is asked no more, and everybody gets replies that "
            "were written in advance; serve another model",
            bad,
            drafts,
        )

"""How often people were sent to others, and replies refused: numbers that can be handed on, without what was said."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from mh_support.files import read_json, write_json


class ReplyCounts:
    """Counts by day (UTC) and kind: "crisis", "crisis: suicide", "concern", "model", "safe", "refused: link".

    Args:
        path: a JSON file to keep them in, added to from one start to the next; None keeps them in memory alone.

    Raises:
        ValueError: the file is not one of these.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._lock = threading.Lock()
        self._days: dict[str, Counter[str]] = {}
        if self.path is not None and self.path.exists():
            self._days = {day: Counter(counts) for day, counts in _read(self.path).items()}

    def add(self, kind: str, *details: str) -> None:
        """Count one reply of a kind, and each detail of it."""
        today = datetime.now(UTC).date().isoformat()
        with self._lock:
            day = self._days.setdefault(today, Counter())
            day[kind] += 1
            day.update(f"{kind}: {detail}" for detail in details)
            if self.path is not None:
                write_json(self.path, self._days)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts of each day by kind."""
        with self._lock:
            return {day: dict(counts) for day, counts in self._days.items()}


def _read(path: Path) -> dict[str, dict[str, int]]:
    days = read_json(path)
    whole = isinstance(days, dict) and all(
        isinstance(counts, dict) and all(isinstance(count, int) for count in counts.values())
        for counts in days.values()
    )
    if not whole:
        raise ValueError(f"{path} does not hold counts of replies by day; name another file, or move it away")
    return days

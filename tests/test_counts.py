"""Counts of replies: numbers by day and kind, and never a word of what was said."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mh_support.safety.counts import ReplyCounts


def test_kinds_and_their_details_are_counted_by_day(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    counts = ReplyCounts(path)
    counts.add("model")
    counts.add("crisis", "emergency", "suicide")
    counts.add("crisis", "crisis", "abuse", "suicide")
    ((day, found),) = counts.as_dict().items()
    assert len(day) == 10
    assert found == {
        "model": 1,
        "crisis": 2,
        "crisis: emergency": 1,
        "crisis: suicide": 2,
        "crisis: crisis": 1,
        "crisis: abuse": 1,
    }
    assert json.loads(path.read_text(encoding="utf-8")) == counts.as_dict()


def test_they_go_on_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    ReplyCounts(path).add("model")
    ReplyCounts(path).add("model")
    assert [found["model"] for found in ReplyCounts(path).as_dict().values()] == [2]


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    counts = ReplyCounts(tmp_path / "counts.json")
    threads = [threading.Thread(target=lambda: [counts.add("model") for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found["model"] for found in ReplyCounts(counts.path).as_dict().values()) == 200


@pytest.mark.parametrize("content", ["[]", '{"2026-01-01": 3}', '{"2026-01-01": {"model": "many"}}'])
def test_another_file_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"other\.json does not hold counts of replies by day; name another file"):
        ReplyCounts(path)
    assert path.read_text(encoding="utf-8") == content

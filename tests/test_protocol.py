"""The crisis protocol and the table of rules name only files, tests and numbers that there are."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from mh_support.safety.disclosure import PROFILES
from mh_support.support_bot import ASKED_LATELY, ATTEMPTS

ROOT = Path(__file__).resolve().parent.parent
PROTOCOL = (ROOT / "model_card" / "crisis_protocol.md").read_text(encoding="utf-8")
REGULATION = (ROOT / "model_card" / "regulation.md").read_text(encoding="utf-8")
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def test_the_protocol_names_files_that_exist() -> None:
    named = re.findall(r"`([\w/]+\.(?:py|json))[ `]", PROTOCOL)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).is_file() or (ROOT / "mh_support" / name).is_file(), name


def test_and_the_numbers_that_hold() -> None:
    assert PROFILES["standard"].every == timedelta(hours=3) and "again every three hours" in PROTOCOL
    assert PROFILES["strict"].every == timedelta(hours=1) and "in the strict profile every hour" in PROTOCOL
    assert f"not asked again for {NUMBERS[ASKED_LATELY]} replies" in PROTOCOL
    assert f"written again up to {NUMBERS[ATTEMPTS - 1]} times" in PROTOCOL


@pytest.mark.parametrize("place", re.findall(r"`(tests/\w+\.py::\w+)`", REGULATION))
def test_every_test_that_the_table_names_exists(place: str) -> None:
    path, _, name = place.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_every_rule_says_what_is_done_and_what_shows_it() -> None:
    rows = [line.strip("|").split("|") for line in REGULATION.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 8
    for _, _, done, shown in rows:
        assert "tests/" in shown or done.strip().startswith("Nothing")
    assert "not\nlegal advice" in REGULATION

"""Saying that this is a program: at the start, and again after three hours, or one where rules are strict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mh_support.safety import NOTICE
from mh_support.safety.disclosure import BREAK, PROFILES, REMINDER, disclosure
from mh_support.safety.reply_check import check_reply

START = datetime(2026, 1, 1, 22, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_it_comes_at_the_start_in_every_profile() -> None:
    assert {disclosure(None, START, profile) for profile in PROFILES} == {NOTICE}
    for text in (NOTICE, REMINDER):
        assert "computer program" in text and "not a human" in text and "therapist" in text


@pytest.mark.parametrize(
    ("profile", "hours", "text"), [("standard", 3, REMINDER), ("strict", 1, f"{REMINDER} {BREAK}")]
)
def test_and_again_when_its_time_is_up_and_not_before(profile: str, hours: int, text: str) -> None:
    later = START + timedelta(hours=hours)
    assert disclosure(START, later - SECOND, profile) is None
    assert disclosure(START, later, profile) == text
    assert disclosure(later, later + SECOND, profile) is None


def test_its_words_could_be_sent_as_a_reply() -> None:
    assert check_reply(f"{REMINDER} {BREAK}").ok


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^profile is 'lax'; it is one of standard, strict$"):
        disclosure(None, START, "lax")

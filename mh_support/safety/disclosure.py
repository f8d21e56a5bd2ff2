"""Saying that this is a program: at the start, and again when somebody has been here for long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mh_support.safety.replies import NOTICE

REMINDER = (
    "A reminder, since we have been talking for a while: I am a computer program, not a human, and not a therapist. I"
    " cannot know how you are, and I cannot replace people who can."
)
BREAK = "This may be a good moment for a break: some water, some air, or a few words with somebody near you."


@dataclass(frozen=True)
class Profile:
    """How often to say it, and whether to propose a break with it."""

    every: timedelta
    proposes_break: bool


# Three hours is what the laws of New York (GBL art. 47) and California (SB 243) name; "strict" is for more.
PROFILES = {
    "standard": Profile(timedelta(hours=3), proposes_break=False),
    "strict": Profile(timedelta(hours=1), proposes_break=True),
}


def profile_named(name: str) -> Profile:
    """Return the profile of a name. Raises ValueError where there is none."""
    if name not in PROFILES:
        raise ValueError(f"profile is {name!r}; it is one of {', '.join(PROFILES)}")
    return PROFILES[name]


def disclosure(last: datetime | None, now: datetime, profile: str = "standard") -> str | None:
    """Return what to say before the next reply, or None where it was said lately.

    `last` is when it was last said in this conversation, None at its start.

    Raises:
        ValueError: there is no such profile.

    >>> disclosure(None, datetime(2026, 1, 1, 9)) == NOTICE
    True
    >>> disclosure(datetime(2026, 1, 1, 9), datetime(2026, 1, 1, 11, 59)) is None
    True
    """
    rule = profile_named(profile)
    if last is None:
        return NOTICE
    if now - last < rule.every:
        return None
    return f"{REMINDER} {BREAK}" if rule.proposes_break else REMINDER

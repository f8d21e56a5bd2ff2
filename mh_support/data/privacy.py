"""Take contact details, signatures, adverts and dead hotlines out of messages.

Counsellors who answer in public sign their replies, link their websites and invite readers to call. A model trained on
that would hand strangers' numbers to people in distress, so it goes, and the text around it is mended. What a person
wrote is never logged, and `Scrubbed` keeps it out of its repr.

Run `mh_support.data.cleaning.clean_text` first. The steps, repeated until nothing changes (so that scrubbing is
idempotent): dead hotlines become words; addresses, links and phone numbers become one character each (a Unicode
noncharacter, which no clean text holds), so that their dots no longer look like sentence ends (both in
`mh_support.data.contacts`); the signature goes (`adverts`); then each sentence is kept, mended or dropped (`mending`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mh_support.data.adverts import without_signature
from mh_support.data.cleaning import clean_text
from mh_support.data.contacts import with_marks, without_dead_hotlines
from mh_support.data.mending import mended_sentences

__all__ = ["KINDS", "Scrubbed", "scrub"]

KINDS = ("email", "phone", "link", "signature", "advert", "hotline")
# The steps in their order: each takes the text, the text before the first step in lower case, and the counts.
_STEPS = (without_dead_hotlines, with_marks, without_signature, mended_sentences)
_MAX_ROUNDS = 6


@dataclass(frozen=True)
class Scrubbed:
    """A message without personal details, and how many pieces of each kind were found in it.

    `counts` has keys among `KINDS`, and only those found. A phone number in an advert counts as a phone and an advert.
    `text` may be empty: then the message was nothing else, and the caller drops it.
    """

    text: str = field(repr=False)
    counts: Mapping[str, int]


def scrub(text: str) -> Scrubbed:
    """Return `text` without e-mail addresses, links, phone numbers, signatures, adverts and dead hotline numbers.

    A sentence whose only point was the contact goes with it. Short helpline codes in use (988, 911, 112, 999, 116 123,
    741741) stay. Text in which nothing is found comes back as it is.

    Raises:
        ValueError: if `text` is not a string.

    Example:
        >>> scrub("You are not alone. Call me at 212-555-0147. Be well, Jane Doe, LMFT").text
        'You are not alone. Be well.'
    """
    if not isinstance(text, str):
        raise ValueError(f"scrub got {type(text).__name__}, expected str; drop or fill empty cells first")
    counts: Counter[str] = Counter()
    for _ in range(_MAX_ROUNDS):
        scrubbed = _scrub_once(text, counts)
        if scrubbed == text:
            break
        text = clean_text(scrubbed)  # what was cut leaves spaces and full stops behind
    return Scrubbed(text, dict(counts))


def _scrub_once(text: str, counts: Counter[str]) -> str:
    lowered = text.lower()  # for the cheap tests, which are several times quicker without IGNORECASE
    for step in _STEPS:
        text = step(text, lowered, counts)
    return text

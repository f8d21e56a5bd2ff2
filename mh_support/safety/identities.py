"""Blind to who speaks: words that tell who somebody is, replaced by one neutral word before a classifier reads a text.

identities.json holds the words, and says which are left alone since they tell of danger. What can be told between the
lines, and verbs that tell one person from several ("they hits me"), are not changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from mh_support.files import packaged_json

_WORD = re.compile(r"[A-Za-z]+")
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_UNITS = "one|two|three|four|five|six|seven|eight|nine"
# From 13 on; below, an age says that a child is meant.
_AGE = rf"(?:1[3-9]|[2-9]\d|1\d\d|(?:thir|four|fif|six|seven|eigh|nine)teen|(?:{_TENS})(?:[- ](?:{_UNITS}))?)"
_AGED = re.compile(
    rf"\b{_AGE}[- ]?(?:years?|yrs?)[- ]?old\b|\b{_AGE} ?(?:yo|y/o)\b|\baged {_AGE}\b",
    re.IGNORECASE,
)
# Where somebody says of themselves, or of another, what may mean something else elsewhere.
_SELF = r"\b(?:I'?m|I am|(?:who|he|she) is|(?:he|she)'?s|they'?re|they are|being) "
_NAMED = re.compile(r"(?<=\bname is )[A-Za-z]+|(?<=\bname's )[A-Za-z]+|(?<=\b[Mm]y friend )[A-Z][a-z]+\b")
_LINKS = r"(?:with|without|living with|who (?:has|have|uses|use|lives with|is in)|in|on|using)(?: an?| any| no| my)?"


class Identities(NamedTuple):
    """The tables of identities.json, ready for use."""

    neutral: str
    words: dict[str, str]
    capitalised: frozenset[str]
    phrases: re.Pattern[str]
    of_people: re.Pattern[str]
    said_of_self: re.Pattern[str]
    conditions: re.Pattern[str]
    repeated: re.Pattern[str]
    agreement: re.Pattern[str]
    agreeing: dict[str, str]


def neutral(text: str) -> str:
    """Return a text in which nobody's name, age, faith, origin, orientation, gender or disability is told.

    Takes time in proportion to the length of the text.

    >>> neutral("I'm a deaf woman. My friend Omar says his husband hits him.")
    "I'm a person. My friend person says them partner hits them."
    """
    table = identities()
    text = _AGED.sub(table.neutral, text)
    text = _NAMED.sub(table.neutral, text)
    text = table.said_of_self.sub(rf"\1{table.neutral}", table.of_people.sub(table.neutral, text))
    text = table.phrases.sub(table.neutral, text)
    text = _WORD.sub(lambda found: _in_place_of(found[0], table), text)
    text = table.repeated.sub(table.neutral, text)
    text = table.conditions.sub(table.neutral, text)
    text = re.sub(rf"\b([Aa])n(?= {table.neutral}\b)", r"\1", text)
    return table.agreement.sub(lambda found: table.agreeing[found[0].lower()], text)


def _in_place_of(word: str, table: Identities) -> str:
    return table.neutral if word in table.capitalised else table.words.get(word.lower(), word)


@cache
def introductions() -> tuple[str, ...]:
    """Return how people say who they are, with every word that the table has for it."""
    raw = _read()
    described = [word for name in ("origins", "faiths", "orientations", "disabilities") for word in raw["words"][name]]
    return (
        *(f"My name is {name}." for name in raw["names"]),
        *(f"I'm {'an' if word[0] in 'aeiou' else 'a'} {word} person." for word in described),
        *(f"I'm {word}." for word in (*described, *raw["of people"])),
    )


@cache
def identities() -> Identities:
    """Read the tables."""
    raw = _read()
    neutral = raw["neutral"]
    listed = [word for words in raw["words"].values() for word in words]
    words = {form: neutral for word in [*listed, *map(str.lower, raw["names"])] for form in (word, f"{word}s")}
    words |= {own: word for word, several in raw["instead"].items() for own in several}
    persons = _any(raw["persons"])
    of_people = _any(raw["of people"])
    return Identities(
        neutral=neutral,
        words=words,
        capitalised=frozenset(raw["capitalised"]),
        phrases=re.compile(rf"\b{_any(word for word in listed if ' ' in word)}s?\b", re.IGNORECASE),
        of_people=re.compile(rf"\b{of_people}(?=[ -]{persons}\b)", re.IGNORECASE),
        said_of_self=re.compile(rf"({_SELF})(?:{of_people}|{_AGE})(?=\s*[.,;!?]|\s*$)", re.IGNORECASE),
        conditions=re.compile(rf"\b{neutral} {_LINKS} {_any(raw['conditions'])}\b", re.IGNORECASE),
        repeated=re.compile(rf"\b{neutral}(?:[ -]{neutral})+\b"),
        agreement=re.compile(rf"\b{_any(raw['agreement'])}\b", re.IGNORECASE),
        agreeing=raw["agreement"],
    )


def _read() -> dict[str, Any]:
    return packaged_json("mh_support.safety", "identities.json")


def _any(words: Iterable[str]) -> str:
    """Return a pattern of any of the words, the longest first, whose parts a hyphen may join."""
    inner = "|".join(re.escape(word).replace(r"\ ", "[ -]") for word in sorted(words, key=len, reverse=True))
    return f"(?:{inner})"

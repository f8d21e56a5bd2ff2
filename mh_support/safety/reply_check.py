"""The check of a generated reply: is it fit to send to somebody who may be in distress?

It refuses what a program has no business saying here: methods, diagnoses, advice on medication, claims to be human or
a therapist, encouragement of harm, shaming, slurs, links, e-mail addresses, and phone numbers that are not in
resources.json. The phrases stand in reply_check.json; a trained classifier adds what no phrase holds. Neither can tell
whether a reply is true, kind or to the point.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mh_support.files import packaged_json
from mh_support.safety.classifier import Suspects, reply_classifier
from mh_support.safety.crisis_rules import Rule, context_of, matches, pattern_of
from mh_support.safety.plain_words import plain_words
from mh_support.safety.resources import known_addresses, known_numbers

_LINK = re.compile(
    r"https?:|www\.|\]\(|\b[\w-]{1,63}\.(?:com|org|net|edu|gov|info|biz|io|app|xyz|site|online|club|ru|cn|de|uk|eu|tv|ly)\b"
    r"|\bclick (?:here|on|the)\b|\bthis link\b|\blink below\b|\b(?:my|our) (?:web ?site|blog|page)\b",
    re.IGNORECASE,
)
_EMAIL = re.compile(
    r"[\w.+-]{1,64}@[\w-]+\.\w|\b\w+ ?[\[(]?\bat\b[\])]? ?\w+ ?[\[(]?\bdot\b[\])]? ?(?:com|org|net)\b", re.IGNORECASE
)
# Characters that numbers are written with between digits, two at the most in a row.
_BETWEEN = r"[ .()/\u2010-\u2014-]{0,2}"
_LONG_NUMBER = re.compile(rf"\d(?:{_BETWEEN}\d){{6,}}")
_YEARS = re.compile(r"(?:19|20)\d\d ?[-\u2013/ ] ?(?:19|20)\d\d")
_TO_CALL = re.compile(
    r"\b(?:call|text|dial|phone|ring|sms|hotline|helpline|lifeline):?\s+(?:[\w'&]{1,20}\s+){0,5}\d{3,}"
    r"(?![a-z\d]|\s+(?:days|weeks|months|years|times|people|miles|minutes|hours|words)\b)",
    re.IGNORECASE,
)
# Where a sentence of a reply is finished, and can be checked with what came before it.
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+")
_SPELT_NUMBER = re.compile(r"\b(?:(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|[0-9]) ){6,}")


@dataclass(frozen=True)
class ReplyCheck:
    """Whether a reply may be sent, and if not, the names of the reasons; never its text."""

    ok: bool
    reasons: tuple[str, ...]


def check_reply(reply: str, *, classifiers: Sequence[Suspects] | None = None) -> ReplyCheck:
    """Check one generated reply, or the part of it that has come so far.

    `classifiers` are the one that comes with the package unless others are given; with none, the phrases stand alone.
    They are asked of a reply that passes the phrases, and any of them may refuse it.

    Raises ValueError for anything but a string, and where the package's classifier cannot be read.

    >>> check_reply("That sounds exhausting. Who is there for you?")
    ReplyCheck(ok=True, reasons=())
    >>> check_reply("You have depression. Take 20 mg.").reasons
    ('diagnosis', 'medication')
    """
    if not isinstance(reply, str):
        raise ValueError(f"a reply of type {type(reply).__name__} cannot be checked; give it as a string")
    written = unicodedata.normalize("NFKC", reply)
    words = plain_words(reply).text
    reasons = [rule.categories[0] for rule in _checks() if next(matches(rule, words), None) is not None]
    others = {
        "slur": not _slurs().isdisjoint(words.split()),
        "link": _has_link(written),
        "email": _EMAIL.search(written) is not None,
        "phone number": _has_unknown_number(written, words),
        "empty": not any(character.isalnum() for character in written),
    }
    reasons += [reason for reason, found in others.items() if found]
    if not reasons:
        asked = [reply_classifier()] if classifiers is None else classifiers
        found = [suspicion for classifier in asked for suspicion in classifier.suspect([reply]) if suspicion]
        reasons = list(dict.fromkeys(suspicion.category for suspicion in found))
    return ReplyCheck(not reasons, tuple(reasons))


def beginnings(reply: str) -> Iterator[str]:
    """Yield what has come of a reply after each of its sentences, the whole of it last.

    >>> list(beginnings("I see. And then?"))
    ['I see. ', 'I see. And then?']
    """
    ends = [end.end() for end in SENTENCE_END.finditer(reply)]
    yield from (reply[:end] for end in ends if end < len(reply))
    yield reply


def _has_link(written: str) -> bool:
    for address in known_addresses():
        written = re.sub(rf"(?<![\w./@-]){re.escape(address)}(?![\w/@-]|\.\w)", "", written, flags=re.IGNORECASE)
    return _LINK.search(written) is not None


def _has_unknown_number(written: str, words: str) -> bool:
    """Say whether there is a number to call that resources.json does not have."""
    unknown = _YEARS.sub("", _known_number().sub("", written))
    return any(pattern.search(unknown) for pattern in (_LONG_NUMBER, _TO_CALL)) or bool(_SPELT_NUMBER.search(words))


@cache
def _known_number() -> re.Pattern[str]:
    numbers = sorted(known_numbers(), key=len, reverse=True)
    spaced = "|".join(_BETWEEN.join(number) for number in numbers)
    return re.compile(rf"(?<!\d)(?<!\d[ .-])(?:{spaced})(?![ .-]?\d)")


@cache
def _checks() -> tuple[Rule, ...]:
    table = _table()
    lists = table["lists"]
    return tuple(
        Rule(
            categories=(check["reason"],),
            level="crisis",
            pattern=pattern_of(check["phrases"], lists=lists),
            unless=(context_of("none", check["unless"], lists),),
            after=None,
        )
        for check in table["checks"]
    )


@cache
def _slurs() -> frozenset[str]:
    return frozenset(codecs.decode(word, "rot13") for word in _table()["slurs"])


def _table() -> dict[str, Any]:
    return packaged_json("mh_support.safety", "reply_check.json")
